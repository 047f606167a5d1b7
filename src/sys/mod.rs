//! One file for each facility of the kernel or the host.

pub mod erase;
pub mod forked;
pub mod passwd;
pub mod probe;
pub mod subid;
