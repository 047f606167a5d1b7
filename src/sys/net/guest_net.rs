//! A guest's network, set from outside before its init starts. Runs in a single-threaded child in the
//! guest's network namespace, shortly before it becomes init: blocking, few system calls, little memory.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::RouteProtocol;
use nix::net::if_::if_nametoindex;

use super::netlink::channel::{Channel, Request};
use super::netlink::messages;
use super::sysctl::{self, SysctlError};
use crate::model::nic::{Nic, NicKind, ROUTED_GATEWAY4, ROUTED_GATEWAY6};

/// `lo` is the first link of every network namespace.
const LOOPBACK: u32 = 1;
/// Its protocol is `static`: systemd-networkd told to keep static configuration knows it by that.
const PROTOCOL: RouteProtocol = RouteProtocol::Static;

/// An Ethernet's, and a new link's.
const USUAL_MTU: u32 = 1500;

/// What went wrong with a guest's network.
#[derive(Debug, thiserror::Error)]
pub enum GuestNetError {
    #[error("cannot open a route netlink socket in the guest")]
    Open(#[source] io::Error),
    #[error("the guest has no link '{ifname}'")]
    NoLink { ifname: String, source: io::Error },
    #[error("cannot bring up the guest's loopback")]
    Loopback(#[source] io::Error),
    #[error("cannot set up the kernel's settings of the guest's '{ifname}'")]
    Settings { ifname: String, source: SysctlError },
    #[error("cannot give {address} to the guest's '{ifname}'")]
    Address { ifname: String, address: IpNetwork, source: io::Error },
    #[error("cannot bring up the guest's '{ifname}'")]
    Up { ifname: String, source: io::Error },
    #[error("cannot route the guest through {gateway}")]
    Route { gateway: IpAddr, source: io::Error },
    #[error("cannot talk to the kernel over route netlink")]
    Exchange(#[source] io::Error),
}

/// What a request is for.
enum Purpose<'a> {
    Loopback,
    Address(&'a Nic, IpNetwork),
    Up(&'a Nic),
    Route(IpAddr),
}

/// Brings up `lo` and every interface, with the addresses that were allotted to it, and makes default
/// routes of the first gateway of each family. An interface whose guest asks for its addresses is only
/// brought up. What is so already stays so.
pub fn configure(nics: &[Nic]) -> Result<(), GuestNetError> {
    sysctl::as_on_a_machine();
    let plan = vec![(Purpose::Loopback, Request::on(messages::up(LOOPBACK)))];
    configure_as_planned(nics, plan, Vec::new())
}

/// The same of an interface that has come to a running guest, which has default routes of the `others`.
pub fn configure_one(nic: &Nic, others: &[Nic]) -> Result<(), GuestNetError> {
    configure_as_planned(std::slice::from_ref(nic), Vec::new(), others.iter().flat_map(gateways).collect())
}

fn configure_as_planned<'a>(
    nics: &'a [Nic],
    mut plan: Vec<(Purpose<'a>, Request)>,
    mut defaults: Vec<IpAddr>,
) -> Result<(), GuestNetError> {
    for nic in nics {
        let index = index_of(&nic.name)?;
        if nic.settings.dhcp {
            plan.push((Purpose::Up(nic), Request::on(messages::up(index))));
            continue;
        }
        // Before the link is up, or a router could be quicker.
        sysctl::ignore_routers(&nic.name)
            .map_err(|source| GuestNetError::Settings { ifname: nic.name.clone(), source })?;
        plan.push((Purpose::Up(nic), Request::on(messages::up(index))));
        let networks = [nic.ipv4.map(IpNetwork::V4), nic.ipv6.map(IpNetwork::V6)];
        for network in networks.into_iter().flatten() {
            let message = RouteNetlinkMessage::NewAddress(messages::address(index, network));
            plan.push((Purpose::Address(nic, network), Request::put(message)));
        }
        for gateway in gateways(nic) {
            if nic.kind == NicKind::Routed {
                plan.push((Purpose::Route(gateway), on_link(index, gateway)));
            }
            if !defaults.iter().any(|other: &IpAddr| other.is_ipv4() == gateway.is_ipv4()) {
                defaults.push(gateway);
                plan.push((Purpose::Route(gateway), default_route(index, gateway)));
            }
        }
    }
    carry_out(plan)
}

/// Moves the interfaces of `nics` from the calling thread's network namespace to `netns`, where they
/// arrive down, without addresses, and in all else as they were given to the guest, whatever it has made
/// of them; their other ends do not notice. Returns those that arrived: a guest may have deleted some.
pub fn move_links_to_netns(nics: &[Nic], netns: BorrowedFd<'_>) -> Result<Vec<Nic>, GuestNetError> {
    let channel = Channel::open().map_err(GuestNetError::Open)?;
    let all = Request::list(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    let listed = channel.exchange(vec![all]).map_err(GuestNetError::Exchange)?;
    let mut listed: Vec<LinkMessage> = listed
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .collect();
    listed.sort_by_key(|link| link.header.index);
    let there = links_of(nics, &listed);
    let moves = there.iter().map(|(nic, index)| Request::on(moved(nic, *index, netns)));
    let replies = channel.exchange(moves.collect()).map_err(GuestNetError::Exchange)?;
    let arrived = there.iter().zip(replies).filter(|(_, reply)| reply.is_ok());
    Ok(arrived.map(|((nic, _), _)| (*nic).clone()).collect())
}

/// Finds interfaces that their guest may have renamed and given other Ethernet addresses, among others
/// that it may have made: by both, by one of the two, and in the end by their age, for they are older
/// than those of the guest's.
fn links_of<'a>(nics: &'a [Nic], links: &[LinkMessage]) -> Vec<(&'a Nic, u32)> {
    let has = |link: &LinkMessage, wanted: LinkAttribute| link.attributes.contains(&wanted);
    let name = |link: &LinkMessage, nic: &Nic| has(link, LinkAttribute::IfName(nic.name.clone()));
    let mac = |link: &LinkMessage, nic: &Nic| has(link, LinkAttribute::Address(nic.mac.0.to_vec()));
    let mut found: Vec<(&Nic, u32)> = Vec::new();
    for way in 0..4 {
        for nic in nics {
            if found.iter().any(|(other, _)| other.name == nic.name) {
                continue;
            }
            let is_it = |link: &&LinkMessage| match way {
                0 => name(link, nic) && mac(link, nic),
                1 => mac(link, nic),
                2 => name(link, nic),
                _ => true,
            };
            let is_free = |link: &&LinkMessage| found.iter().all(|(_, index)| *index != link.header.index);
            let link = links.iter().filter(is_free).filter(|link| is_given(link, nic)).find(is_it);
            found.extend(link.map(|link| (nic, link.header.index)));
        }
    }
    found
}

/// Whether a link is of the kind that the host gives, with its other end outside of the guest.
fn is_given(link: &LinkMessage, nic: &Nic) -> bool {
    let wanted = match nic.kind {
        NicKind::Bridged { .. } | NicKind::Routed => InfoKind::Veth,
        NicKind::Macvlan { .. } => InfoKind::MacVlan,
    };
    let kind = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(wanted.clone())),
        _ => false,
    });
    kind && link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)))
}

fn moved(nic: &Nic, index: u32, netns: BorrowedFd<'_>) -> RouteNetlinkMessage {
    let mut message = messages::link_of_index(index);
    message.attributes.extend([
        LinkAttribute::NetNsFd(netns.as_raw_fd()),
        LinkAttribute::IfName(nic.name.clone()),
        LinkAttribute::Address(nic.mac.0.to_vec()),
    ]);
    let usual = (!matches!(nic.kind, NicKind::Macvlan { .. })).then_some(USUAL_MTU);
    message.attributes.extend(nic.settings.mtu.or(usual).map(LinkAttribute::Mtu));
    message.header.change_mask = LinkFlags::Promisc | LinkFlags::Allmulti | LinkFlags::Noarp;
    RouteNetlinkMessage::SetLink(message)
}

fn carry_out(plan: Vec<(Purpose<'_>, Request)>) -> Result<(), GuestNetError> {
    let (purposes, requests): (Vec<_>, Vec<_>) = plan.into_iter().unzip();
    let channel = Channel::open().map_err(GuestNetError::Open)?;
    let replies = channel.exchange(requests).map_err(GuestNetError::Exchange)?;
    for (purpose, reply) in purposes.into_iter().zip(replies) {
        reply.map_err(|source| match purpose {
            Purpose::Loopback => GuestNetError::Loopback(source),
            Purpose::Address(nic, address) => {
                GuestNetError::Address { ifname: nic.name.clone(), address, source }
            }
            Purpose::Up(nic) => GuestNetError::Up { ifname: nic.name.clone(), source },
            Purpose::Route(gateway) => GuestNetError::Route { gateway, source },
        })?;
    }
    Ok(())
}

fn index_of(ifname: &str) -> Result<u32, GuestNetError> {
    if_nametoindex(ifname)
        .map_err(|errno| GuestNetError::NoLink { ifname: ifname.to_owned(), source: errno.into() })
}

/// Its gateways, IPv4 first.
fn gateways(nic: &Nic) -> impl Iterator<Item = IpAddr> {
    let routed = nic.kind == NicKind::Routed;
    let gateway4 = nic.gateway4.or((routed && nic.ipv4.is_some()).then_some(ROUTED_GATEWAY4));
    let gateway6 = nic.gateway6.or((routed && nic.ipv6.is_some()).then_some(ROUTED_GATEWAY6));
    gateway4.map(IpAddr::V4).into_iter().chain(gateway6.map(IpAddr::V6))
}

/// A gateway that is in no network of the guest's addresses must be known to be a neighbour.
fn on_link(index: u32, gateway: IpAddr) -> Request {
    let to = Some(IpNetwork::from(gateway));
    let route = messages::route(index, to, None, PROTOCOL, messages::family(gateway));
    Request::put(RouteNetlinkMessage::NewRoute(route))
}

fn default_route(index: u32, gateway: IpAddr) -> Request {
    let route = messages::route(index, None, Some(gateway), PROTOCOL, messages::family(gateway));
    Request::put(RouteNetlinkMessage::NewRoute(route))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::net::netns_fixture::{Netns, in_new_netns, json, nic, run};

    fn static_nic(ipv4: &str, gateway4: &str) -> Nic {
        let mut nic = nic("eth0", 1);
        (nic.ipv4, nic.gateway4) = (Some(ipv4.parse().unwrap()), Some(gateway4.parse().unwrap()));
        nic
    }

    fn both_families() -> Nic {
        let mut nic = static_nic("10.9.0.5/20", "10.9.0.1");
        nic.ipv6 = Some("fd00:9::5/64".parse().unwrap());
        nic.gateway6 = Some("fd00:9::1".parse().unwrap());
        nic
    }

    fn shown() -> String {
        run("ip", "-4 addr") + &run("ip", "-6 addr") + &run("ip", "-4 route") + &run("ip", "-6 route")
    }

    fn setting(path: &str) -> String {
        std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{path}")).unwrap().trim().to_owned()
    }

    #[test]
    fn all_is_set_and_setting_it_again_changes_nothing() {
        in_new_netns(|| {
            run("ip", "link add eth0 type bridge");
            configure(&[both_families()]).unwrap();
            let addresses = json("ip", "-j -4 addr show dev eth0");
            let address = &addresses[0]["addr_info"][0];
            assert_eq!(address["local"], "10.9.0.5");
            assert_eq!(address["prefixlen"], 20);
            assert_eq!(address["broadcast"], "10.9.15.255");
            assert_eq!(address["scope"], "global");
            let addresses = json("ip", "-j -6 addr show dev eth0 scope global");
            let address = &addresses[0]["addr_info"][0];
            assert_eq!((&address["local"], &address["prefixlen"]), (&"fd00:9::5".into(), &64.into()));
            assert_eq!((&address["nodad"], &address["tentative"]), (&true.into(), &serde_json::Value::Null));
            for (family, gateway) in [("-4", "10.9.0.1"), ("-6", "fd00:9::1")] {
                let routes = json("ip", &format!("-j {family} route show default"));
                assert_eq!(routes[0]["gateway"], gateway);
                assert_eq!(routes[0]["dev"], "eth0");
                assert_eq!(routes[0]["protocol"], "static");
            }
            assert_eq!((setting("eth0/accept_ra"), setting("eth0/autoconf")), ("0".into(), "0".into()));
            let lo = json("ip", "-j -4 addr show dev lo");
            assert_eq!(lo[0]["addr_info"][0]["local"], "127.0.0.1");
            let before = shown();
            configure(&[both_families()]).unwrap();
            assert_eq!(shown(), before);
        });
    }

    #[test]
    fn the_first_gateway_of_each_family_is_the_default_one() {
        in_new_netns(|| {
            for name in ["eth0", "eth1", "eth2", "eth3"] {
                run("ip", &format!("link add {name} type bridge"));
            }
            let (mut first, mut second, mut third, mut fourth) =
                (nic("eth0", 1), static_nic("10.9.0.5/24", "10.9.0.1"), both_families(), nic("eth3", 4));
            first.settings.dhcp = true;
            (second.name, third.name) = ("eth1".into(), "eth2".into());
            (third.ipv4, third.gateway4) = (Some("10.8.0.5/24".parse().unwrap()), "10.8.0.1".parse().ok());
            fourth.kind = NicKind::Routed;
            fourth.ipv4 = Some("192.0.2.9/32".parse().unwrap());
            fourth.ipv6 = Some("2001:db8::9/128".parse().unwrap());
            configure(&[first, second, third, fourth]).unwrap();
            let default = |family: &str| json("ip", &format!("-j {family} route show default"));
            let (four, six) = (default("-4"), default("-6"));
            assert_eq!((four.as_array().unwrap().len(), six.as_array().unwrap().len()), (1, 1));
            assert_eq!((&four[0]["dev"], &six[0]["dev"]), (&"eth1".into(), &"eth2".into()));
            // The interface that asks by DHCP was only brought up.
            let asks = run("ip", "addr show dev eth0");
            assert!(asks.contains(",UP") && !asks.contains("inet ") && !asks.contains("global"), "{asks}");
            assert_eq!(setting("eth0/accept_ra"), "1");
            assert!(run("ip", "-4 route show 169.254.0.1").contains("dev eth3"));
            assert!(run("ip", "-6 route show fe80::1").contains("dev eth3"));
        });
    }

    #[test]
    fn a_routed_interface_alone_has_its_default_routes_by_the_host() {
        in_new_netns(|| {
            run("ip", "link add eth0 type bridge");
            let mut nic = nic("eth0", 1);
            nic.kind = NicKind::Routed;
            nic.ipv4 = Some("192.0.2.9/32".parse().unwrap());
            nic.ipv6 = Some("2001:db8::9/128".parse().unwrap());
            configure(std::slice::from_ref(&nic)).unwrap();
            assert_eq!(json("ip", "-j -4 route show default")[0]["gateway"], "169.254.0.1");
            assert_eq!(json("ip", "-j -6 route show default")[0]["gateway"], "fe80::1");
            let before = shown();
            configure(&[nic]).unwrap();
            assert_eq!(shown(), before);
        });
    }

    /// Two namespaces of a guest, of which the first has these links to a host; and the host.
    fn linked(names: &[&str]) -> (Netns, Netns, Netns) {
        let (old, new, host) = (Netns::new(), Netns::new(), Netns::new());
        let path = old.path();
        host.run(|| {
            for (name, number) in names.iter().zip(1u8..) {
                let mac = nic(name, number).mac;
                run(
                    "ip",
                    &format!("link add h{number} type veth peer name {name} address {mac} netns {path}"),
                );
            }
        });
        (old, new, host)
    }

    #[test]
    fn links_are_moved_and_missing_ones_left_out() {
        let (old, new, _host) = linked(&["eth0", "eth1", "eth2"]);
        let nics = [nic("eth0", 1), nic("eth1", 2), nic("eth2", 3)];
        let names = |nics: Vec<Nic>| nics.into_iter().map(|nic| nic.name).collect::<Vec<_>>();
        old.run(|| {
            run("ip", "link del eth1");
            let moved = move_links_to_netns(&nics, new.as_fd()).unwrap();
            assert_eq!(names(moved), ["eth0", "eth2"]);
            assert!(move_links_to_netns(&nics, new.as_fd()).unwrap().is_empty());
        });
        new.run(|| {
            let links = run("ip", "-br link");
            assert!(links.contains("eth0") && links.contains("eth2"), "{links}");
        });
    }

    #[test]
    fn links_come_back_as_they_were_given_whatever_the_guest_made_of_them() {
        let (old, new, _host) = linked(&["eth0", "eth1", "eth2"]);
        let mut nics = [nic("eth0", 1), nic("eth1", 2), nic("eth2", 3)];
        nics[1].settings.mtu = Some(1400);
        old.run(|| {
            // One renamed, one with another address; and links of the guest's own in their places.
            run("ip", "link set eth0 name wan0 mtu 1280 promisc on arp off allmulticast on");
            run("ip", "link add eth0 type bridge");
            run("ip", &format!("link set eth0 address {}", nics[0].mac));
            run("ip", "link set eth1 address 02:00:00:00:00:99 mtu 9000");
            run("ip", &format!("link add x1 address {} type veth peer name x2", nics[1].mac));
            run("ip", "link set eth2 name lan0 address 02:00:00:00:00:98");
            assert_eq!(move_links_to_netns(&nics, new.as_fd()).unwrap().len(), 3);
        });
        new.run(|| {
            for nic in &nics {
                let link = &json("ip", &format!("-j -d link show dev {}", nic.name))[0];
                assert_eq!(link["linkinfo"]["info_kind"], "veth");
                assert_eq!(link["address"], nic.mac.to_string());
                assert_eq!(link["mtu"], nic.settings.mtu.unwrap_or(1500));
                for flag in ["NOARP", "PROMISC", "ALLMULTI"] {
                    assert!(!link["flags"].as_array().unwrap().contains(&flag.into()), "{link}");
                }
            }
        });
    }

    #[test]
    fn a_namespace_begins_as_a_machine_does() {
        in_new_netns(|| {
            let read = |path: &str| std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap();
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            configure(&[]).unwrap();
            assert_eq!(read("ipv4/ping_group_range").split_whitespace().collect::<Vec<_>>(), ["0", "65535"]);
            assert_eq!((read("ipv4/ip_forward").trim(), read("unix/max_dgram_qlen").trim()), ("0", "512"));
        });
    }

    #[test]
    fn what_fails_is_named() {
        in_new_netns(|| {
            let set = |ipv4, gateway4| configure(&[static_nic(ipv4, gateway4)]);
            let missing = set("10.9.0.5/20", "10.9.0.1").unwrap_err();
            assert_eq!(missing.to_string(), "the guest has no link 'eth0'");
            run("ip", "link add eth0 type bridge");
            let unreachable = set("10.9.0.5/20", "192.0.2.1").unwrap_err();
            assert!(matches!(unreachable, GuestNetError::Route { .. }), "{unreachable:?}");
            // The wrong gateway took nothing else with it.
            assert_eq!(json("ip", "-j -4 addr show dev eth0")[0]["addr_info"][0]["local"], "10.9.0.5");
            // The kernel has no IPv4 on a link whose MTU is below 68, which only lo's may be.
            run("ip", "link set lo mtu 60");
            let mut lo = static_nic("10.9.0.6/20", "10.9.0.1");
            (lo.name, lo.settings.dhcp) = ("lo".into(), false);
            let refused = configure(&[lo]).unwrap_err();
            assert!(!matches!(refused, GuestNetError::Route { .. }), "{refused:?}");
        });
    }
}
