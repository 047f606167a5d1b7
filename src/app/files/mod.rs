//! Files of containers, whether they run or not: one process works in the guest's tree, another with the caller's files,
//! and a stream is all that is between them.

mod agent;
pub mod receiver;
pub mod repair;
pub mod sender;
mod stopped;

pub use agent::{Work, work};
