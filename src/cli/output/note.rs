//! What is told on standard error and is no failure.

use std::io::{self, Write};

use super::text;

/// Prints a remark that is no error on standard error.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{}\n", text::line(text)).as_bytes());
}
