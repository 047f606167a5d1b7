//! The user's own terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::report::{CliError, CliResult};
use crate::runtime::protocol::WindowSize;

/// How the terminal was before it was made raw. Static, for a panic puts it right too.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A terminal of which no size is known.
pub const USUAL: WindowSize = WindowSize { rows: 24, cols: 80 };

/// Standard input as a terminal that passes on every key; as it was before when this is dropped.
pub struct Raw(());

impl Raw {
    pub fn enter() -> CliResult<Self> {
        let before = tcgetattr(io::stdin()).map_err(|e| CliError::Terminal(e.into()))?;
        if let Ok(mut saved) = BEFORE.lock() {
            *saved = Some(before);
        }
        let raw = Self(());
        raw.again().map_err(CliError::Terminal)?;
        Ok(raw)
    }

    /// After the process was stopped: the shell has set the terminal for itself meanwhile.
    pub fn again(&self) -> io::Result<()> {
        let mut modes = tcgetattr(io::stdin())?;
        modes.make_raw();
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &modes)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// The terminal's other screen, for a picture that is renewed in place; what was on the usual one
/// is there again when this is dropped.
pub struct Screen(());

/// Whether the other screen is shown.
static OTHER: AtomicBool = AtomicBool::new(false);

impl Screen {
    pub fn enter() -> io::Result<Self> {
        OTHER.store(true, Ordering::Relaxed);
        let screen = Self(());
        // Other screen, no cursor.
        io::stdout().lock().write_all(b"\x1b[?1049h\x1b[?25l")?;
        io::stdout().flush()?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave_screen();
    }
}

fn leave_screen() {
    if OTHER.swap(false, Ordering::Relaxed) {
        // Past the lock, which a panic within a write would hold; a terminal that is gone needs it not.
        let _ = rustix::io::write(io::stdout(), b"\x1b[?25h\x1b[?1049l");
    }
}

/// Undoes what `Raw` and `Screen` did, if they did.
pub fn restore() {
    leave_screen();
    // Whoever holds the lock has panicked within `Raw` itself.
    let before = BEFORE.try_lock().ok().and_then(|mut saved| saved.take());
    if let Some(before) = before {
        // Not once all is written: a terminal that is held up would hold up the end.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Whether a person sits at both ends.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The size of the window, if there is one.
pub fn size() -> Option<WindowSize> {
    let found = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (found.ws_row > 0 && found.ws_col > 0).then_some(WindowSize { rows: found.ws_row, cols: found.ws_col })
}

/// How many columns standard output has; none where it is no terminal.
pub fn width() -> Option<usize> {
    let columns = io::stdout().is_terminal().then(size)??.cols;
    Some(columns.into())
}

/// What the user's terminal is called, for programs in a guest.
pub fn kind() -> Option<String> {
    let kind = std::env::var("TERM").ok()?;
    let good = !kind.is_empty() && kind.len() <= 64 && kind.bytes().all(|b| b.is_ascii_graphic());
    good.then_some(kind)
}
