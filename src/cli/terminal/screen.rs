//! The user's own terminal.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::api::programs::Size;
use crate::sys::terminal;

/// A terminal of which no size is known.
pub const USUAL: Size = Size { rows: 24, columns: 80 };

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
        // Without the lock, which a panic within a write would hold. A failure does not matter: then the
        // terminal is gone.
        let _ = rustix::io::write(io::stdout(), b"\x1b[?25h\x1b[?1049l");
    }
}

/// Undoes what `Screen` and a raw terminal did, if they did.
pub fn restore() {
    leave_screen();
    terminal::restore();
}

/// Whether standard input and output are both a terminal.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The size of the window, if there is one.
pub fn size() -> Option<Size> {
    let found = terminal::size([io::stdout().as_fd(), io::stdin().as_fd()])?;
    Some(Size { rows: found.ws_row, columns: found.ws_col })
}

/// How many columns standard output has; none where it is no terminal.
pub fn width() -> Option<usize> {
    let columns = io::stdout().is_terminal().then(size)??.columns;
    Some(columns.into())
}

/// What the user's terminal is called, for programs in a guest.
pub fn kind() -> Option<String> {
    let kind = std::env::var("TERM").ok()?;
    let good = !kind.is_empty() && kind.len() <= 64 && kind.bytes().all(|b| b.is_ascii_graphic());
    good.then_some(kind)
}
