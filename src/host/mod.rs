//! The broker: the only code that runs with the host's rights. Small enough to be read in an hour.

pub mod broker;
pub mod bus;
pub mod coexist;
pub mod dns;
pub mod grants;
mod guest_processes;
mod hold;
pub mod hostd;
pub mod interface;
pub mod keeper;
mod ledger;
mod lent;
mod limits;
pub mod listener;
pub mod lxcfs;
pub mod machined;
mod polkit;
pub mod private;
pub mod private_cgroup;
mod private_socket;
mod private_stage;
mod quota;
mod scope;
pub mod setup;
pub mod spawn;
mod stage;
pub mod systemd;
