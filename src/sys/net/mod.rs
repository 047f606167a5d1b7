//! The network: links, nftables, sockets.

pub mod guest_net;
pub mod hardware_address;
pub mod host_resolvers;
pub mod iptables;
pub mod netlink;
#[cfg(test)]
pub(crate) mod netns_fixture;
pub mod nft;
#[cfg(test)]
mod packet_fixture;
pub mod seqpacket;
pub mod service_names;
pub mod sockets;
pub mod ssh;
pub mod sysctl;
pub mod tc;
