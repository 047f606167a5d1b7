//! Processes: making them, their identity, rights, limits and namespaces.

pub mod caps;
pub mod child;
pub mod descriptors;
pub mod failed;
pub mod fork;
pub mod heap;
pub mod identity;
pub mod interrupt;
pub mod outer_ns;
mod proc;
pub mod program;
pub mod report;
pub mod rlimit;
pub mod sandbox;
pub mod seccomp;
pub mod signals;
pub mod storage_ns;
pub mod tty_agent;
pub mod userns;

pub use proc::{all, argv0, command_line, cpu_time, is_exiting, is_zombie, parent, sleeps, started};
