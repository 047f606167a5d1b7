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

use super::channel::{Request, but, is};
use super::steps::Step;
use super::{Netlink, NetlinkError, messages};
use crate::model::nic::{Nic, ROUTED_GATEWAY4, ROUTED_GATEWAY6};
use crate::sys::net::sysctl;

/// Who made a route or a proxy entry (`proto 110`): a number that <linux/rtnetlink.h> leaves free.
pub const PROTOCOL: RouteProtocol = RouteProtocol::Other(110);

impl Netlink {
    /// Gives the host's end the addresses that the guest knows as its gateways.
    pub fn gateway_steps(&self, nic: &Nic, index: u32) -> Vec<Step> {
        let add = |gateway| {
            let message = RouteNetlinkMessage::NewAddress(messages::address(index, gateway));
            Step::new("give the gateway's address to", "", Request::create(message))
        };
        gateways(nic).map(add).collect()
    }

    /// Whether the host's end has them.
    pub fn is_gateway(&self, nic: &Nic, index: u32) -> Result<bool, NetlinkError> {
        let own = self.addresses(index)?;
        Ok(gateways(nic).all(|gateway| own.contains(&gateway)))
    }

    /// Routes the guest's addresses to the link, which is up, and lets the host answer for them on the
    /// interface by which it reaches the world itself.
    pub fn add_routes(&self, nic: &Nic, name: &str, index: u32) -> Result<(), NetlinkError> {
        nic.addresses().try_for_each(|address| self.add_route(address, name, index))
    }

    /// The same for one of them, which may be routed to this link already.
    pub fn add_route(&self, address: IpAddr, name: &str, index: u32) -> Result<(), NetlinkError> {
        let family = messages::family(address);
        let route = messages::route(index, Some(single(address)), None, PROTOCOL, family);
        if let Err(source) = self.ask_one(Request::create(RouteNetlinkMessage::NewRoute(route)))? {
            let is_there = is(&source, libc::EEXIST) && self.routed_to(index, family)?.contains(&address);
            if !is_there {
                return Err(NetlinkError::Route { name: name.to_owned(), address, source });
            }
        }
        match self.uplink(family)? {
            Some(uplink) => self.add_proxy(uplink, address),
            None => Ok(()),
        }
    }

    /// The guest's addresses that do not lead to the link, or that the host does not answer for.
    pub fn unrouted(&self, nic: &Nic, index: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        let proxies = self.proxies()?;
        let mut unrouted = Vec::new();
        for address in nic.addresses() {
            let family = messages::family(address);
            let answered = self.uplink(family)?.is_none_or(|uplink| proxies.contains(&(uplink, address)));
            if !answered || !self.routed_to(index, family)?.contains(&address) {
                unrouted.push(address);
            }
        }
        Ok(unrouted)
    }

    /// The addresses that are routed to a link as ours.
    fn routed_to(&self, index: u32, family: AddressFamily) -> Result<Vec<IpAddr>, NetlinkError> {
        let ask = || {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.attributes.push(RouteAttribute::Oif(index));
            RouteNetlinkMessage::GetRoute(message)
        };
        let ours = self.list("routes", ask)?.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) if route.header.protocol == PROTOCOL => Some(route),
            _ => None,
        });
        let ours = ours.filter(|route| leaves_by(route) == Some(index));
        Ok(ours.filter_map(|route| destination(&route)).collect())
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

    /// The link that the host reaches the world by, and its MTU.
    pub fn uplink_mtu(&self) -> Result<Option<(String, u32)>, NetlinkError> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let Some(name) = self.uplink(family)?.and_then(|index| if_indextoname(index).ok()) else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            if let Some(link) = self.link(&name)? {
                return Ok(Some((name, link.mtu)));
            }
        }
        Ok(None)
    }

    /// Removes the proxy entries for addresses that are no longer routed to a link of ours, also those of
    /// links that went by themselves.
    pub fn forget_proxies(&self) -> Result<(), NetlinkError> {
        let proxies = self.proxies()?;
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

    /// The proxy entries that we have made: on which link, for which address.
    fn proxies(&self) -> Result<Vec<(u32, IpAddr)>, NetlinkError> {
        let ask = || {
            let mut message = NeighbourMessage::default();
            message.header.flags = NeighbourFlags::Proxy;
            RouteNetlinkMessage::GetNeighbour(message)
        };
        Ok(self.list("neighbours", ask)?.iter().filter_map(our_proxy).collect())
    }

    /// All routes of a family, of all tables.
    pub fn routes(&self, family: AddressFamily) -> Result<Vec<RouteMessage>, NetlinkError> {
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

/// What a guest knows as its gateways, with their prefix lengths on the host's end.
fn gateways(nic: &Nic) -> impl Iterator<Item = IpNetwork> {
    let gateway4 = nic.ipv4.and_then(|_| IpNetwork::new(ROUTED_GATEWAY4.into(), 32).ok());
    let gateway6 = nic.ipv6.and_then(|_| IpNetwork::new(ROUTED_GATEWAY6.into(), 64).ok());
    gateway4.into_iter().chain(gateway6)
}

fn single(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

fn proxy(uplink: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = messages::neighbour(uplink, address);
    message.header.flags = NeighbourFlags::Proxy;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Protocol(PROTOCOL));
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

pub fn leaves_by(route: &RouteMessage) -> Option<u32> {
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

pub fn destination(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::sys::net::guest_net;
    use crate::sys::net::netns_fixture::{
        Netns, attachment, comes_to_ping, in_new_netns, json, names, nic, pings, run,
    };

    /// The interface number `n`, with the addresses .`8 + n` and ::`8 + n` of the host's own network.
    fn routed(n: u8) -> Nic {
        let mut nic = nic("eth0", n);
        nic.kind = crate::model::nic::NicKind::Routed;
        nic.ipv4 = Some(format!("192.0.2.{}/32", 8 + n).parse().unwrap());
        nic.ipv6 = Some(format!("2001:db8::{:x}/128", 8 + n).parse().unwrap());
        nic
    }

    /// A host with a network on `up0`, and a machine of that network, which is also its way out.
    fn host_in_a_network() -> Netns {
        let far = Netns::new();
        run("ip", "link set lo up");
        run("ip", "link add up0 type veth peer name far0");
        run("ip", &format!("link set far0 netns {}", far.path()));
        far.run(|| {
            run("ip", "addr add 192.0.2.1/24 dev far0");
            run("ip", "addr add 2001:db8::1/64 dev far0 nodad");
            run("ip", "link set far0 up");
        });
        run("ip", "addr add 192.0.2.2/24 dev up0");
        run("ip", "addr add 2001:db8::2/64 dev up0 nodad");
        run("ip", "link set up0 up");
        run("ip", "route add default via 192.0.2.1");
        run("ip", "-6 route add default via 2001:db8::1");
        sysctl::enable_forwarding(true).unwrap();
        far
    }

    fn proxies() -> String {
        run("ip", "neigh show proxy") + &run("ip", "-6 neigh show proxy")
    }

    #[test]
    fn a_routed_guest_is_reached_from_the_hosts_own_network() {
        in_new_netns(|| {
            let far = host_in_a_network();
            let netlink = Netlink::open().unwrap();
            let guests = [Netns::new(), Netns::new()];
            for (n, guest) in (1u8..).zip(&guests) {
                let nic = routed(n);
                netlink.attach(&attachment(&nic, &names(n.into()), 0, guest)).unwrap();
                guest.run(|| guest_net::configure(&[nic]).unwrap());
            }
            far.run(|| assert!(comes_to_ping("192.0.2.9") && comes_to_ping("2001:db8::9")));
            guests[0].run(|| {
                assert!(pings("192.0.2.1") && pings("2001:db8::1"));
                // The host, as the gateway and by its own address; the other guest.
                assert!(pings("169.254.0.1") && pings("fe80::1%eth0"));
                assert!(pings("192.0.2.2") && comes_to_ping("192.0.2.10") && comes_to_ping("2001:db8::a"));
            });
            assert!(pings("192.0.2.9") && pings("2001:db8::9"));
            let host_end = json("ip", "-j addr show ng00000001");
            let own: Vec<_> =
                host_end[0]["addr_info"].as_array().unwrap().iter().map(|a| a["local"].clone()).collect();
            assert_eq!(own, ["169.254.0.1", "fe80::1"]);
            let accepts = std::fs::read_to_string("/proc/sys/net/ipv6/conf/ng00000001/accept_ra").unwrap();
            assert_eq!(accepts.trim(), "0");
            netlink.detach("ng00000001", "ig00000001").unwrap();
            assert!(!proxies().contains("192.0.2.9") && !proxies().contains("2001:db8::9"), "{}", proxies());
            assert!(proxies().contains("192.0.2.10") && proxies().contains("2001:db8::a"), "{}", proxies());
            far.run(|| assert!(pings("192.0.2.10") && !pings("192.0.2.9")));
        });
    }

    #[test]
    fn nobody_answers_for_a_guest_that_has_gone_by_itself() {
        in_new_netns(|| {
            let _far = host_in_a_network();
            let netlink = Netlink::open().unwrap();
            let (guest, others) = (Netns::new(), "192.0.2.77");
            run("ip", &format!("neigh add proxy {others} dev up0"));
            netlink.attach(&attachment(&routed(1), &names(1), 0, &guest)).unwrap();
            assert!(proxies().contains("192.0.2.9") && proxies().contains("2001:db8::9"));
            run("ip", "link del ng00000001");
            netlink.detach("ng00000001", "ig00000001").unwrap();
            assert!(!proxies().contains("192.0.2.9") && !proxies().contains("2001:db8::9"), "{}", proxies());
            // What the administrator has answered for stays.
            assert!(proxies().contains(others));
        });
    }

    #[test]
    fn a_routed_guest_sends_from_its_own_addresses_only() {
        in_new_netns(|| {
            let far = host_in_a_network();
            let netlink = Netlink::open().unwrap();
            let (guest, nic) = (Netns::new(), routed(1));
            netlink.attach(&attachment(&nic, &names(1), 0, &guest)).unwrap();
            guest.run(|| {
                guest_net::configure(&[nic]).unwrap();
                run("ip", "addr add 192.0.2.50/32 dev eth0");
                run("ip", "addr add 2001:db8::50/128 dev eth0 nodad");
            });
            let pings_as = |source: &str, target: &str| {
                guest.run(|| {
                    let ping = std::process::Command::new("ping")
                        .args(["-n", "-c1", "-W1", "-I", source, target])
                        .output();
                    ping.unwrap().status.success()
                })
            };
            let comes_to = |source, target| (0..5).any(|_| pings_as(source, target));
            assert!(comes_to("192.0.2.9", "192.0.2.1") && comes_to("2001:db8::9", "2001:db8::1"));
            // Even where the far end and the host would answer.
            run("ip", "route add 192.0.2.50 dev ng00000001");
            run("ip", "-6 route add 2001:db8::50 dev ng00000001");
            far.run(|| {
                run("ip", "route add 192.0.2.50 via 192.0.2.2");
                run("ip", "-6 route add 2001:db8::50 via 2001:db8::2");
            });
            assert!(!pings_as("192.0.2.50", "192.0.2.1") && !pings_as("2001:db8::50", "2001:db8::1"));
            netlink.set_spoof_filter("ng00000001", None).unwrap();
            assert!(comes_to("192.0.2.50", "192.0.2.1") && comes_to("2001:db8::50", "2001:db8::1"));
        });
    }
}
