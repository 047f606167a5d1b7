//! Links, addresses and routes of the host, by route netlink.

mod bridge;
pub mod channel;
mod error;
mod link;
pub mod messages;
mod neighbours;
mod port;
mod routed;
mod socket;
mod steps;
mod subnets;
mod watch;

pub use error::NetlinkError;
pub use port::{Attachment, Fault, LINK_GROUP, Port};
pub use socket::Netlink;
pub use watch::LinkWatch;
