//! The note that the firewall may be behind what is stored.

use crate::app::instance::{App, lock};
use crate::sys::error_text;
use crate::sys::fs::lock::Lock;

/// A note that the firewall may be behind what is stored. It stays when this value is dropped, as when a
/// command is killed; the next command then acts on it.
#[must_use]
pub struct Note(Option<Lock>);

impl Note {
    /// Removes the note: the kernel was told all that this command has stored.
    pub fn take_back(mut self) {
        drop(self.0.take());
    }

    /// The note together with what was stored. If storing failed, the kernel has nothing to follow, and the
    /// note is removed.
    pub fn of<T, E>(self, stored: Result<T, E>) -> Result<(Self, T), E> {
        match stored {
            Ok(stored) => Ok((self, stored)),
            Err(e) => {
                self.take_back();
                Err(e)
            }
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.leave();
        }
    }
}

/// Makes the note. It is needed before something is stored that the firewall has to follow, if the
/// firewall's lock is not held all the time or an error does not undo the change; and when nobody knows
/// whether the kernel was told.
pub fn expect(app: &App) -> Note {
    let noted = lock::note_firewall(&app.instance);
    Note(noted.inspect_err(|e| tracing::warn!("{}", error_text(e))).ok())
}
