//! What is done with real root's rights, on plain data.

pub mod setup;
