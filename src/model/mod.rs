//! Plain data and its rules. Nothing here does I/O, reads a clock or looks at the environment.

pub mod container;
pub mod ids;
pub mod instance;
pub mod name;
pub mod network;
pub mod subid;
pub mod template;
