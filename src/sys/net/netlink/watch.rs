//! Changes of our links by others, as the kernel reports them.
#![allow(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::NetlinkBuffer;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteMessage, RouteProtocol};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::channel::parse;
use super::link::Link;
use super::routed::{self, leaves_by};
use super::{LINK_GROUP, Netlink, NetlinkError};
use crate::model::instance::{is_host_link, is_shaper_link};

/// RTNLGRP_LINK, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV4_NETCONF and
/// _IPV6_NETCONF of linux/rtnetlink.h.
const GROUPS: [u32; 8] = [1, 4, 5, 7, 9, 11, 24, 25];
const NEW_ROUTE: u16 = 24;
const DELETED_ROUTE: u16 = 25;
/// A setting of a link, or of all, below /proc/sys/net.
const NEW_SETTING: u16 = 80;
/// The kernel's datagrams have 32 KiB at most (NLMSG_GOODSIZE).
const DATAGRAM: usize = 64 << 10;
/// How many messages are taken in before somebody else has a turn.
const AT_ONCE: usize = 256;

/// What is compared of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    up: bool,
    mtu: u32,
    master: Option<u32>,
}

/// A link of ours.
struct Known {
    is_bridge: bool,
    /// None before it has been up: whoever makes it has not finished.
    good: Option<State>,
    last: State,
}

/// A socket that hears of changes in the network namespace in which it was opened.
pub struct LinkWatch {
    socket: Socket,
    known: HashMap<u32, Known>,
    /// Numbers of links of which something is otherwise than it was; 0: of the host as a whole.
    suspects: HashSet<u32>,
}

const HOST: u32 = 0;

impl LinkWatch {
    /// Hears of what happens from now on, and knows what is there.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            only_our_routes(&socket)?;
            GROUPS.iter().try_for_each(|group| socket.add_membership(*group))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(NetlinkError::Open)?;
        let mut watch = Self { socket, known: HashMap::new(), suspects: HashSet::new() };
        watch.look_anew()?;
        Ok(watch)
    }

    /// What there is to be waited for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket lives longer than this borrow of its descriptor.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// Reads the events that have come.
    pub fn hear(&mut self) -> Result<(), NetlinkError> {
        for _ in 0..AT_ONCE {
            let mut datagram = Vec::with_capacity(DATAGRAM);
            match self.socket.recv_from(&mut datagram, 0) {
                // Only the kernel has the number 0: other senders are not heard.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok(_) => self.read(&datagram),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // More has happened than the kernel could tell.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.look_anew()?;
                    self.suspects.insert(HOST);
                }
                Err(e) => return Err(NetlinkError::Exchange(e)),
            }
        }
        Ok(())
    }

    /// Whether something of ours is otherwise than it was.
    pub fn is_suspicious(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Forgets the suspicions, because a repair has begun.
    pub fn forget_suspicions(&mut self) {
        self.suspects.clear();
    }

    /// Accepts the links as they are now as good, except those that nothing can pass.
    pub fn accept(&mut self) {
        for (index, known) in &mut self.known {
            let is_port = known.good.is_some_and(|good| good.master.is_some());
            if known.last.up && (!is_port || known.last.master.is_some()) {
                known.good = Some(known.last);
                self.suspects.remove(index);
            }
        }
    }

    fn look_anew(&mut self) -> Result<(), NetlinkError> {
        let links =
            Netlink::open()?.list("links", || RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        self.known.clear();
        links.into_iter().for_each(|message| self.judge(message));
        self.suspects.clear();
        Ok(())
    }

    fn read(&mut self, datagram: &[u8]) {
        if let Some(setting) = setting(datagram) {
            let (index, forwards) = setting;
            if !forwards && (index == ALL_LINKS || self.known.contains_key(&(index as u32))) {
                self.suspects.insert(HOST);
            }
            return;
        }
        let mut rest = datagram;
        while !rest.is_empty() {
            // A message that cannot be parsed is not about our links.
            let Ok((message, behind)) = parse(rest) else { return };
            rest = behind;
            if let netlink_packet_core::NetlinkPayload::InnerMessage(message) = message.payload {
                self.judge(message);
            }
        }
    }

    fn judge(&mut self, message: RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.see(&link),
            RouteNetlinkMessage::DelLink(link) => self.lose(&link),
            RouteNetlinkMessage::NewAddress(address) if self.has_bridge(&address) => {
                self.suspects.insert(address.header.index);
            }
            RouteNetlinkMessage::DelAddress(address) if !is_link_local(&address) => {
                self.suspect(address.header.index);
            }
            RouteNetlinkMessage::DelTrafficFilter(tc)
            | RouteNetlinkMessage::NewTrafficFilter(tc)
            | RouteNetlinkMessage::DelQueueDiscipline(tc) => self.suspect(tc.header.index as u32),
            RouteNetlinkMessage::NewRoute(route) => self.route(&route, false),
            RouteNetlinkMessage::DelRoute(route) => self.route(&route, true),
            _ => {}
        }
    }

    /// Something of a link that was finished has changed.
    fn suspect(&mut self, index: u32) {
        if self.known.get(&index).is_some_and(|known| known.good.is_some()) {
            self.suspects.insert(index);
        }
    }

    fn see(&mut self, message: &LinkMessage) {
        use netlink_packet_route::AddressFamily;
        let index = message.header.index;
        // A bridge tells the same once more in a family of its own.
        if message.header.interface_family != AddressFamily::Unspec {
            return;
        }
        let Some(is_bridge) = is_ours(message) else {
            if self.known.remove(&index).is_some() {
                self.suspects.insert(HOST);
            }
            return;
        };
        let link = Link::of(message);
        let last = State { up: link.up, mtu: link.mtu, master: link.master };
        let known = self.known.entry(index).or_insert(Known { is_bridge, good: None, last });
        known.last = last;
        match known.good {
            None if last.up => known.good = Some(last),
            Some(good) if good != last => {
                self.suspects.insert(index);
            }
            _ => {}
        }
    }

    /// A guest's link goes with the guest. Only we should delete a bridge, and that is rare.
    fn lose(&mut self, message: &LinkMessage) {
        use netlink_packet_route::AddressFamily;
        if message.header.interface_family != AddressFamily::Unspec {
            return;
        }
        self.suspects.remove(&message.header.index);
        if let Some(known) = self.known.remove(&message.header.index)
            && known.is_bridge
        {
            self.suspects.insert(HOST);
        }
    }

    fn has_bridge(&self, address: &AddressMessage) -> bool {
        let known = self.known.get(&address.header.index);
        known.is_some_and(|known| known.is_bridge && known.good.is_some()) && !is_link_local(address)
    }

    /// One of our routes is gone; or the host's default route has changed, on whose interface it has to
    /// answer for our guests.
    fn route(&mut self, route: &RouteMessage, is_gone: bool) {
        if route.header.protocol == routed::PROTOCOL {
            if let Some(index) = leaves_by(route).filter(|_| is_gone) {
                self.suspect(index);
            }
        } else if self.known.values().any(|known| !known.is_bridge && known.last.master.is_none()) {
            self.suspects.insert(HOST);
        }
    }
}

/// Whether it is a bridge, where the link is ours at all.
fn is_ours(message: &LinkMessage) -> Option<bool> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })?;
    let link = Link::of(message);
    if link.group == LINK_GROUP && (is_host_link(name) || is_shaper_link(name)) {
        return Some(false);
    }
    let says_so = link.alias.is_some_and(|alias| alias.starts_with("nagaya: network "));
    (says_so && link.kind == Some(InfoKind::Bridge)).then_some(true)
}

fn is_link_local(message: &AddressMessage) -> bool {
    let is_v6 = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(ip) | AddressAttribute::Local(ip) => ip.is_ipv6(),
        _ => false,
    };
    // A routed guest's gateway is link-local too, on a link that makes itself no such address.
    message.header.scope == AddressScope::Link && message.attributes.iter().any(is_v6)
}

/// Number of the link in a message about all of them (NETCONFA_IFINDEX_ALL).
const ALL_LINKS: i32 = -1;

/// Whether a link forwards, where a message says so: `struct netconfmsg`, and attributes.
fn setting(datagram: &[u8]) -> Option<(i32, bool)> {
    const FAMILY: usize = 4;
    const IFINDEX: u16 = 1;
    const FORWARDING: u16 = 2;
    let message = NetlinkBuffer::new_checked(datagram).ok()?;
    if message.message_type() != NEW_SETTING {
        return None;
    }
    let mut rest = message.payload().get(FAMILY..)?;
    let (mut index, mut forwards) = (None, None);
    while let [a, b, c, d, ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let number = rest.get(4..length)?.try_into().ok().map(i32::from_ne_bytes);
        match u16::from_ne_bytes([*c, *d]) {
            IFINDEX => index = number,
            FORWARDING => forwards = number,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((index?, forwards? != 0))
}

/// Has the kernel leave out all routes but ours and default ones: a router of the Internet's has many,
/// which change all the time.
fn only_our_routes(socket: &Socket) -> io::Result<()> {
    const HEADER: u32 = 16;
    // Offsets in `struct nlmsghdr` and `struct rtmsg`.
    const TYPE: u32 = 4;
    const PREFIX: u32 = HEADER + 1;
    const PROTOCOL: u32 = HEADER + 5;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const IS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // The program reads numbers in network byte order, the message has them in the host's.
    let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    let RouteProtocol::Other(ours) = routed::PROTOCOL else { return Ok(()) };
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let program = [
        step(LOAD_HALF, TYPE, 0, 0),
        step(IS, kind(NEW_ROUTE), 1, 0),
        step(IS, kind(DELETED_ROUTE), 0, 4),
        step(LOAD_BYTE, PROTOCOL, 0, 0),
        step(IS, ours.into(), 2, 0),
        step(LOAD_BYTE, PREFIX, 0, 0),
        step(IS, 0, 0, 1),
        step(RETURN, u32::MAX, 0, 0),
        step(RETURN, 0, 0, 0),
    ];
    let wanted = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads both, which live until it returns, and writes to neither.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const wanted).cast(),
            size_of_val(&wanted) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::model::network::Network;
    use crate::sys::net::netns_fixture::{in_new_netns, run};

    impl LinkWatch {
        /// Whether it becomes suspicious, or ceases to be, once all that has happened was heard.
        fn suspects_after(&mut self, commands: &[&str]) -> bool {
            commands.iter().for_each(|command| {
                let (program, arguments) = command.split_once(' ').unwrap();
                run(program, arguments);
            });
            let end = Instant::now() + Duration::from_millis(100);
            while Instant::now() < end {
                self.hear().unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
            let is_suspicious = self.is_suspicious();
            self.accept();
            self.forget_suspicions();
            is_suspicious
        }
    }

    #[test]
    fn only_what_harms_links_of_ours_is_suspicious() {
        in_new_netns(|| {
            run("ip", "link set lo up");
            // A new namespace begins with what the host has.
            run("sysctl", "-q net.ipv4.ip_forward=1");
            let mut watch = LinkWatch::open().unwrap();
            let mut check = |is_harm, commands: &[&str]| {
                assert_eq!(watch.suspects_after(commands), is_harm, "{commands:?}");
            };
            check(
                false,
                &[
                    "ip link add other0 type bridge",
                    "ip link set other0 up",
                    "ip address add 192.0.2.1/24 dev other0",
                    "ip route add 198.51.100.0/24 via 192.0.2.9",
                    "ip link del other0",
                    "sysctl -q net.ipv4.conf.lo.forwarding=0",
                ],
            );
            // As a network and a container are made, and a second container.
            let lan = Network::new("lan", "test0", Some("10.9.0.1/20".parse().unwrap()), None);
            Netlink::open().unwrap().ensure_bridge(&lan, "nagaya: network lan of test").unwrap();
            let make = |n: u32| {
                let link = format!("ng0000000{n}");
                run("ip", &format!("link add {link} group {LINK_GROUP} type veth peer name peer{n}"));
                run("ip", &format!("link set {link} master test0"));
                run("tc", &format!("qdisc add dev {link} clsact"));
                run("ip", &format!("link set {link} up"));
                run("ip", &format!("link set peer{n} up"));
            };
            make(1);
            make(2);
            check(false, &[]);
            check(false, &["ip link set peer1 down", "ip link set peer1 up", "ip link set peer1 mtu 1400"]);
            for harm in [
                "ip link set ng00000001 down",
                "ip link set ng00000001 up",
                "ip link set ng00000001 nomaster",
                "ip link set ng00000001 master test0",
                "ip link set ng00000001 mtu 1300",
                "ip link set ng00000001 mtu 1500",
                "ip address add 192.0.2.7/24 dev test0",
                "ip address del 10.9.0.1/20 dev test0",
                "tc qdisc del dev ng00000001 clsact",
                "sysctl -q net.ipv4.conf.test0.forwarding=0",
                "sysctl -q net.ipv4.ip_forward=0",
                "sysctl -q net.ipv4.ip_forward=1",
            ] {
                // A change that is undone does no harm.
                let is_mended = [" up", " master test0", "forward=1"].iter().any(|end| harm.ends_with(end));
                check(!is_mended, &[harm]);
            }
            // What was down has lost its routes, though it is up again; and what goes with its guest.
            check(true, &["ip link set ng00000001 down", "ip link set ng00000001 up"]);
            check(false, &["ip link set ng00000001 down", "ip link del ng00000001"]);
            check(false, &["ip link del peer2"]);
            check(true, &["ip link del test0"]);
            // One without a bridge.
            run("ip", &format!("link add ng00000003 group {LINK_GROUP} type veth peer name peer3"));
            run("ip", "link set ng00000003 up");
            run("ip", "link set peer3 up");
            check(
                false,
                &[
                    "ip route add 192.0.2.77 dev ng00000003 proto 110",
                    "ip route add 192.0.2.78 dev ng00000003",
                    "ip route del 192.0.2.78 dev ng00000003",
                ],
            );
            check(true, &["ip route del 192.0.2.77 dev ng00000003"]);
            check(true, &["ip route add default dev peer3"]);
        });
    }
}
