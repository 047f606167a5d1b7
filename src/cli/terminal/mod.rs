//! The user's terminal.

mod screen;

pub use screen::{Screen, USUAL, is_interactive, kind, restore, size, width};
