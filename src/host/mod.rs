//! The broker: the only code that runs with the host's rights. Small enough to be read in an hour.

pub mod broker;
pub mod grants;
mod hold;
pub mod hostd;
pub mod interface;
mod ledger;
mod lent;
pub mod listener;
mod polkit;
mod private_socket;
pub mod setup;
pub mod spawn;
mod stage;
