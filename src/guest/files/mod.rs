//! Writing nagaya's files into a guest, from inside its namespaces and as its root. A boot does not fail
//! because of them: the console gets a line about what could not be written.

mod links;
mod logins;
mod place;
#[cfg(test)]
mod tests;
mod writer;

pub use place::{Guest, place};
pub use writer::read_regular;
