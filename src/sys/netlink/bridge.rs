//! The bridge of a network.

use std::fs::File;
use std::io::Read;

use futures_util::TryStreamExt;
use ipnetwork::Ipv4Network;
use netlink_packet_route::link::{BridgeStpState, InfoKind, LinkAttribute, LinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::{Link, Netlink, NetlinkError, into_io, is};
use crate::model::lan::Network;
use crate::model::mac::Mac;
use crate::sys::sysctl;

impl Netlink {
    /// Sees to it that the network's bridge exists, has the network's address and is up; returns
    /// its index. Two round trips when it is so already. An existing link of that name that is no
    /// bridge, or has an address of another subnet, is refused and left alone.
    pub async fn ensure_bridge(&self, network: &Network) -> Result<u32, NetlinkError> {
        let name = network.bridge.as_str();
        check_name(name)?;
        let (link, addresses) = match self.our_bridge(network).await? {
            Some(found) => found,
            None => {
                self.create_bridge(name).await?;
                let made = self.our_bridge(network).await?;
                made.ok_or_else(|| NetlinkError::BridgeVanished { bridge: name.to_owned() })?
            }
        };
        let addressed = addresses.contains(&network.ipv4);
        if !(addressed && link.up) {
            self.finish_bridge(network, &link, addressed).await?;
        }
        Ok(link.index)
    }

    /// Deletes the network's bridge unless it still has ports. No such bridge is fine.
    pub async fn delete_bridge(&self, network: &Network) -> Result<(), NetlinkError> {
        let name = network.bridge.as_str();
        check_name(name)?;
        let Some((link, _)) = self.our_bridge(network).await? else {
            return Ok(());
        };
        let ports = self.ports(link.index).await?;
        if ports > 0 {
            return Err(NetlinkError::BridgeInUse { bridge: name.to_owned(), ports });
        }
        self.delete_index(name, link.index).await?;
        tracing::debug!(bridge = name, "bridge deleted");
        Ok(())
    }

    /// The first IPv4 address of a bridge; none where there is no such bridge.
    pub async fn bridge_address(&self, name: &str) -> Result<Option<Ipv4Network>, NetlinkError> {
        check_name(name)?;
        match self.link(name).await? {
            Some(link) if link.kind == Some(InfoKind::Bridge) => {
                Ok(self.ipv4_addresses(link.index).await?.first().copied())
            }
            _ => Ok(None),
        }
    }

    /// The network's bridge with its IPv4 addresses, none of which is foreign.
    async fn our_bridge(&self, network: &Network) -> Result<Option<(Link, Vec<Ipv4Network>)>, NetlinkError> {
        let Some(link) = self.link(&network.bridge).await? else {
            return Ok(None);
        };
        if link.kind != Some(InfoKind::Bridge) {
            return Err(NetlinkError::NotABridge(network.bridge.clone()));
        }
        let addresses = self.ipv4_addresses(link.index).await?;
        let wanted = network.ipv4;
        let foreign = |address: &&Ipv4Network| {
            (address.network(), address.prefix()) != (wanted.network(), wanted.prefix())
        };
        match addresses.iter().find(foreign) {
            None => Ok(Some((link, addresses))),
            Some(found) => {
                Err(NetlinkError::ForeignBridge { bridge: network.bridge.clone(), found: *found, wanted })
            }
        }
    }

    /// Creates the bridge, not yet up. Its Ethernet address is set because one without takes
    /// over that of whichever port has the lowest, and guests would see their gateway change.
    async fn create_bridge(&self, name: &str) -> Result<(), NetlinkError> {
        let mut random = [0; 5];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut random))
            .map_err(|source| NetlinkError::Random { bridge: name.to_owned(), source })?;
        let message = LinkMessageBuilder::<LinkBridge>::new(name)
            .address(Mac::guest(random).0.to_vec())
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .build();
        match self.handle.link().add(message).execute().await.map_err(into_io) {
            Ok(()) => tracing::debug!(bridge = name, "bridge created"),
            // Another command was quicker; what it made is looked at like any other.
            Err(error) if is(&error, libc::EEXIST) => {}
            Err(source) => return Err(NetlinkError::CreateBridge { bridge: name.to_owned(), source }),
        }
        Ok(())
    }

    /// Brings the bridge up last, so that one which is up and addressed has been through all of
    /// this, even if a command died halfway.
    async fn finish_bridge(
        &self,
        network: &Network,
        link: &Link,
        addressed: bool,
    ) -> Result<(), NetlinkError> {
        let bridge = || network.bridge.clone();
        sysctl::harden_bridge(&network.bridge)
            .map_err(|source| NetlinkError::BridgeSettings { bridge: bridge(), source })?;
        if !addressed {
            let address = network.ipv4;
            let request = self.handle.address().add(link.index, address.ip().into(), address.prefix());
            match request.execute().await.map_err(into_io) {
                Ok(()) => {}
                Err(error) if is(&error, libc::EEXIST) => {}
                Err(source) => {
                    return Err(NetlinkError::BridgeAddress { bridge: bridge(), address, source });
                }
            }
        }
        let up = LinkUnspec::new_with_index(link.index).up().build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(|error| NetlinkError::BridgeUp { bridge: bridge(), source: into_io(error) })
    }

    async fn ports(&self, bridge: u32) -> Result<usize, NetlinkError> {
        let mut request = self.handle.link().get();
        request.message_mut().attributes.push(LinkAttribute::Controller(bridge));
        let links: Vec<LinkMessage> = request
            .execute()
            .try_collect()
            .await
            .map_err(|error| NetlinkError::List { what: "links", source: into_io(error) })?;
        let is_port = |link: &&LinkMessage| link.attributes.contains(&LinkAttribute::Controller(bridge));
        Ok(links.iter().filter(is_port).count())
    }
}

/// The name becomes part of paths below /proc/sys and of firewall rules.
fn check_name(name: &str) -> Result<(), NetlinkError> {
    let good = (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(()) } else { Err(NetlinkError::BridgeName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns_fixture::{block_on, in_new_netns, json, run};

    fn network() -> Network {
        Network { bridge: "test0".into(), ipv4: "10.77.16.1/20".parse().unwrap() }
    }

    async fn ensure() -> Result<u32, NetlinkError> {
        Netlink::open().unwrap().ensure_bridge(&network()).await
    }

    fn setting(path: &str) -> String {
        std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_owned()
    }

    #[test]
    fn a_bridge_is_made_once_and_whole() {
        in_new_netns(|| {
            let index = block_on(ensure()).unwrap();
            let shown = json("ip", "-j -d addr show test0");
            let link = &shown[0];
            assert_eq!(link["ifindex"], index);
            assert!(link["address"].as_str().unwrap().starts_with("02:"));
            assert!(link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP"));
            assert_eq!(link["linkinfo"]["info_kind"], "bridge");
            assert_eq!(link["linkinfo"]["info_data"]["stp_state"], 0);
            assert_eq!(link["linkinfo"]["info_data"]["forward_delay"], 0);
            assert_eq!(link["addr_info"][0]["local"], "10.77.16.1");
            assert_eq!(link["addr_info"][0]["prefixlen"], 20);
            for key in ["accept_ra", "autoconf", "accept_redirects", "accept_dad"] {
                assert_eq!(setting(&format!("ipv6/conf/test0/{key}")), "0", "{key}");
            }
            assert_eq!(block_on(ensure()).unwrap(), index);
            let again = &json("ip", "-j -d addr show test0")[0];
            assert_eq!(again["address"], link["address"]);
            let ipv4 = json("ip", "-j -4 addr show test0");
            assert_eq!(ipv4[0]["addr_info"].as_array().unwrap().len(), 1);
        });
    }

    #[test]
    fn a_half_made_bridge_is_finished() {
        in_new_netns(|| {
            run("ip", "link add test0 type bridge");
            block_on(ensure()).unwrap();
            run("ip", "addr flush dev test0");
            block_on(ensure()).unwrap();
            assert_eq!(json("ip", "-j -4 addr show test0")[0]["addr_info"][0]["local"], "10.77.16.1");
            run("ip", "link set test0 down");
            block_on(ensure()).unwrap();
            let flags = json("ip", "-j link show test0")[0]["flags"].clone();
            assert!(flags.as_array().unwrap().iter().any(|flag| flag == "UP"));
        });
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_alone() {
        in_new_netns(|| {
            run("ip", "link add test0 type veth peer name peer0");
            let error = block_on(ensure()).unwrap_err();
            assert!(matches!(error, NetlinkError::NotABridge(_)), "{error}");
            run("ip", "link del test0");
            for address in ["192.168.4.1/24", "10.77.16.1/24"] {
                run("ip", "link add test0 type bridge");
                run("ip", &format!("addr add {address} dev test0"));
                let before = run("ip", "-j addr show test0");
                let error = block_on(ensure()).unwrap_err();
                assert!(matches!(error, NetlinkError::ForeignBridge { .. }), "{error}");
                assert!(error.to_string().contains(address), "{error}");
                let kept = block_on(async { Netlink::open().unwrap().delete_bridge(&network()).await });
                assert!(matches!(kept, Err(NetlinkError::ForeignBridge { .. })));
                assert_eq!(run("ip", "-j addr show test0"), before);
                run("ip", "link del test0");
            }
        });
    }

    #[test]
    fn commands_that_race_agree() {
        in_new_netns(|| {
            let both = block_on(async {
                let (one, two) = (Netlink::open().unwrap(), Netlink::open().unwrap());
                let network = network();
                let (a, b) = futures_util::join!(one.ensure_bridge(&network), two.ensure_bridge(&network));
                (a.unwrap(), b.unwrap())
            });
            assert_eq!(both.0, both.1);
            assert_eq!(json("ip", "-j -4 addr show test0")[0]["addr_info"].as_array().unwrap().len(), 1);
        });
    }

    #[test]
    fn a_bridge_with_ports_stays() {
        in_new_netns(|| {
            let delete = || block_on(async { Netlink::open().unwrap().delete_bridge(&network()).await });
            delete().unwrap();
            block_on(ensure()).unwrap();
            run("ip", "link add port0 type veth peer name stray0");
            run("ip", "link set port0 master test0");
            assert!(matches!(delete(), Err(NetlinkError::BridgeInUse { ports: 1, .. })));
            run("ip", "link del port0");
            delete().unwrap();
            assert!(!run("ip", "-br link").contains("test0"));
        });
    }

    #[test]
    fn names_are_safe_in_paths_and_rules() {
        for bad in ["", "a/b", "..", "A0", "br 0", "sixteen-letters0"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name("nagaya0").is_ok());
    }
}
