//! A guest's network, set from outside before its init starts. Runs in a single-threaded child
//! that stands in the guest's network namespace, shortly before it becomes init: blocking, few
//! system calls, little memory.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnetwork::Ipv4Network;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::net::if_::if_nametoindex;

/// `lo` is the first link of every network namespace.
const LOOPBACK: u32 = 1;

/// What went wrong with a guest's network.
#[derive(Debug, thiserror::Error)]
pub enum GuestNetError {
    #[error("cannot open a route netlink socket in the guest")]
    Open(#[source] io::Error),
    #[error("the guest has no link '{ifname}'")]
    NoLink { ifname: String, source: io::Error },
    #[error("cannot bring up the guest's loopback")]
    Loopback(#[source] io::Error),
    #[error("cannot give {address} to the guest's '{ifname}'")]
    Address { ifname: String, address: Ipv4Network, source: io::Error },
    #[error("cannot bring up the guest's '{ifname}'")]
    Up { ifname: String, source: io::Error },
    #[error("cannot route the guest through {gateway}")]
    Route { gateway: Ipv4Addr, source: io::Error },
    #[error("cannot move the guest's '{ifname}' to another network namespace")]
    Move { ifname: String, source: io::Error },
    #[error("cannot talk to the kernel over route netlink")]
    Exchange(#[source] io::Error),
}

/// Brings up `lo`, gives `address` to `ifname`, brings that up, and makes `gateway` the default
/// route. What is so already stays so.
pub fn configure(ifname: &str, address: Ipv4Network, gateway: Ipv4Addr) -> Result<(), GuestNetError> {
    let index = index_of(ifname)?;
    let requests = [
        (up(LOOPBACK), 0),
        (new_address(index, address), NLM_F_CREATE | NLM_F_REPLACE),
        (up(index), 0),
        (default_route(index, gateway), NLM_F_CREATE | NLM_F_REPLACE),
    ];
    let ifname = || ifname.to_owned();
    send_batch(requests).map_err(|failure| match failure {
        Failure::Refused { request: 0, source } => GuestNetError::Loopback(source),
        Failure::Refused { request: 1, source } => {
            GuestNetError::Address { ifname: ifname(), address, source }
        }
        Failure::Refused { request: 2, source } => GuestNetError::Up { ifname: ifname(), source },
        Failure::Refused { source, .. } => GuestNetError::Route { gateway, source },
        Failure::Broken(error) => error,
    })
}

/// Moves a link from the calling thread's network namespace to `netns`, where it arrives down and
/// without addresses. Its other end does not notice.
pub fn move_link_to_netns(ifname: &str, netns: BorrowedFd<'_>) -> Result<(), GuestNetError> {
    let mut message = LinkMessage::default();
    message.header.index = index_of(ifname)?;
    message.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    send_batch([(RouteNetlinkMessage::SetLink(message), 0)]).map_err(|failure| match failure {
        Failure::Refused { source, .. } => GuestNetError::Move { ifname: ifname.to_owned(), source },
        Failure::Broken(error) => error,
    })
}

fn index_of(ifname: &str) -> Result<u32, GuestNetError> {
    if_nametoindex(ifname)
        .map_err(|errno| GuestNetError::NoLink { ifname: ifname.to_owned(), source: errno.into() })
}

fn up(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

fn new_address(index: u32, address: Ipv4Network) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = address.prefix();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(address.ip().into()),
        AddressAttribute::Address(address.ip().into()),
        AddressAttribute::Broadcast(address.broadcast()),
    ];
    RouteNetlinkMessage::NewAddress(message)
}

/// Its protocol is `static`: systemd-networkd told to keep static configuration knows it by that.
fn default_route(index: u32, gateway: Ipv4Addr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.attributes =
        vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    RouteNetlinkMessage::NewRoute(message)
}

enum Failure {
    /// The kernel refused the request of that number, counted from 0.
    Refused {
        request: usize,
        source: io::Error,
    },
    Broken(GuestNetError),
}

/// Sends all requests in one system call. The kernel works through them in order and reports each
/// that fails; only the last asks for an acknowledgement, so one more call normally reads all
/// there is. After a failed request the later ones are tried all the same; the first is reported.
fn send_batch<const N: usize>(requests: [(RouteNetlinkMessage, u16); N]) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for (n, (request, flags)) in requests.into_iter().enumerate() {
        let mut message = NetlinkMessage::from(request);
        message.header.sequence_number = n as u32;
        message.header.flags = NLM_F_REQUEST | flags;
        if n + 1 == N {
            message.header.flags |= NLM_F_ACK;
        }
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len(), 0);
        message.serialize(&mut bytes[start..]);
    }
    let socket = open().map_err(|error| Failure::Broken(GuestNetError::Open(error)))?;
    let exchange = |error| Failure::Broken(GuestNetError::Exchange(error));
    socket.send(&bytes, 0).map_err(exchange)?;
    let mut first_refusal = None;
    loop {
        let mut buffer = Vec::with_capacity(4096);
        socket.recv(&mut buffer, 0).map_err(exchange)?;
        for outcome in outcomes(&buffer) {
            let (request, refusal) = outcome.map_err(exchange)?;
            if let Some(source) = refusal {
                first_refusal.get_or_insert(Failure::Refused { request, source });
            }
            if request + 1 == N {
                return first_refusal.map_or(Ok(()), Err);
            }
        }
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    // Connected to the kernel, it takes messages from no one else.
    socket.connect(&SocketAddr::new(0, 0))?;
    // A report without a copy of the request that it is about.
    socket.set_cap_ack(true)?;
    Ok(socket)
}

/// The requests that a datagram reports on: their numbers, and why they were refused if they were.
fn outcomes(mut bytes: &[u8]) -> impl Iterator<Item = io::Result<(usize, Option<io::Error>)>> + '_ {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let parse = |bytes: &[u8]| -> io::Result<(usize, (usize, Option<io::Error>))> {
            let length = NetlinkBuffer::new_checked(bytes).map_err(|e| malformed(e.to_string()))?.length();
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
                .map_err(|e| malformed(e.to_string()))?;
            let NetlinkPayload::Error(report) = message.payload else {
                return Err(malformed("an answer that is no acknowledgement".to_owned()));
            };
            let refusal = report.code.map(|_| report.to_io());
            Ok((length as usize, (message.header.sequence_number as usize, refusal)))
        };
        let parsed = parse(bytes);
        bytes = match &parsed {
            Ok((length, _)) => bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(parsed.map(|(_, outcome)| outcome))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns_fixture::{in_new_netns, json, run};

    fn set(address: &str, gateway: &str) -> Result<(), GuestNetError> {
        configure("eth0", address.parse().unwrap(), gateway.parse().unwrap())
    }

    #[test]
    fn all_is_set_and_setting_it_again_changes_nothing() {
        in_new_netns(|| {
            run("ip", "link add eth0 type bridge");
            set("10.9.0.5/20", "10.9.0.1").unwrap();
            let addresses = json("ip", "-j -4 addr show dev eth0");
            let address = &addresses[0]["addr_info"][0];
            assert_eq!(address["local"], "10.9.0.5");
            assert_eq!(address["prefixlen"], 20);
            assert_eq!(address["broadcast"], "10.9.15.255");
            assert_eq!(address["scope"], "global");
            let routes = json("ip", "-j route show default");
            assert_eq!(routes[0]["gateway"], "10.9.0.1");
            assert_eq!(routes[0]["dev"], "eth0");
            assert_eq!(routes[0]["protocol"], "static");
            let lo = json("ip", "-j -4 addr show dev lo");
            assert_eq!(lo[0]["addr_info"][0]["local"], "127.0.0.1");
            let before = run("ip", "-4 addr") + &run("ip", "-4 route");
            set("10.9.0.5/20", "10.9.0.1").unwrap();
            assert_eq!(run("ip", "-4 addr") + &run("ip", "-4 route"), before);
        });
    }

    #[test]
    fn what_fails_is_named() {
        in_new_netns(|| {
            let missing = set("10.9.0.5/20", "10.9.0.1").unwrap_err();
            assert_eq!(missing.to_string(), "the guest has no link 'eth0'");
            run("ip", "link add eth0 type bridge");
            let unreachable = set("10.9.0.5/20", "192.0.2.1").unwrap_err();
            assert!(matches!(unreachable, GuestNetError::Route { .. }), "{unreachable:?}");
            // The wrong gateway took nothing else with it.
            assert_eq!(json("ip", "-j -4 addr show dev eth0")[0]["addr_info"][0]["local"], "10.9.0.5");
            // The kernel has no IPv4 on a link whose MTU is below 68, which only lo's may be.
            run("ip", "link set lo mtu 60");
            let address = "10.9.0.6/20".parse().unwrap();
            let refused = configure("lo", address, "10.9.0.1".parse().unwrap()).unwrap_err();
            assert!(matches!(refused, GuestNetError::Address { .. }), "{refused:?}");
        });
    }

    #[test]
    fn a_short_answer_is_an_error() {
        assert!(outcomes(&[1, 0, 0]).next().unwrap().is_err());
        let mut header = vec![0u8; 16];
        header[0] = 200;
        assert!(outcomes(&header).next().unwrap().is_err());
    }
}
