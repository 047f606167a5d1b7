//! Snapshots, copies, and what else changes what a container stands on.

pub mod copy;
pub mod diff;
pub mod differences;
pub mod hook;
pub mod layering;
pub mod list;
pub mod optimize;
pub mod overwrite;
pub mod publish;
pub mod rebuild;
pub mod restore;
mod running;
pub mod schedule;
pub mod snapshot;
