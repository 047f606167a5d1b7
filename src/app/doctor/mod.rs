//! `nagaya doctor`: whether this host can do what nagaya needs, one line for each part, and the command
//! that fixes what is not right. It changes nothing: what it tries leaves nothing behind.

mod cgroup;
mod check;
mod daemonless;
mod guests;
mod host;
mod ids;
mod kernel;
mod limits;
mod network;
mod programs;
mod storage;
mod users;

pub use host::run;
