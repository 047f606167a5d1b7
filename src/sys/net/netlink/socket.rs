//! A connection to the kernel's route netlink. This file has what all verbs use; they stand in the
//! files beside it.

use std::io;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use super::channel::{Channel, Reply, Request};
use super::error::NetlinkError;
use super::link::{Link, found};
use super::messages;

/// How often a list is asked for that changes while it is read.
const TRIES: usize = 8;

/// Requests to the kernel's routing netlink in the network namespace of the thread that opened it.
/// They block, for no longer than the kernel works on them.
pub struct Netlink {
    pub(super) channel: Channel,
}

impl Netlink {
    pub fn open() -> Result<Self, NetlinkError> {
        Channel::open().map(|channel| Self { channel }).map_err(NetlinkError::Open)
    }

    pub(super) fn ask(&self, requests: Vec<Request>) -> Result<Vec<Reply>, NetlinkError> {
        self.channel.exchange(requests).map_err(NetlinkError::Exchange)
    }

    pub(super) fn ask_one(&self, request: Request) -> Result<Reply, NetlinkError> {
        Ok(self.ask(vec![request])?.pop().unwrap_or_else(|| Ok(Vec::new())))
    }

    /// The link of that name; none where there is no such link.
    pub(super) fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        found(name, self.ask_one(Request::on(messages::link_named(name)))?)
    }

    /// Whether there is a link of that name, and it is up.
    pub fn is_up(&self, name: &str) -> Result<bool, NetlinkError> {
        Ok(self.link(name)?.is_some_and(|link| link.up))
    }

    /// All that `message` asks for, in a state that it was in as a whole.
    pub(super) fn list(
        &self,
        what: &'static str,
        message: impl Fn() -> RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut reply = self.ask_one(Request::list(message()))?;
        for _ in 1..TRIES {
            match &reply {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    reply = self.ask_one(Request::list(message()))?;
                }
                _ => break,
            }
        }
        reply.map_err(|source| NetlinkError::List { what, source })
    }

    /// The addresses of the link `index`, or of all links where it is 0, with the prefix lengths of their
    /// networks.
    pub(super) fn addresses(&self, index: u32) -> Result<Vec<IpNetwork>, NetlinkError> {
        let ask = || {
            let mut message = AddressMessage::default();
            message.header.index = index;
            RouteNetlinkMessage::GetAddress(message)
        };
        let found = self.list("addresses", ask)?;
        Ok(found.iter().filter_map(address_of).collect())
    }
}

/// The address that a message is about. On a point-to-point link `Address` is the other end's,
/// `Local` always the host's own, which IPv6 leaves out elsewhere.
fn address_of(message: &RouteNetlinkMessage) -> Option<IpNetwork> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNetwork::new(local.or(address)?, message.header.prefix_len).ok()
}

pub(super) fn is_link_local(address: &IpNetwork) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}
