//! What is printed: tables, JSON, progress, colours.

mod colour;
mod note;
pub mod pending;
mod print;
pub mod progress;
pub mod table;
pub mod text;
pub mod time;

pub use colour::{Colour, coloured};
pub use note::note;
pub use print::{Format, FormatArgs, RowsArgs, RowsFormat, print, print_json, print_lines, print_rows};
