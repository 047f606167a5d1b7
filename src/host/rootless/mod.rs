//! Daemonless mode: on a host without a broker, an ordinary user has namespaces of their own, which a
//! process holds.

pub mod cgroup;
pub mod holder;
pub mod owner;
