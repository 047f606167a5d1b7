//! One request of another program, as a process of its own.

mod process;

pub use process::{Mode, run};
