//! Completion. The shell's script runs this same program with a variable set and the words so far as
//! arguments; the program prints what may come next. It makes and begins nothing for that.

mod answer;
mod bash;
mod places;
#[cfg(test)]
mod tests;
mod values;

pub use answer::{answer, scripts};
