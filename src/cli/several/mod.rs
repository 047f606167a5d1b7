//! Verbs that act on several containers or owners at once.

pub mod child;
pub mod exec;
pub mod owners;
pub mod share;
