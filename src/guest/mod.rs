//! What differs between guests: the tools that a tree has, and the files that they read.

pub mod files;
pub mod tools;
