//! Terminals of users: one that passes on every key, and the size of its window.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal that was made raw, and how it was before. Static, for a panic puts it right too.
static BEFORE: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// A terminal that passes on every key; as it was before when this is dropped. A process has one.
pub struct Raw<'a>(BorrowedFd<'a>);

impl<'a> Raw<'a> {
    pub fn enter(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = (terminal.try_clone_to_owned()?, tcgetattr(terminal)?);
        if let Ok(mut saved) = BEFORE.lock() {
            *saved = Some(before);
        }
        let raw = Self(terminal);
        raw.again()?;
        Ok(raw)
    }

    /// After the process was stopped: the shell has set the terminal for itself meanwhile.
    pub fn again(&self) -> io::Result<()> {
        let mut modes = tcgetattr(self.0)?;
        modes.make_raw();
        Ok(tcsetattr(self.0, OptionalActions::Now, &modes)?)
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        restore();
    }
}

/// Undoes what `Raw` did, if it did.
pub fn restore() {
    // Whoever holds the lock has panicked within `Raw` itself.
    let before = BEFORE.try_lock().ok().and_then(|mut saved| saved.take());
    if let Some((terminal, before)) = before {
        // Not after all output is written: a terminal that is held up would hold up the end.
        let _ = tcsetattr(terminal, OptionalActions::Now, &before);
    }
}

/// Rows and columns of the first of these that is a terminal with a window.
pub fn size<'a>(of: impl IntoIterator<Item = BorrowedFd<'a>>) -> Option<Winsize> {
    let found = of.into_iter().find_map(|fd| tcgetwinsize(fd.as_fd()).ok())?;
    // A window's pixels are none of a guest's business.
    let size = Winsize { ws_xpixel: 0, ws_ypixel: 0, ..found };
    (size.ws_row > 0 && size.ws_col > 0).then_some(size)
}
