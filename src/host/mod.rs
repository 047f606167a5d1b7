//! The broker: the only code that runs with the host's rights. Small enough to be read in an hour.

pub mod broker;
pub mod bus;
mod guest_processes;
pub mod interface;
pub mod lxcfs;
pub mod machined;
mod private_socket;
mod scope;
pub mod setup;
pub mod spawn;
mod stage;
pub mod systemd;
