//! The broker: the only code that runs with the host's rights. Small enough to be read in an hour.

pub mod broker;
pub mod bus;
pub mod interface;
mod private_socket;
mod scope;
pub mod setup;
pub mod spawn;
mod stage;
pub mod systemd;
