//! Services of the host that the broker drives: systemd, machined, dnsmasq, lxcfs.

pub mod bus;
pub mod dns;
pub mod lxcfs;
pub mod machined;
pub mod scope;
pub mod systemd;
