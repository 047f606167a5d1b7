//! Writing nagaya's files into a guest, from inside its namespaces and as its root. None of them is
//! worth a boot: what cannot be written is told at the console.

mod logins;
mod place;
mod writer;

pub use place::place;
pub use writer::read_regular;

#[cfg(test)]
mod tests;
