//! The kernel's table of neighbours.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;

use super::channel::{Request, but};
use super::{Netlink, NetlinkError, messages};

impl Netlink {
    /// Has the host ask anew who is at these addresses on the link `index`, called `name`. A guest's
    /// address may have been another's, with another Ethernet address, which the kernel would go on
    /// believing for up to a minute.
    pub fn forget_neighbours(
        &self,
        name: &str,
        index: u32,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> Result<(), NetlinkError> {
        let forget = |address| RouteNetlinkMessage::DelNeighbour(messages::neighbour(index, address));
        for reply in self.ask(addresses.map(|address| Request::on(forget(address))).collect())? {
            // Nothing is believed; or there is no IPv6.
            but(reply, &[libc::ENOENT, libc::EAFNOSUPPORT]).map_err(|source| NetlinkError::Configure {
                name: name.to_owned(),
                what: "forget former neighbours on",
                source,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, json, run};

    #[test]
    fn only_those_are_forgotten_that_were_named() {
        in_new_netns(|| {
            run("ip", "link add test0 type bridge");
            run("ip", "link set test0 up");
            for address in ["10.9.0.5", "10.9.0.6", "fd00:9::5"] {
                run("ip", &format!("neigh add {address} lladdr 02:00:00:00:00:05 dev test0 nud reachable"));
            }
            let index = nix::net::if_::if_nametoindex("test0").unwrap();
            let netlink = Netlink::open().unwrap();
            for _ in 0..2 {
                let addresses = ["10.9.0.5", "fd00:9::5"].map(|ip| ip.parse().unwrap());
                netlink.forget_neighbours("test0", index, addresses.into_iter()).unwrap();
                let left = json("ip", "-j neigh show dev test0");
                let left: Vec<_> =
                    left.as_array().unwrap().iter().map(|entry| entry["dst"].clone()).collect();
                assert_eq!(left, ["10.9.0.6"]);
            }
        });
    }
}
