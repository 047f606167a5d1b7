//! Model to text: rulesets and guests' files. Nothing here does I/O.

pub mod dnsmasq;
pub mod guest_files;
pub mod iptables;
pub mod nft;
pub mod spoof;
