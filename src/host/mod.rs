//! The broker: the only code that runs with the host's rights. Small enough to be read in an hour.

pub mod broker;
pub mod interface;
mod limits;
mod private_socket;
pub mod setup;
pub mod spawn;
mod stage;
