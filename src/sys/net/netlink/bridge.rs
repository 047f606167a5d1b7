//! The bridge of a network.

use std::io;
use std::mem::discriminant;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::channel::{Request, but};
use super::link::Link;
use super::socket::is_link_local;
use super::{LINK_GROUP, Netlink, NetlinkError, messages};
use crate::model::mac::Mac;
use crate::model::network::{DEFAULT_MTU, Network, is_interface_name};
use crate::sys::net::{hardware_address, sysctl};

/// A bridge that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    pub index: u32,
    pub mac: Mac,
    /// It was made just now, or was incomplete.
    pub is_new: bool,
}

/// A bridge of ours, as it is and as it ought to be.
struct FoundBridge {
    link: Link,
    marked: bool,
    /// Addresses that it lacks, and addresses that its network no longer has.
    missing: Vec<IpNetwork>,
    stale: Vec<IpNetwork>,
}

impl FoundBridge {
    fn is_whole(&self, wanted_mtu: Option<u32>) -> bool {
        self.marked
            && self.link.up
            && self.link.group == LINK_GROUP
            && wanted_mtu.is_none_or(|mtu| mtu == self.link.mtu)
            && self.missing.is_empty()
            && self.stale.is_empty()
            && self.wrong_settings().is_empty()
    }

    /// Settings that differ from what they ought to be. A kernel that was built without a feature does not
    /// report its setting, and would refuse to set it.
    fn wrong_settings(&self) -> Vec<InfoBridge> {
        let is_kind = |a: &InfoBridge, b: &InfoBridge| discriminant(a) == discriminant(b);
        let is_wrong = |wanted: &InfoBridge| {
            self.link.bridge.iter().any(|found| is_kind(found, wanted) && found != wanted)
        };
        let wanted = settings().into_iter().chain([InfoBridge::VlanFiltering(false)]);
        wanted.filter(is_wrong).collect()
    }
}

impl Netlink {
    /// Makes sure that the network's bridge exists, has the network's addresses and MTU, and is up. If it
    /// is so already, that takes one exchange of two system calls. An existing link of that name is ours if
    /// its alias is `alias`, or if it has no alias and no address of another subnet: then it is half made,
    /// or from a version that set none. A foreign bridge is not changed.
    ///
    /// # Errors
    /// Something else has the name, or the kernel refuses; what is not ours is left alone.
    pub fn ensure_bridge(&self, network: &Network, alias: &str) -> Result<Bridge, NetlinkError> {
        let name = network.bridge.as_str();
        check_name(name)?;
        if network.foreign {
            return self.foreign_bridge(name);
        }
        let found = match self.our_bridge(network, alias)? {
            Some(found) => found,
            None => {
                self.create_bridge(name)?;
                let made = self.our_bridge(network, alias)?;
                made.ok_or_else(|| NetlinkError::BridgeVanished { bridge: name.to_owned() })?
            }
        };
        let mtu = self.wanted_mtu(network, &found.link)?;
        let is_new = !found.is_whole(mtu);
        if is_new {
            self.finish_bridge(network, alias, &found, mtu)?;
        }
        handle(name, &found.link, is_new)
    }

    /// Deletes the network's bridge unless it still has ports. It is no error if there is none; a foreign
    /// bridge stays.
    pub fn delete_bridge(&self, network: &Network, alias: &str) -> Result<(), NetlinkError> {
        let name = network.bridge.as_str();
        check_name(name)?;
        if network.foreign {
            return Ok(());
        }
        let Some(FoundBridge { link, .. }) = self.our_bridge(network, alias)? else {
            return Ok(());
        };
        let ports = self.ports_of(link.index)?.len();
        if ports > 0 {
            return Err(NetlinkError::BridgeInUse { bridge: name.to_owned(), ports });
        }
        but(self.ask_one(Request::on(messages::delete_link(link.index)))?, &[libc::ENODEV])
            .map_err(|source| NetlinkError::Delete { name: name.to_owned(), source })?;
        tracing::debug!(bridge = name, "bridge deleted");
        Ok(())
    }

    /// The addresses of a bridge but link-local ones; none where there is no such bridge.
    pub fn bridge_addresses(&self, name: &str) -> Result<Vec<IpNetwork>, NetlinkError> {
        check_name(name)?;
        match self.link(name)? {
            Some(link) if link.kind == Some(InfoKind::Bridge) => {
                let addresses = self.addresses(link.index)?;
                Ok(addresses.into_iter().filter(|address| !is_link_local(address)).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A bridge that the host's administrator looks after.
    fn foreign_bridge(&self, name: &str) -> Result<Bridge, NetlinkError> {
        match self.link(name)? {
            None => Err(NetlinkError::NoBridge(name.to_owned())),
            Some(link) if link.kind != Some(InfoKind::Bridge) => {
                Err(NetlinkError::NotABridge(name.to_owned()))
            }
            Some(link) if !link.up => Err(NetlinkError::BridgeDown(name.to_owned())),
            Some(link) => handle(name, &link, false),
        }
    }

    /// The network's bridge, after it was made sure that it is ours.
    fn our_bridge(&self, network: &Network, alias: &str) -> Result<Option<FoundBridge>, NetlinkError> {
        let name = || network.bridge.clone();
        let Some(link) = self.link(&network.bridge)? else {
            return Ok(None);
        };
        if link.kind != Some(InfoKind::Bridge) {
            return Err(NetlinkError::NotABridge(name()));
        }
        let marked = match &link.alias {
            Some(owner) if owner != alias => {
                return Err(NetlinkError::OthersBridge { name: name(), owner: owner.clone() });
            }
            owner => owner.is_some(),
        };
        let wanted: Vec<IpNetwork> = addresses_of(network).collect();
        let mut stale = self.addresses(link.index)?;
        stale.retain(|address| !is_link_local(address));
        let missing = wanted.iter().filter(|address| !stale.contains(address)).copied().collect();
        stale.retain(|address| !wanted.contains(address));
        if !marked {
            let subnet = |address: &IpNetwork| (address.network(), address.prefix());
            let foreign = |address: &&IpNetwork| !wanted.iter().any(|own| subnet(own) == subnet(address));
            if let Some(found) = stale.iter().find(foreign) {
                return Err(NetlinkError::ForeignBridge { bridge: name(), found: *found });
            }
            stale.clear();
        }
        Ok(Some(FoundBridge { link, marked, missing, stale }))
    }

    /// Creates the bridge, not yet up. Its Ethernet address is set because one without takes over that
    /// of whichever port has the lowest, and guests would see their gateway change.
    fn create_bridge(&self, name: &str) -> Result<(), NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Bridge)
            .name(name)
            .address(hardware_address::of_new_bridge(name).0.to_vec())
            .append_extra_attribute(LinkAttribute::Group(LINK_GROUP))
            .set_info_data(InfoData::Bridge(settings()))
            .build();
        // Where another command was quicker, what it made is looked at like any other.
        but(self.ask_one(Request::create(RouteNetlinkMessage::NewLink(message)))?, &[libc::EEXIST])
            .map_err(|source| NetlinkError::CreateBridge { bridge: name.to_owned(), source })?;
        tracing::debug!(bridge = name, "bridge created");
        Ok(())
    }

    /// The MTU that the bridge is to have. Where none was chosen, the kernel gives a bridge that of its
    /// port with the least, which is as good as the default.
    fn wanted_mtu(&self, network: &Network, link: &Link) -> Result<Option<u32>, NetlinkError> {
        if network.mtu.is_some() || link.mtu == DEFAULT_MTU {
            return Ok(network.mtu);
        }
        let least = self.ports_of(link.index)?.iter().map(|port| port.mtu).min();
        Ok((least != Some(link.mtu)).then_some(DEFAULT_MTU))
    }

    /// Brings the bridge up last, so that one which is up and addressed has been through all of
    /// this, even if a command died halfway.
    fn finish_bridge(
        &self,
        network: &Network,
        alias: &str,
        found: &FoundBridge,
        mtu: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let link = || network.bridge.clone();
        let index = found.link.index;
        sysctl::harden_bridge(&network.bridge, network.ipv6.is_some())
            .map_err(|source| NetlinkError::Settings { link: link(), source })?;
        let stale = &found.stale;
        // The kernel deletes with an IPv4 address all others of its subnet that came after it.
        let missing: Vec<IpNetwork> = match stale.is_empty() {
            true => found.missing.clone(),
            false => addresses_of(network).collect(),
        };
        let delete =
            |address: &IpNetwork| RouteNetlinkMessage::DelAddress(messages::address(index, *address));
        let add = |address: &IpNetwork| RouteNetlinkMessage::NewAddress(messages::address(index, *address));
        let mut up = messages::bring_up(messages::link_of_index(index));
        up.attributes.extend(mtu.map(LinkAttribute::Mtu));
        up.attributes.extend([LinkAttribute::IfAlias(alias.to_owned()), LinkAttribute::Group(LINK_GROUP)]);
        let mut requests: Vec<Request> = stale.iter().map(|address| Request::on(delete(address))).collect();
        requests.extend(missing.iter().map(|address| Request::create(add(address))));
        // One by one, for a spanning tree has to be off before there is no delay.
        for setting in found.wrong_settings() {
            let mut set = messages::link_of_index(index);
            let data = LinkInfo::Data(InfoData::Bridge(vec![setting]));
            set.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), data]));
            requests.push(Request::on(RouteNetlinkMessage::NewLink(set)));
        }
        requests.push(Request::on(RouteNetlinkMessage::SetLink(up)));
        let mut replies = self.ask(requests)?.into_iter();
        for (address, reply) in stale.iter().zip(&mut replies) {
            but(reply, &[libc::EADDRNOTAVAIL]).map_err(|source| NetlinkError::TakeAddress {
                link: link(),
                address: *address,
                source,
            })?;
        }
        for (address, reply) in missing.iter().zip(&mut replies) {
            but(reply, &[libc::EEXIST]).map_err(|source| NetlinkError::Address {
                link: link(),
                address: *address,
                source,
            })?;
        }
        let up: io::Result<()> = replies.try_for_each(|reply| reply.map(drop));
        up.map_err(|source| NetlinkError::Up { link: link(), source })
    }

    fn ports_of(&self, bridge: u32) -> Result<Vec<Link>, NetlinkError> {
        let ask = || {
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::Controller(bridge));
            RouteNetlinkMessage::GetLink(message)
        };
        let links = self.list("links", ask)?;
        let links = links.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(Link::of(link)),
            _ => None,
        });
        Ok(links.filter(|link| link.master == Some(bridge)).collect())
    }
}

/// How each bridge of ours works. Without a querier in the network, snooping would in time cut guests off
/// from neighbour discovery.
fn settings() -> Vec<InfoBridge> {
    vec![
        InfoBridge::StpState(BridgeStpState::Disabled),
        InfoBridge::ForwardDelay(0),
        InfoBridge::MulticastSnooping(false),
    ]
}

fn addresses_of(network: &Network) -> impl Iterator<Item = IpNetwork> {
    let ipv4 = network.ipv4.map(IpNetwork::V4);
    ipv4.into_iter().chain(network.ipv6.map(IpNetwork::V6))
}

fn handle(name: &str, link: &Link, is_new: bool) -> Result<Bridge, NetlinkError> {
    let mac = link.mac.ok_or_else(|| NetlinkError::NotABridge(name.to_owned()))?;
    Ok(Bridge { index: link.index, mac, is_new })
}

/// The name becomes part of paths below /proc/sys and of firewall rules.
fn check_name(name: &str) -> Result<(), NetlinkError> {
    if is_interface_name(name) { Ok(()) } else { Err(NetlinkError::BridgeName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, json, run};

    const ALIAS: &str = "nagaya lan";

    fn network() -> Network {
        let (ipv4, ipv6) = ("10.77.16.1/20".parse().unwrap(), "fd00:77::1/64".parse().unwrap());
        Network::new("lan", "test0", Some(ipv4), Some(ipv6))
    }

    fn ensure() -> Result<Bridge, NetlinkError> {
        Netlink::open().unwrap().ensure_bridge(&network(), ALIAS)
    }

    fn delete() -> Result<(), NetlinkError> {
        Netlink::open().unwrap().delete_bridge(&network(), ALIAS)
    }

    fn setting(path: &str) -> String {
        std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_owned()
    }

    fn addresses() -> Vec<String> {
        let text = |address: &serde_json::Value| {
            format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"])
        };
        let shown = json("ip", "-j addr show test0");
        let all = shown[0]["addr_info"].as_array().unwrap();
        all.iter().filter(|address| address["scope"] == "global").map(text).collect()
    }

    fn is_up() -> bool {
        json("ip", "-j link show test0")[0]["flags"].as_array().unwrap().iter().any(|flag| flag == "UP")
    }

    #[test]
    fn a_bridge_is_made_once_and_whole() {
        in_new_netns(|| {
            std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
            let bridge = ensure().unwrap();
            let shown = json("ip", "-j -d addr show test0");
            let link = &shown[0];
            assert_eq!(link["ifindex"], bridge.index);
            assert_eq!(link["address"], bridge.mac.to_string());
            assert!(bridge.mac.to_string().starts_with("02:"));
            assert!(is_up());
            assert_eq!(link["ifalias"], ALIAS);
            assert_eq!(link["linkinfo"]["info_kind"], "bridge");
            let data = &link["linkinfo"]["info_data"];
            for key in ["stp_state", "forward_delay", "mcast_snooping"] {
                assert_eq!(data[key], 0, "{key}");
            }
            assert_eq!(addresses(), ["10.77.16.1/20", "fd00:77::1/64"]);
            let ipv6 =
                link["addr_info"].as_array().unwrap().iter().find(|a| a["local"] == "fd00:77::1").unwrap();
            assert_eq!(ipv6["nodad"], true);
            assert_eq!(ipv6["tentative"], serde_json::Value::Null);
            for key in ["accept_ra", "autoconf", "accept_redirects", "accept_dad", "disable_ipv6"] {
                assert_eq!(setting(&format!("ipv6/conf/test0/{key}")), "0", "{key}");
            }
            let before = run("ip", "addr show test0");
            assert!(bridge.is_new);
            assert_eq!(ensure().unwrap(), Bridge { is_new: false, ..bridge });
            assert_eq!(run("ip", "addr show test0"), before);
        });
    }

    #[test]
    fn a_half_made_bridge_is_finished() {
        in_new_netns(|| {
            run("ip", "link add test0 type bridge");
            ensure().unwrap();
            assert_eq!(json("ip", "-j link show test0")[0]["ifalias"], ALIAS);
            run("ip", "addr flush dev test0");
            ensure().unwrap();
            assert_eq!(addresses(), ["10.77.16.1/20", "fd00:77::1/64"]);
            run("ip", "link set test0 down");
            ensure().unwrap();
            assert!(is_up());
            // The kernel forgets IPv6 addresses of a link that goes down.
            assert_eq!(addresses(), ["10.77.16.1/20", "fd00:77::1/64"]);
        });
    }

    #[test]
    fn what_the_network_has_no_longer_is_removed_and_what_it_has_now_is_kept() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let mut network = network();
            netlink.ensure_bridge(&network, ALIAS).unwrap();
            // Another address of the same subnet hangs on the first, for IPv4.
            network.ipv4 = Some("10.77.16.9/20".parse().unwrap());
            network.mtu = Some(1400);
            run("ip", "addr add 10.77.16.9/20 dev test0");
            netlink.ensure_bridge(&network, ALIAS).unwrap();
            assert_eq!(addresses(), ["10.77.16.9/20", "fd00:77::1/64"]);
            assert_eq!(json("ip", "-j link show test0")[0]["mtu"], 1400);
            (network.ipv4, network.ipv6) = (Some("10.78.0.1/24".parse().unwrap()), None);
            netlink.ensure_bridge(&network, ALIAS).unwrap();
            assert_eq!(addresses(), ["10.78.0.1/24"]);
            assert_eq!(netlink.bridge_addresses("test0").unwrap(), ["10.78.0.1/24".parse().unwrap()]);
            assert_eq!(netlink.bridge_addresses("none0").unwrap(), []);
        });
    }

    #[test]
    fn what_was_changed_of_a_bridge_is_put_back() {
        in_new_netns(|| {
            ensure().unwrap();
            let seen = || {
                let shown = json("ip", "-j -d link show test0");
                let data = &shown[0]["linkinfo"]["info_data"];
                (shown[0]["mtu"].clone(), data["stp_state"].clone(), data["mcast_snooping"].clone())
            };
            let whole = seen();
            for harm in ["mtu 1300", "type bridge stp_state 1", "type bridge mcast_snooping 1"] {
                run("ip", &format!("link set test0 {harm}"));
                assert_ne!(seen(), whole, "{harm}");
                assert!(ensure().unwrap().is_new, "{harm}");
                assert_eq!(seen(), whole, "{harm}");
            }
            assert!(!ensure().unwrap().is_new);
            // The kernel's own choice, for a port that takes less, is no harm.
            run("ip", "link del test0");
            ensure().unwrap();
            run("ip", "link add port0 mtu 1400 type veth peer name stray0");
            run("ip", "link set port0 master test0");
            assert_eq!(seen().0, 1400);
            assert!(!ensure().unwrap().is_new);
        });
    }

    #[test]
    fn a_chosen_mtu_stays_when_a_port_has_less() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let network = Network { mtu: Some(9000), ..network() };
            netlink.ensure_bridge(&network, ALIAS).unwrap();
            run("ip", "link add port0 mtu 1400 type veth peer name stray0");
            run("ip", "link set port0 master test0");
            assert_eq!(json("ip", "-j link show test0")[0]["mtu"], 9000);
        });
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_alone() {
        in_new_netns(|| {
            run("ip", "link add test0 type veth peer name peer0");
            let error = ensure().unwrap_err();
            assert!(matches!(error, NetlinkError::NotABridge(_)), "{error}");
            run("ip", "link del test0");
            for address in ["192.168.4.1/24", "10.77.16.1/24", "fd00:78::1/64"] {
                run("ip", "link add test0 type bridge");
                run("ip", &format!("addr add {address} dev test0"));
                let before = run("ip", "addr show test0");
                let error = ensure().unwrap_err();
                assert!(matches!(error, NetlinkError::ForeignBridge { .. }), "{error}");
                assert!(error.to_string().contains(address), "{error}");
                assert!(matches!(delete(), Err(NetlinkError::ForeignBridge { .. })));
                assert_eq!(run("ip", "addr show test0"), before);
                run("ip", "link del test0");
            }
            run("ip", "link add test0 type bridge");
            run("ip", "link set test0 alias somebody");
            let before = run("ip", "addr show test0");
            for error in [ensure().unwrap_err(), delete().unwrap_err()] {
                assert!(error.to_string().contains("'somebody'"), "{error}");
            }
            assert_eq!(run("ip", "addr show test0"), before);
        });
    }

    #[test]
    fn nothing_of_a_foreign_bridge_is_changed() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let network = Network { foreign: true, ..network() };
            let ensure = || netlink.ensure_bridge(&network, ALIAS);
            assert!(matches!(ensure(), Err(NetlinkError::NoBridge(_))));
            run("ip", "link add test0 type ifb");
            assert!(matches!(ensure(), Err(NetlinkError::NotABridge(_))));
            run("ip", "link del test0");
            run("ip", "link add test0 type bridge");
            run("ip", "addr add 192.168.4.1/24 dev test0");
            assert!(matches!(ensure(), Err(NetlinkError::BridgeDown(_))));
            run("ip", "link set test0 up");
            let before = run("ip", "addr show test0");
            let index = ensure().unwrap().index;
            assert_eq!(json("ip", "-j link show test0")[0]["ifindex"], index);
            netlink.delete_bridge(&network, ALIAS).unwrap();
            assert_eq!(run("ip", "addr show test0"), before);
        });
    }

    #[test]
    fn commands_that_race_agree() {
        in_new_netns(|| {
            let netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            let racer = || {
                nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                ensure().unwrap()
            };
            for _ in 0..20 {
                let made = std::thread::scope(|scope| {
                    let all: Vec<_> = (0..4).map(|_| scope.spawn(racer)).collect();
                    all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
                });
                assert!(made.iter().all(|one| one.index == made[0].index));
                assert_eq!(addresses(), ["10.77.16.1/20", "fd00:77::1/64"]);
                run("ip", "link del test0");
            }
        });
    }

    #[test]
    fn a_bridge_with_ports_stays() {
        in_new_netns(|| {
            delete().unwrap();
            ensure().unwrap();
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
        for bad in ["", "a/b", "..", "br 0", "sixteen-letters0", "a\"b"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name("nagaya0").is_ok() && check_name("vmbr0.7").is_ok());
    }
}
