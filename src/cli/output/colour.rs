//! Colours on a terminal.

use std::io::IsTerminal;

/// A colour of the terminal's palette, as SGR numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
}

impl Colour {
    pub fn paint(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self as u8)
    }
}

/// Whether `stream` takes colours: it is a terminal that can, and `NO_COLOR` is not set (no-color.org).
pub fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_some_and(|v| v != "dumb")
}
