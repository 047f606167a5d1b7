//! Plain data and its rules. Nothing here does I/O, reads a clock or looks at the environment.

pub mod container;
pub mod ids;
pub mod instance;
pub mod manifest;
pub mod name;
pub mod network;
pub mod suggest;
pub mod template;
pub mod words;
