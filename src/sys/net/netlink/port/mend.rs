//! The host's side of a running guest's link: whether it is as it was made, and how to repair it. Others on
//! the host change links too: an operator, or a network manager that manages all links.

use std::mem::discriminant;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{BridgePortState, In6AddrGenMode, InfoBridgePort, InfoKind, LinkAttribute};

use super::link_messages;
use super::ownership::{check_names, ours};
use super::rates::Rates;
use crate::model::instance::is_shaper_link;
use crate::model::network::DEFAULT_MTU;
use crate::model::nic::{Nic, NicKind};
use crate::render::spoof::{self, SpoofFilter};
use crate::sys::net::netlink::channel::Request;
use crate::sys::net::netlink::link::{Link, found};
use crate::sys::net::netlink::steps::Step;
use crate::sys::net::netlink::{Netlink, NetlinkError, messages};
use crate::sys::net::{sysctl, tc};

/// The host's side of one interface, as it was started.
pub struct Port<'a> {
    pub nic: &'a Nic,
    /// As of a `Attachment`.
    pub host_name: &'a str,
    pub shaper_name: &'a str,
    pub bridge: Option<u32>,
    /// The bridge is the host's own: how it treats its ports is the administrator's affair.
    pub is_foreign: bool,
    pub mtu: Option<u32>,
    pub isolated: bool,
}

impl Port<'_> {
    fn wanted_mtu(&self) -> u32 {
        self.mtu.unwrap_or(DEFAULT_MTU)
    }

    fn rates(&self) -> Rates {
        Rates { ingress: self.nic.settings.ingress, egress: self.nic.settings.egress }
    }

    /// How it is a port of its bridge. Whether packets are given back is not said: that comes and goes
    /// with forwarded ports.
    fn flags(&self) -> Vec<InfoBridgePort> {
        let mut flags = vec![InfoBridgePort::Isolated(self.isolated)];
        if !self.is_foreign {
            flags.extend([
                InfoBridgePort::Learning(true),
                InfoBridgePort::UnicastFlood(true),
                InfoBridgePort::MulticastFlood(true),
                InfoBridgePort::BroadcastFlood(true),
                InfoBridgePort::Guard(false),
                InfoBridgePort::Protect(false),
                InfoBridgePort::ProxyARP(false),
                InfoBridgePort::NeighSupress(false),
                InfoBridgePort::Locked(false),
            ]);
        }
        flags
    }
}

/// A fault of a link: something that is not as it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The link is gone, with the guest's end: only a start makes it again.
    Gone,
    Down,
    /// It is no port of its bridge, or of another one.
    OffBridge,
    Mtu,
    Mac,
    /// How it is a port of its bridge.
    Flags,
    /// The anti-spoofing filter.
    Filter,
    Rates,
    /// The gateway's addresses, the routes, or who answers for the guest.
    Routes,
}

impl Fault {
    /// Whether nothing passes with this fault.
    pub fn cuts_off(self) -> bool {
        matches!(self, Self::Gone | Self::Down | Self::OffBridge | Self::Routes)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "is gone",
            Self::Down => "is down",
            Self::OffBridge => "is not on its bridge",
            Self::Mtu => "has another MTU",
            Self::Mac => "has another Ethernet address",
            Self::Flags => "has other flags as a port of its bridge",
            Self::Filter => "lacks its filter",
            Self::Rates => "lacks its rate limits",
            Self::Routes => "lacks its routes",
        }
    }

    /// All of them in a sentence about a link.
    pub fn all(faults: &[Self]) -> String {
        faults.iter().map(|fault| fault.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// What was found in a link.
struct Found {
    link: Link,
    faults: Vec<Fault>,
    /// The guest's addresses that are not routed to it.
    unrouted: Vec<IpAddr>,
}

impl Netlink {
    /// What of the link is not as it was made. Changes nothing, and needs no privilege.
    pub fn faults(&self, port: &Port<'_>) -> Result<Vec<Fault>, NetlinkError> {
        Ok(self.look(port)?.map_or_else(|| vec![Fault::Gone], |found| found.faults))
    }

    /// Repairs the link. Returns the faults that it had; if the link is gone, only that.
    ///
    /// # Errors
    /// What has the name is not ours, the kernel refuses, or something undoes it at once.
    pub fn mend(&self, port: &Port<'_>) -> Result<Vec<Fault>, NetlinkError> {
        check_names(port.host_name, port.shaper_name)?;
        let Some(found) = self.look(port)? else { return Ok(vec![Fault::Gone]) };
        if found.faults.is_empty() {
            return Ok(Vec::new());
        }
        let has = |fault| found.faults.contains(&fault);
        // The filter comes first, before the link leads anywhere again.
        if has(Fault::Filter) {
            self.set_spoof_filter(port.host_name, SpoofFilter::of(port.nic).as_ref())?;
        }
        if has(Fault::Rates) {
            let Rates { ingress, egress } = port.rates();
            self.set_rates(port.host_name, port.shaper_name, ingress, egress)?;
        }
        self.run(port.host_name, port_steps(port, &found.link))?;
        if port.nic.kind == NicKind::Routed {
            self.route_again(port, &found)?;
        }
        match self.faults(port)? {
            left if left.is_empty() => Ok(found.faults),
            left => {
                let (name, faults) = (port.host_name.to_owned(), Fault::all(&left));
                Err(NetlinkError::Unmended { name, faults })
            }
        }
    }

    fn look(&self, port: &Port<'_>) -> Result<Option<Found>, NetlinkError> {
        let Some(link) = self.link(port.host_name)? else { return Ok(None) };
        let link = ours(port.host_name, link, &InfoKind::Veth)?;
        let mut faults = Vec::new();
        let mut check = |good: bool, fault| faults.extend((!good).then_some(fault));
        check(link.up, Fault::Down);
        check(link.master == port.bridge, Fault::OffBridge);
        check(link.mtu == port.wanted_mtu(), Fault::Mtu);
        check(link.mac == Some(port.nic.mac.host_end()), Fault::Mac);
        let is_quiet = link.link_local.is_none_or(|mode| mode == In6AddrGenMode::None);
        check(is_quiet && has_flags(&link, port), Fault::Flags);
        let filters = self.list("filters", || tc::filters(link.index))?;
        let filtered = match SpoofFilter::of(port.nic) {
            Some(spoof_filter) => tc::has_exact_spoof_filter(&filters, &spoof::program(&spoof_filter)),
            None => !tc::has_spoof_filter(&filters),
        };
        check(filtered, Fault::Filter);
        check(self.has_rates(port, &link, &filters)?, Fault::Rates);
        let mut unrouted = Vec::new();
        if port.nic.kind == NicKind::Routed {
            unrouted = self.unrouted(port.nic, link.index)?;
            check(unrouted.is_empty() && self.is_gateway(port.nic, link.index)?, Fault::Routes);
        }
        Ok(Some(Found { link, faults, unrouted }))
    }

    fn has_rates(
        &self,
        port: &Port<'_>,
        link: &Link,
        filters: &[RouteNetlinkMessage],
    ) -> Result<bool, NetlinkError> {
        let has_bucket = |index, bits| -> Result<bool, NetlinkError> {
            let queue = self.ask_one(Request::told(tc::queue(index)))?;
            Ok(queue.is_ok_and(|queue| tc::is_bucket(&queue, bits, port.wanted_mtu())))
        };
        let Rates { ingress, egress } = port.rates();
        let held_in = ingress.map_or(Ok(true), |bits| has_bucket(link.index, bits))?;
        let (Some(bits), true) = (egress, held_in) else { return Ok(held_in) };
        let shaper =
            found(port.shaper_name, self.ask_one(Request::on(messages::link_named(port.shaper_name)))?)?;
        let Some(shaper) = shaper.filter(|_| is_shaper_link(port.shaper_name)) else { return Ok(false) };
        let is_ours = shaper.up && shaper.kind == Some(InfoKind::Ifb);
        Ok(is_ours && tc::is_redirected(filters, shaper.index) && has_bucket(shaper.index, bits)?)
    }

    fn route_again(&self, port: &Port<'_>, found: &Found) -> Result<(), NetlinkError> {
        let name = port.host_name;
        sysctl::harden_routed(name)
            .map_err(|source| NetlinkError::Settings { link: name.to_owned(), source })?;
        let mut gateway = self.gateway_steps(port.nic, found.link.index);
        gateway.iter_mut().for_each(|step| step.fine = &[libc::EEXIST]);
        self.run(name, gateway)?;
        // Those that went with the link while it was down are found now.
        for address in self.unrouted(port.nic, found.link.index)?.into_iter().chain(found.unrouted.clone()) {
            self.add_route(address, name, found.link.index)?;
        }
        Ok(())
    }
}

fn has_flags(link: &Link, port: &Port<'_>) -> bool {
    if port.bridge.is_none() || link.master != port.bridge {
        return true;
    }
    let mut wanted = port.flags();
    // The kernel disables a port whose guest has taken its end down.
    if link.up && link.has_carrier && !port.is_foreign {
        wanted.push(InfoBridgePort::State(BridgePortState::Forwarding));
    }
    let is_kind = |a: &InfoBridgePort, b: &InfoBridgePort| discriminant(a) == discriminant(b);
    // Flags that an older kernel does not report, it does not have.
    wanted
        .iter()
        .all(|flag| link.port.iter().find(|found| is_kind(found, flag)).is_none_or(|found| found == flag))
}

/// The steps that attach the link to its bridge again and bring it up.
fn port_steps(port: &Port<'_>, link: &Link) -> Vec<Step> {
    let index = link.index;
    let set = |what, attribute| {
        let mut message = messages::link_of_index(index);
        message.attributes.push(attribute);
        Step::new(what, "", Request::on(RouteNetlinkMessage::SetLink(message)))
    };
    let mut steps = Vec::new();
    if link.mtu != port.wanted_mtu() {
        steps.push(set("set the MTU of", LinkAttribute::Mtu(port.wanted_mtu())));
    }
    if link.mac != Some(port.nic.mac.host_end()) {
        steps.push(set(
            "set the Ethernet address of",
            LinkAttribute::Address(port.nic.mac.host_end().0.to_vec()),
        ));
    }
    if link.master != port.bridge {
        steps.push(set("put on its bridge", LinkAttribute::Controller(port.bridge.unwrap_or(0))));
    }
    if sysctl::has_ipv6() {
        let quiet = RouteNetlinkMessage::SetLink(link_messages::without_link_local(index));
        steps.push(Step::new("set up IPv6 of", "", Request::on(quiet)));
    }
    let flags = |flags| Request::on(RouteNetlinkMessage::NewLink(link_messages::port_settings(index, flags)));
    if port.bridge.is_some() {
        steps.push(Step::new("set the port flags of", "", flags(port.flags())));
    }
    steps.push(Step::new("bring up", "", Request::on(messages::up(index))));
    if port.bridge.is_some() && !port.is_foreign {
        let forwarding = vec![InfoBridgePort::State(BridgePortState::Forwarding)];
        let mut step = Step::new("let packets pass", "", flags(forwarding));
        // The guest's end, or the bridge, is down.
        step.fine = &[libc::ENETDOWN];
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::Network;
    use crate::sys::net::guest_net;
    use crate::sys::net::netlink::Attachment;
    use crate::sys::net::netns_fixture::{
        Netns, attachment, comes_to_ping, in_new_netns, json, names, nic, pings, run,
    };

    const LINK: &str = "ng00000001";

    fn network() -> Network {
        Network::new(
            "lan",
            "test0",
            Some("10.9.0.1/20".parse().unwrap()),
            Some("fd00:9::1/64".parse().unwrap()),
        )
    }

    fn own() -> Nic {
        let mut nic = nic("eth0", 1);
        nic.ipv4 = Some("10.9.0.5/20".parse().unwrap());
        nic.gateway4 = Some("10.9.0.1".parse().unwrap());
        nic.ipv6 = Some("fd00:9::5/64".parse().unwrap());
        (nic.settings.ingress, nic.settings.egress) = (Some(50_000_000_000), Some(20_000_000));
        nic
    }

    fn bridge() -> u32 {
        Netlink::open().unwrap().ensure_bridge(&network(), "nagaya lan").unwrap().index
    }

    fn port<'a>(nic: &'a Nic, names: &'a (String, String), bridge: u32) -> Port<'a> {
        let (mtu, isolated, is_foreign) = (None, true, false);
        let bridge = matches!(nic.kind, NicKind::Bridged { .. }).then_some(bridge);
        Port { nic, host_name: &names.0, shaper_name: &names.1, bridge, is_foreign, mtu, isolated }
    }

    /// What is seen of the link and its shaper from outside, without what differs each time.
    fn seen() -> String {
        let mut all = String::new();
        for link in [LINK, "ig00000001"] {
            let shown = json("ip", &format!("-j -d link show {link}"));
            for key in ["flags", "mtu", "master", "group", "inet6_addr_gen_mode"] {
                all += &format!("{link} {key} {}\n", shown[0][key]);
            }
            let port = &shown[0]["linkinfo"]["info_slave_data"];
            for flag in ["state", "isolated", "learning", "flood", "mcast_flood", "bcast_flood", "locked"] {
                all += &format!("{flag} {}\n", port[flag]);
            }
            all += &run("tc", &format!("qdisc show dev {link}"));
        }
        let filters = run("tc", &format!("filter show dev {LINK} ingress"));
        let word = |line: &&str| ["bpf", "action", "mirred"].iter().any(|word| line.contains(word));
        let plain = |line: &str| line.split(" id ").next().unwrap_or_default().to_owned();
        all + &filters.lines().filter(word).map(plain).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn whatever_was_changed_of_a_link_is_found_and_put_back() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let (guest, own, names) = (Netns::new(), own(), names(1));
            let index = bridge();
            netlink
                .attach(&Attachment { isolated: true, ..attachment(&own, &names, index, &guest) })
                .unwrap();
            guest.run(|| guest_net::configure(std::slice::from_ref(&own)).unwrap());
            assert!(comes_to_ping("10.9.0.5"));
            let port = port(&own, &names, index);
            assert_eq!(netlink.mend(&port).unwrap(), [], "what was just made is whole");
            let whole = seen();
            for (program, harm, fault) in [
                ("ip", "link set ng00000001 down", Fault::Down),
                ("ip", "link set ng00000001 nomaster", Fault::OffBridge),
                ("ip", "link set ng00000001 mtu 1300", Fault::Mtu),
                ("ip", "link set ng00000001 address fe:00:00:00:00:99", Fault::Mac),
                ("ip", "link set ng00000001 addrgenmode eui64", Fault::Flags),
                ("bridge", "link set dev ng00000001 isolated off", Fault::Flags),
                ("bridge", "link set dev ng00000001 state 0", Fault::Flags),
                ("bridge", "link set dev ng00000001 learning off", Fault::Flags),
                ("bridge", "link set dev ng00000001 flood off", Fault::Flags),
                ("bridge", "link set dev ng00000001 locked on", Fault::Flags),
                ("tc", "filter del dev ng00000001 ingress pref 1", Fault::Filter),
                ("tc", "qdisc del dev ng00000001 clsact", Fault::Filter),
                ("tc", "qdisc del dev ng00000001 root", Fault::Rates),
                (
                    "tc",
                    "qdisc replace dev ng00000001 root handle 1: tbf rate 1mbit burst 32k latency 50ms",
                    Fault::Rates,
                ),
                ("tc", "filter del dev ng00000001 ingress pref 2", Fault::Rates),
                ("tc", "qdisc del dev ig00000001 root", Fault::Rates),
                ("ip", "link set ig00000001 down", Fault::Rates),
                ("ip", "link del ig00000001", Fault::Rates),
            ] {
                run(program, harm);
                assert!(netlink.faults(&port).unwrap().contains(&fault), "{harm}");
                let mended = netlink.mend(&port).unwrap_or_else(|e| panic!("{harm}: {e}"));
                assert!(mended.contains(&fault), "{harm}: {mended:?}");
                assert_eq!(netlink.faults(&port).unwrap(), [], "{harm}");
                assert!(seen() == whole, "{harm}: {}", seen());
                assert!(comes_to_ping("10.9.0.5"), "{harm}");
            }
            // All at once, by way of the bridge.
            run("ip", "link del test0");
            run("ip", "link set ng00000001 down");
            assert!(!pings("10.9.0.5"));
            let port = Port { bridge: Some(bridge()), ..port };
            assert_eq!(netlink.mend(&port).unwrap()[..2], [Fault::Down, Fault::OffBridge]);
            assert!(comes_to_ping("10.9.0.5") && comes_to_ping("fd00:9::5"));
            run("ip", "link del ng00000001");
            assert_eq!(netlink.mend(&port).unwrap(), [Fault::Gone]);
            run("ip", "link add ng00000001 type veth peer name stray0");
            run("ip", "link set ng00000001 group 7");
            assert!(matches!(netlink.mend(&port), Err(NetlinkError::NotOurs { .. })));
        });
    }

    #[test]
    fn a_routed_link_has_its_gateways_routes_and_proxies_again() {
        in_new_netns(|| {
            for command in [
                "link add up0 type bridge",
                "addr add 192.0.2.1/24 dev up0",
                "link set up0 up",
                "route add default via 192.0.2.9",
            ] {
                run("ip", command);
            }
            sysctl::enable_forwarding(true).unwrap();
            let netlink = Netlink::open().unwrap();
            let (guest, mut own, names) = (Netns::new(), nic("eth0", 1), names(1));
            own.kind = NicKind::Routed;
            own.ipv4 = Some("192.0.2.77/32".parse().unwrap());
            own.ipv6 = Some("2001:db8::77/128".parse().unwrap());
            netlink.attach(&attachment(&own, &names, 0, &guest)).unwrap();
            guest.run(|| guest_net::configure(std::slice::from_ref(&own)).unwrap());
            assert!(comes_to_ping("192.0.2.77"));
            let port = Port { isolated: false, ..port(&own, &names, 0) };
            assert_eq!(netlink.mend(&port).unwrap(), []);
            for (harm, fault) in [
                ("route del 192.0.2.77 dev ng00000001", Fault::Routes),
                ("-6 route del 2001:db8::77 dev ng00000001", Fault::Routes),
                ("addr del 169.254.0.1/32 dev ng00000001", Fault::Routes),
                ("neigh del proxy 192.0.2.77 dev up0", Fault::Routes),
                ("addr flush dev ng00000001", Fault::Routes),
                ("link set ng00000001 down", Fault::Down),
                ("link set ng00000001 master up0", Fault::OffBridge),
            ] {
                run("ip", harm);
                let mended = netlink.mend(&port).unwrap_or_else(|e| panic!("{harm}: {e}"));
                assert!(mended.contains(&fault), "{harm}: {mended:?}");
                assert!(comes_to_ping("192.0.2.77") && comes_to_ping("2001:db8::77"), "{harm}");
                let proxies = run("ip", "neigh show proxy");
                assert!(proxies.contains("192.0.2.77"), "{harm}: {proxies}");
            }
        });
    }
}
