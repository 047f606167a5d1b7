//! One file per kernel or host facility.

pub mod guest_net;
pub mod netlink;
#[cfg(test)]
mod netns_fixture;
pub mod nft;
pub mod sysctl;
