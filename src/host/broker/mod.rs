//! The broker: the only code that runs as the host's root. Small enough to be read in an hour.

pub mod authorised;
pub mod caller;
pub mod claims;
pub mod coexist;
pub mod container_lock;
pub mod disk_quota;
pub mod firewall;
pub mod forwarding;
pub mod guest_processes;
pub mod host1;
pub mod hot_plug;
pub mod interface;
pub mod limits;
pub mod listener;
pub mod network;
pub mod pool;
pub mod quota;
pub mod rests;
pub mod serve;
pub mod spawn;
pub mod workers;
