//! What the host's addresses and routes already cover.

use std::collections::BTreeSet;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use netlink_packet_route::AddressFamily;

use super::routed::{destination, leaves_by};
use super::{Netlink, NetlinkError};

/// A route with a shorter prefix is a default route in pieces (OpenVPN's `redirect-gateway def1`
/// adds 0.0.0.0/1 and 128.0.0.0/1, and ::/1 or 2000::/3 for IPv6), for no private block is larger than
/// 10.0.0.0/8 and fc00::/7.
const SHORTEST_SUBNET4: u8 = 8;
const SHORTEST_SUBNET6: u8 = 7;

impl Netlink {
    /// The IPv4 subnets that the host's addresses and routes, of all tables, speak of. Default
    /// routes are left out, also those that VPN clients write in two halves. What is routed
    /// nowhere (blackhole, unreachable) counts as used too: somebody decided about it.
    pub fn used_subnets(&self) -> Result<Vec<Ipv4Network>, NetlinkError> {
        self.used4(None)
    }

    /// The same without what one link, which need not exist, has itself.
    pub fn used_subnets_but(&self, link: &str) -> Result<Vec<Ipv4Network>, NetlinkError> {
        self.used4(self.link(link)?.map(|link| link.index))
    }

    /// The IPv6 subnets, likewise. Link-local and multicast ones, which every link has, are left out.
    pub fn used_subnets6(&self) -> Result<Vec<Ipv6Network>, NetlinkError> {
        self.used6(None)
    }

    /// The same without what one link, which need not exist, has itself.
    pub fn used_subnets6_but(&self, link: &str) -> Result<Vec<Ipv6Network>, NetlinkError> {
        self.used6(self.link(link)?.map(|link| link.index))
    }

    fn used4(&self, own: Option<u32>) -> Result<Vec<Ipv4Network>, NetlinkError> {
        let used = self.used_beside(own, AddressFamily::Inet)?.into_iter().filter_map(|net| match net {
            IpNetwork::V4(net) => Ipv4Network::new(net.network(), net.prefix()).ok(),
            IpNetwork::V6(_) => None,
        });
        let used: BTreeSet<Ipv4Network> = used.collect();
        Ok(used.into_iter().filter(|net| net.prefix() >= SHORTEST_SUBNET4).collect())
    }

    fn used6(&self, own: Option<u32>) -> Result<Vec<Ipv6Network>, NetlinkError> {
        let used = self.used_beside(own, AddressFamily::Inet6)?.into_iter().filter_map(|net| match net {
            IpNetwork::V4(_) => None,
            IpNetwork::V6(net) => Ipv6Network::new(net.network(), net.prefix()).ok(),
        });
        let of_every_link = |net: &Ipv6Network| net.ip().is_unicast_link_local() || net.ip().is_multicast();
        let used: BTreeSet<Ipv6Network> = used.filter(|net| !of_every_link(net)).collect();
        Ok(used.into_iter().filter(|net| net.prefix() >= SHORTEST_SUBNET6).collect())
    }

    /// Addresses with their prefix lengths, and destinations of the family's routes.
    fn used_beside(&self, own: Option<u32>, family: AddressFamily) -> Result<Vec<IpNetwork>, NetlinkError> {
        let mut used = self.addresses(0)?;
        if let Some(index) = own {
            let of_own = self.addresses(index)?;
            used.retain(|address| !of_own.contains(address));
        }
        let routes = self.routes(family)?;
        let others = routes.iter().filter(|route| own.is_none() || leaves_by(route) != own);
        used.extend(others.filter_map(|route| {
            IpNetwork::new(destination(route)?, route.header.destination_prefix_length).ok()
        }));
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, run};

    #[test]
    fn addresses_and_routes_of_all_tables_are_seen() {
        in_new_netns(|| {
            run("ip", "link set lo up");
            run("ip", "link add up0 type bridge");
            run("ip", "addr add 10.20.0.5/16 dev up0");
            run("ip", "link add down0 type bridge");
            run("ip", "addr add 172.20.1.1/24 dev down0");
            run("ip", "link set up0 up");
            run("ip", "route add default via 10.20.0.1");
            run("ip", "route add 192.168.7.0/24 via 10.20.0.1");
            run("ip", "route add 10.99.0.0/20 via 10.20.0.1 table 77");
            run("ip", "route add 0.0.0.0/1 via 10.20.0.1");
            run("ip", "route add blackhole 10.128.0.0/9");
            let used = Netlink::open().unwrap().used_subnets().unwrap();
            let used: Vec<String> = used.iter().map(Ipv4Network::to_string).collect();
            for net in ["10.20.0.0/16", "172.20.1.0/24", "192.168.7.0/24", "10.99.0.0/20", "10.128.0.0/9"] {
                assert!(used.iter().any(|found| found == net), "{net} in {used:?}");
            }
            assert!(!used.iter().any(|found| found.starts_with("0.0.0.0/")), "{used:?}");
        });
    }

    #[test]
    fn of_ipv6_too_but_what_every_link_has() {
        in_new_netns(|| {
            run("ip", "link set lo up");
            for (link, address) in [("up0", "fd12:1::5/64"), ("own0", "fd12:2::1/64")] {
                run("ip", &format!("link add {link} type bridge"));
                run("ip", &format!("addr add {address} dev {link} nodad"));
                run("ip", &format!("link set {link} up"));
            }
            run("ip", "link add down0 type bridge");
            run("ip", "addr add fd12:3::1/48 dev down0 nodad");
            run("ip", "-6 route add default via fd12:1::1");
            run("ip", "-6 route add 2001:db8:7::/48 via fd12:1::1 table 77");
            run("ip", "-6 route add ::/1 via fd12:1::1");
            run("ip", "-6 route add unreachable fc00::/7");
            let netlink = Netlink::open().unwrap();
            let texts = |used: Vec<Ipv6Network>| used.iter().map(Ipv6Network::to_string).collect::<Vec<_>>();
            let used = texts(netlink.used_subnets6().unwrap());
            for net in ["fd12:1::/64", "fd12:2::/64", "fd12:3::/48", "2001:db8:7::/48", "fc00::/7"] {
                assert!(used.iter().any(|found| found == net), "{net} in {used:?}");
            }
            for prefix in ["fe80:", "ff00:", "::/"] {
                assert!(!used.iter().any(|found| found.starts_with(prefix)), "{prefix} in {used:?}");
            }
            let beside = texts(netlink.used_subnets6_but("own0").unwrap());
            assert!(beside.iter().any(|net| net == "fd12:1::/64"), "{beside:?}");
            assert!(!beside.iter().any(|net| net.starts_with("fd12:2:")), "{beside:?}");
            assert_eq!(texts(netlink.used_subnets6_but("none0").unwrap()), used);
        });
    }
}
