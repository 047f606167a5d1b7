//! Interfaces without a bridge: single addresses, each routed to a link of its own.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_indextoname;

use super::channel::Request;
use super::port::Step;
use super::{Netlink, NetlinkError, but, is, messages};
use crate::model::nic::{Nic, ROUTED_GATEWAY4, ROUTED_GATEWAY6};
use crate::sys::sysctl;

/// Who made a route or a proxy entry (`proto 110`): a number that <linux/rtnetlink.h> leaves free.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(110);

impl Netlink {
    /// Gives the host's end the addresses that the guest knows as its gateways.
    pub(super) fn gateway_steps(&self, nic: &Nic, index: u32) -> Vec<Step> {
        let gateway4 = nic.ipv4.and_then(|_| IpNetwork::new(ROUTED_GATEWAY4.into(), 32).ok());
        let gateway6 = nic.ipv6.and_then(|_| IpNetwork::new(ROUTED_GATEWAY6.into(), 64).ok());
        let add = |gateway| {
            let message = RouteNetlinkMessage::NewAddress(messages::address(index, gateway));
            Step::new("give the gateway's address to", "", Request::create(message))
        };
        gateway4.into_iter().chain(gateway6).map(add).collect()
    }

    /// Routes the guest's addresses to the link, which is up, and lets the host answer for them on the
    /// interface by which it reaches the world itself.
    pub(super) fn add_routes(&self, nic: &Nic, name: &str, index: u32) -> Result<(), NetlinkError> {
        for address in nic.addresses() {
            let route =
                messages::route(index, Some(single(address)), None, PROTOCOL, messages::family(address));
            let made = self.ask_one(Request::create(RouteNetlinkMessage::NewRoute(route)))?;
            made.map_err(|source| NetlinkError::Route { name: name.to_owned(), address, source })?;
            if let Some(uplink) = self.uplink(messages::family(address))? {
                self.add_proxy(uplink, address)?;
            }
        }
        Ok(())
    }

    fn add_proxy(&self, uplink: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let name = if_indextoname(uplink).unwrap_or_default();
        let link = || name.to_string_lossy().into_owned();
        if address.is_ipv6() {
            sysctl::enable_proxy_ndp(&link())
                .map_err(|source| NetlinkError::Settings { link: link(), source })?;
        }
        let message = RouteNetlinkMessage::NewNeighbour(proxy(uplink, address));
        but(self.ask_one(Request::put(message))?, &[libc::EEXIST]).map_err(|source| NetlinkError::Configure {
            name: link(),
            what: "answer for the guest on",
            source,
        })
    }

    /// Index of the link that the family's default route leaves by, the one preferred if there are
    /// several.
    fn uplink(&self, family: AddressFamily) -> Result<Option<u32>, NetlinkError> {
        let routes = self.routes(family)?;
        let defaults = routes.iter().filter(|route| {
            route.header.destination_prefix_length == 0
                && route.header.table == RouteHeader::RT_TABLE_MAIN
                && route.header.kind == RouteType::Unicast
        });
        let best = defaults.filter_map(|route| Some((priority(route), leaves_by(route)?))).min();
        Ok(best.map(|(_, index)| index))
    }

    /// Takes back the answers for addresses that are no longer routed to a link of ours, also those of
    /// links that went by themselves.
    pub(super) fn forget_proxies(&self) -> Result<(), NetlinkError> {
        let ask = || {
            let mut message = NeighbourMessage::default();
            message.header.flags = NeighbourFlags::Proxy;
            RouteNetlinkMessage::GetNeighbour(message)
        };
        let proxies: Vec<_> = self.list("neighbours", ask)?.iter().filter_map(our_proxy).collect();
        if proxies.is_empty() {
            return Ok(());
        }
        let mut routed = HashSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let routes = self.routes(family)?;
            let ours = routes.iter().filter(|route| route.header.protocol == PROTOCOL);
            routed.extend(ours.filter_map(destination));
        }
        let stale: Vec<_> = proxies.into_iter().filter(|(_, address)| !routed.contains(address)).collect();
        let forget = |(uplink, address): &(u32, IpAddr)| {
            Request::on(RouteNetlinkMessage::DelNeighbour(proxy(*uplink, *address)))
        };
        for reply in self.ask(stale.iter().map(forget).collect())? {
            // Another command may have been quicker.
            if let Err(source) = reply
                && !is(&source, libc::ENOENT)
            {
                let name = stale.first().map(|(uplink, _)| format!("number {uplink}")).unwrap_or_default();
                return Err(NetlinkError::Configure {
                    name,
                    what: "answer no longer for a guest on",
                    source,
                });
            }
        }
        Ok(())
    }

    /// All routes of a family, of all tables.
    pub(super) fn routes(&self, family: AddressFamily) -> Result<Vec<RouteMessage>, NetlinkError> {
        let ask = || {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            RouteNetlinkMessage::GetRoute(message)
        };
        let routes = self.list("routes", ask)?.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        Ok(routes.collect())
    }
}

fn single(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

fn proxy(uplink: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = messages::family(address);
    message.header.ifindex = uplink;
    message.header.flags = NeighbourFlags::Proxy;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(match address {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }),
        NeighbourAttribute::Protocol(PROTOCOL),
    ];
    message
}

/// Where the host answers for which address, if that was our doing.
fn our_proxy(message: &RouteNetlinkMessage) -> Option<(u32, IpAddr)> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    if !message.attributes.contains(&NeighbourAttribute::Protocol(PROTOCOL)) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    Some((message.header.ifindex, address))
}

pub(super) fn leaves_by(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn priority(route: &RouteMessage) -> u32 {
    let own = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    own.unwrap_or(0)
}

pub(super) fn destination(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}
