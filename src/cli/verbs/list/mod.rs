//! `list`: its rows, columns and filters.

mod columns;
mod filter;
mod own;
mod owners;
mod verb;

pub use columns::NAMES as COLUMNS;
pub use filter::{is_pattern, pattern};
#[cfg(test)]
pub use verb::tests;
pub use verb::{ListArgs, run};
