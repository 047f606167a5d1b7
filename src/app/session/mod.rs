//! What passes between a user's descriptors and a guest: programs with their streams or a terminal,
//! consoles and what they have printed.

pub mod console;
pub mod log;
pub mod program;
mod relay;
mod streams;
