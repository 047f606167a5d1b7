//! What the host's addresses and routes already cover.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use ipnetwork::Ipv4Network;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use super::{Netlink, NetlinkError, into_io};

/// A route with a shorter prefix is a default route in pieces (OpenVPN's `redirect-gateway def1`
/// adds 0.0.0.0/1 and 128.0.0.0/1), for no private block is larger than 10.0.0.0/8.
const SHORTEST_SUBNET: u8 = 8;

impl Netlink {
    /// The IPv4 subnets that the host's addresses and routes, of all tables, speak of. Default
    /// routes are left out, also those that VPN clients write in two halves. What is routed
    /// nowhere (blackhole, unreachable) counts as used too: somebody decided about it.
    pub async fn used_subnets(&self) -> Result<Vec<Ipv4Network>, NetlinkError> {
        self.subnets_beside(None).await
    }

    /// The same without what one link, which need not exist, has itself.
    pub async fn used_subnets_but(&self, link: &str) -> Result<Vec<Ipv4Network>, NetlinkError> {
        let own = self.link(link).await?.map(|link| link.index);
        self.subnets_beside(own).await
    }

    async fn subnets_beside(&self, own: Option<u32>) -> Result<Vec<Ipv4Network>, NetlinkError> {
        let mut addresses = self.ipv4_addresses(0).await?;
        if let Some(index) = own {
            let of_own = self.ipv4_addresses(index).await?;
            addresses.retain(|address| !of_own.contains(address));
        }
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let routes: Vec<RouteMessage> = self
            .handle
            .route()
            .get(message)
            .execute()
            .try_collect()
            .await
            .map_err(|error| NetlinkError::List { what: "routes", source: into_io(error) })?;
        let others = routes.iter().filter(|route| own.is_none() || leaves_by(route) != own);
        let of_addresses = addresses.iter().filter_map(|a| Ipv4Network::new(a.network(), a.prefix()).ok());
        let subnets: BTreeSet<Ipv4Network> = of_addresses.chain(others.filter_map(destination)).collect();
        Ok(subnets.into_iter().filter(|net| net.prefix() >= SHORTEST_SUBNET).collect())
    }
}

fn leaves_by(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn destination(route: &RouteMessage) -> Option<Ipv4Network> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => {
            Ipv4Network::new(*address, route.header.destination_prefix_length).ok()
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns_fixture::{block_on, in_new_netns, run};

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
            let used = block_on(async { Netlink::open().unwrap().used_subnets().await.unwrap() });
            let used: Vec<String> = used.iter().map(Ipv4Network::to_string).collect();
            for net in ["10.20.0.0/16", "172.20.1.0/24", "192.168.7.0/24", "10.99.0.0/20", "10.128.0.0/9"] {
                assert!(used.iter().any(|found| found == net), "{net} in {used:?}");
            }
            assert!(!used.iter().any(|found| found.starts_with("0.0.0.0/")), "{used:?}");
        });
    }
}
