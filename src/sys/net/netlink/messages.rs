//! What is said to the kernel about links, addresses and routes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::LinkUnspec;

pub fn link_named(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    RouteNetlinkMessage::GetLink(message)
}

pub fn link_of_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

pub fn delete_link(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelLink(link_of_index(index))
}

pub fn bring_up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message
}

pub fn up(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(index).up().build())
}

pub fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// `net` is an address with the prefix length of its network. An IPv6 address is used at once:
/// without duplicate address detection, for it was allotted to nobody else.
pub fn address(index: u32, net: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.ip());
    message.header.prefix_len = net.prefix();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(net.ip()), AddressAttribute::Address(net.ip())];
    match net {
        IpNetwork::V4(net) if net.prefix() < 31 => {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNetwork::V4(_) => {}
        IpNetwork::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
    }
    // Never a source of packets that leave by another link.
    if matches!(net.ip(), IpAddr::V4(ip) if ip.is_link_local()) {
        message.header.scope = AddressScope::Link;
    }
    message
}

/// A route over link `index`: to `to`, or the default one; through `gateway`, or to neighbours.
pub fn route(
    index: u32,
    to: Option<IpNetwork>,
    gateway: Option<IpAddr>,
    protocol: RouteProtocol,
    family: AddressFamily,
) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = protocol;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    if let Some(to) = to {
        message.header.destination_prefix_length = to.prefix();
        message.attributes.push(RouteAttribute::Destination(route_address(to.ip())));
    }
    match gateway {
        Some(gateway) => message.attributes.push(RouteAttribute::Gateway(route_address(gateway))),
        None if family == AddressFamily::Inet => message.header.scope = RouteScope::Link,
        None => {}
    }
    message
}

/// Who is at `address` on link `index`.
pub fn neighbour(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(match address {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    })];
    message
}

pub fn route_address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}
