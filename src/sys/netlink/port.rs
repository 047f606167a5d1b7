//! The links of containers' interfaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::channel::Request;
use super::rates::Rates;
use super::{Link, Netlink, NetlinkError, but, found, is, messages};
use crate::model::instance::{is_host_link, is_shaper_link};
use crate::model::mac::Mac;
use crate::model::nic::{Nic, NicKind};
use crate::render::spoof::{self, Guard, Instruction};
use crate::sys::{sysctl, tc};

/// The group of all links of ours (`ip link show group 28263`), which tells them from others' that are
/// called alike. It is given when a link is made, as an alias cannot be.
pub const LINK_GROUP: u32 = 0x6e67;

/// One interface of one container that is to be.
pub struct Plug<'a> {
    pub nic: &'a Nic,
    /// `Instance::host_link` and `Instance::shaper_link` of the container and the interface's slot.
    pub host_name: &'a str,
    pub shaper_name: &'a str,
    /// Index of the bridge that the host's end becomes a port of.
    pub bridge: Option<u32>,
    /// What the network's interfaces have unless theirs is said.
    pub network_mtu: Option<u32>,
    /// Whether the port reaches no other isolated port of its bridge.
    pub isolated: bool,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
}

impl Plug<'_> {
    fn mtu(&self) -> Option<u32> {
        self.nic.settings.mtu.or(self.network_mtu)
    }

    fn rates(&self) -> Rates {
        Rates { ingress: self.nic.settings.ingress, egress: self.nic.settings.egress }
    }
}

/// What is done to a link once it is there, for the words of an error.
pub(super) struct Step {
    pub what: &'static str,
    /// What the kernel lacks if it does not know what is meant.
    pub modules: &'static str,
    pub request: Request,
    /// Failures that are as good as success.
    pub fine: &'static [i32],
}

impl Step {
    pub fn new(what: &'static str, modules: &'static str, request: Request) -> Self {
        Self { what, modules, request, fine: &[] }
    }
}

/// A host's end and, where the guest's rate is limited, the device that its frames wait in.
struct Pair {
    host: Link,
    shaper: Option<u32>,
}

impl Netlink {
    /// Makes an interface. Its end in the guest has its name and Ethernet address from the start and is
    /// never seen on the host. The host's end comes up last of all, so no frame passes before its filter
    /// is there and has been read back. Three exchanges with the kernel; on failure nothing is left.
    pub fn plug(&self, plug: &Plug<'_>) -> Result<(), NetlinkError> {
        check_names(plug.host_name, plug.shaper_name)?;
        match &plug.nic.kind {
            NicKind::Macvlan { parent } => return self.plug_macvlan(plug, parent),
            NicKind::Bridged { network } if plug.bridge.is_none() => {
                let (name, network) = (plug.host_name.to_owned(), network.clone());
                return Err(NetlinkError::Unbridged { name, network });
            }
            NicKind::Bridged { .. } | NicKind::Routed => {}
        }
        let pair = self.create_pair(plug)?;
        let done = self.furnish(plug, &pair).and_then(|()| self.let_go(plug, &pair));
        if done.is_err() {
            let both = [Some(pair.host.index), pair.shaper].into_iter().flatten();
            let undone = self.ask(both.map(|index| Request::on(messages::delete_link(index))).collect());
            tracing::debug!(
                link = plug.host_name,
                ok = undone.is_ok(),
                "link deleted that could not be set up"
            );
        }
        done
    }

    /// Deletes what [`Netlink::plug`] made. What is not there is fine: a link goes by itself when the
    /// container's network namespace does, at some moment after the last process.
    pub fn unplug(&self, host_name: &str, shaper_name: &str) -> Result<(), NetlinkError> {
        self.unplug_all(&[(host_name.to_owned(), shaper_name.to_owned())])
    }

    /// The same for pairs of a host's end and a shaper, at once.
    pub fn unplug_all(&self, pairs: &[(String, String)]) -> Result<(), NetlinkError> {
        for (host_name, shaper_name) in pairs {
            check_names(host_name, shaper_name)?;
        }
        let names: Vec<(&String, InfoKind)> = pairs
            .iter()
            .flat_map(|(host, shaper)| [(host, InfoKind::Veth), (shaper, InfoKind::Ifb)])
            .collect();
        let asked = names.iter().map(|(name, _)| Request::on(messages::link_named(name))).collect();
        let mut there = Vec::new();
        for ((name, kind), reply) in names.iter().zip(self.ask(asked)?) {
            if let Some(link) = found(name, reply)? {
                there.push((name.as_str(), ours(name, link, kind)?.index));
            }
        }
        let deletions = there.iter().map(|(_, index)| Request::on(messages::delete_link(*index))).collect();
        for ((name, _), reply) in there.iter().zip(self.ask(deletions)?) {
            but(reply, &[libc::ENODEV])
                .map_err(|source| NetlinkError::Delete { name: (*name).to_owned(), source })?;
        }
        self.forget_proxies()
    }

    /// Sets whether a port reaches other isolated ports of its bridge.
    pub fn set_port_isolated(&self, host_name: &str, isolated: bool) -> Result<(), NetlinkError> {
        let link = self.our_host_link(host_name)?;
        let port = RouteNetlinkMessage::NewLink(port_settings(link.index, isolated));
        self.run(host_name, vec![Step::new("isolate", "", Request::on(port))])
    }

    /// Sets what may come from the guest; `None` lifts the filter.
    pub fn set_guard(&self, host_name: &str, guard: Option<&Guard>) -> Result<(), NetlinkError> {
        let index = self.our_host_link(host_name)?.index;
        match guard.map(spoof::program) {
            Some(program) => {
                let steps = vec![clsact_step(index), guard_step(index, &program)];
                self.run_and_verify(host_name, steps, index, &program)
            }
            None => {
                let mut step = Step::new("lift the filter of", "", Request::on(tc::no_guard(index)));
                step.fine = &[libc::ENOENT, libc::EINVAL];
                self.run(host_name, vec![step])
            }
        }
    }

    /// Whether exactly this filter is at the link's ingress.
    pub fn is_guarded(&self, host_name: &str, guard: &Guard) -> Result<bool, NetlinkError> {
        let index = self.our_host_link(host_name)?.index;
        let filters = self.list("filters", || tc::filters(index))?;
        Ok(tc::is_guarded(&filters, &spoof::program(guard)))
    }

    /// The host's end of that name, which is ours.
    pub(super) fn our_host_link(&self, name: &str) -> Result<Link, NetlinkError> {
        if !is_host_link(name) {
            return Err(NetlinkError::LinkName(name.to_owned()));
        }
        let link = self.link(name)?.ok_or_else(|| NetlinkError::NoLink(name.to_owned()))?;
        ours(name, link, &InfoKind::Veth)
    }

    fn create_pair(&self, plug: &Plug<'_>) -> Result<Pair, NetlinkError> {
        let shaped = plug.nic.settings.egress.is_some();
        let mut requests = vec![Request::create(RouteNetlinkMessage::NewLink(pair(plug)))];
        requests.push(Request::on(messages::link_named(plug.host_name)));
        if shaped {
            requests.push(Request::create(RouteNetlinkMessage::NewLink(shaper(plug.shaper_name))));
            requests.push(Request::on(messages::link_named(plug.shaper_name)));
        }
        let mut replies = self.ask(requests)?.into_iter();
        let mut next = || replies.next().unwrap_or_else(|| Ok(Vec::new()));
        let cannot = |name: &str| {
            let name = name.to_owned();
            move |source| NetlinkError::CreateLink { name, source }
        };
        next().map_err(cannot(plug.host_name))?;
        let host = found(plug.host_name, next())?;
        let host = host.ok_or_else(|| NetlinkError::NoLink(plug.host_name.to_owned()))?;
        if !shaped {
            return Ok(Pair { host, shaper: None });
        }
        match shaper_index(plug.shaper_name, next(), next()) {
            Ok(index) => Ok(Pair { host, shaper: Some(index) }),
            Err(error) => {
                let _ = self.ask_one(Request::on(messages::delete_link(host.index)));
                Err(error)
            }
        }
    }

    /// All that must be so before the link comes up.
    fn furnish(&self, plug: &Plug<'_>, pair: &Pair) -> Result<(), NetlinkError> {
        let index = pair.host.index;
        let mut steps = Vec::new();
        if plug.bridge.is_some() {
            let port = RouteNetlinkMessage::NewLink(port_settings(index, plug.isolated));
            steps.push(Step::new("set the port flags of", "", Request::on(port)));
        }
        if sysctl::has_ipv6() {
            let quiet = RouteNetlinkMessage::SetLink(without_link_local(index));
            steps.push(Step::new("set up IPv6 of", "", Request::on(quiet)));
        }
        let program = Guard::of(plug.nic).map(|guard| spoof::program(&guard));
        if program.is_some() {
            steps.push(clsact_step(index));
        }
        steps.extend(program.iter().map(|program| guard_step(index, program)));
        steps.extend(plug.rates().steps(&pair.host, pair.shaper));
        if plug.nic.kind == NicKind::Routed {
            sysctl::harden_routed(plug.host_name)
                .map_err(|source| NetlinkError::Settings { link: plug.host_name.to_owned(), source })?;
            steps.extend(self.gateway_steps(plug.nic, index));
        }
        match program {
            Some(program) => self.run_and_verify(plug.host_name, steps, index, &program),
            None => self.run(plug.host_name, steps),
        }
    }

    fn let_go(&self, plug: &Plug<'_>, pair: &Pair) -> Result<(), NetlinkError> {
        let index = pair.host.index;
        self.run(plug.host_name, vec![Step::new("bring up", "", Request::on(messages::up(index)))])?;
        match plug.nic.kind {
            NicKind::Routed => self.add_routes(plug.nic, plug.host_name, index),
            _ => Ok(()),
        }
    }

    fn plug_macvlan(&self, plug: &Plug<'_>, parent: &str) -> Result<(), NetlinkError> {
        let parent_link = self.link(parent)?.ok_or_else(|| NetlinkError::NoLink(parent.to_owned()))?;
        let mut message = guest_end(plug);
        message.attributes.extend([
            LinkAttribute::Link(parent_link.index),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
            ]),
        ]);
        let made = self.ask_one(Request::create(RouteNetlinkMessage::NewLink(message)))?;
        made.map(drop).map_err(|source| NetlinkError::Macvlan {
            name: plug.nic.name.clone(),
            parent: parent.to_owned(),
            source,
        })
    }

    /// Takes all steps at once. The first that fails is told.
    pub(super) fn run(&self, name: &str, steps: Vec<Step>) -> Result<(), NetlinkError> {
        self.run_before(name, steps, None).map(drop)
    }

    /// The same, and makes sure that the link's filter is what it was set to.
    fn run_and_verify(
        &self,
        name: &str,
        steps: Vec<Step>,
        index: u32,
        program: &[Instruction],
    ) -> Result<(), NetlinkError> {
        let found = self.run_before(name, steps, Some(Request::list(tc::filters(index))))?;
        match tc::is_guarded(&found, program) {
            true => Ok(()),
            false => Err(NetlinkError::Unguarded(name.to_owned())),
        }
    }

    fn run_before(
        &self,
        name: &str,
        steps: Vec<Step>,
        last: Option<Request>,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let words: Vec<_> = steps.iter().map(|step| (step.what, step.modules, step.fine)).collect();
        let requests = steps.into_iter().map(|step| step.request).chain(last).collect();
        let mut replies = self.ask(requests)?.into_iter();
        for ((what, modules, fine), reply) in words.into_iter().zip(&mut replies) {
            let name = || name.to_owned();
            but(reply, fine).map_err(|source| match is_unknown(&source) && !modules.is_empty() {
                true => NetlinkError::Lacks { name: name(), what, modules },
                false => NetlinkError::Configure { name: name(), what, source },
            })?;
        }
        let last = replies.next().unwrap_or_else(|| Ok(Vec::new()));
        last.map_err(|source| NetlinkError::List { what: "filters", source })
    }
}

/// How the kernel says that it does not know a kind of link, of queue or of filter.
fn is_unknown(error: &io::Error) -> bool {
    is(error, libc::ENOENT) || is(error, libc::EOPNOTSUPP)
}

pub(super) fn clsact_step(index: u32) -> Step {
    let mut step = Step::new("filter", tc::GUARD_MODULES, Request::create(tc::clsact(index)));
    step.fine = &[libc::EEXIST];
    step
}

fn guard_step(index: u32, program: &[Instruction]) -> Step {
    Step::new("filter", tc::GUARD_MODULES, Request::put(tc::guard(index, program)))
}

fn check_names(host_name: &str, shaper_name: &str) -> Result<(), NetlinkError> {
    match (is_host_link(host_name), is_shaper_link(shaper_name)) {
        (true, true) => Ok(()),
        (true, false) => Err(NetlinkError::LinkName(shaper_name.to_owned())),
        (false, _) => Err(NetlinkError::LinkName(host_name.to_owned())),
    }
}

/// The link, if it is of that kind and we made it. The first version knew only slot 0 and no group.
pub(super) fn ours(name: &str, link: Link, kind: &InfoKind) -> Result<Link, NetlinkError> {
    let first_version = link.group == 0 && (name.starts_with("ng") || name.starts_with('u'));
    match link.kind.as_ref() == Some(kind) && (link.group == LINK_GROUP || first_version) {
        true => Ok(link),
        false => Err(NetlinkError::NotOurs { name: name.to_owned() }),
    }
}

/// The index of a shaper, which may be left from an earlier link of that name.
pub(super) fn shaper_index(
    name: &str,
    made: super::Reply,
    looked_up: super::Reply,
) -> Result<u32, NetlinkError> {
    but(made, &[libc::EEXIST]).map_err(|source| match is_unknown(&source) {
        true => NetlinkError::Lacks { name: name.to_owned(), what: "create", modules: "ifb" },
        false => NetlinkError::CreateLink { name: name.to_owned(), source },
    })?;
    let link = found(name, looked_up)?.ok_or_else(|| NetlinkError::NoLink(name.to_owned()))?;
    Ok(ours(name, link, &InfoKind::Ifb)?.index)
}

/// Both ends of a link, the host's not yet up.
fn pair(plug: &Plug<'_>) -> LinkMessage {
    let mut builder = link_of(InfoKind::Veth, plug.host_name, plug.nic.mac.host_end())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(guest_end(plug))));
    if let Some(mtu) = plug.mtu() {
        builder = builder.mtu(mtu);
    }
    if let Some(bridge) = plug.bridge {
        builder = builder.controller(bridge);
    }
    builder.build()
}

fn guest_end(plug: &Plug<'_>) -> LinkMessage {
    let mut builder = LinkMessageBuilder::<LinkUnspec>::default()
        .name(plug.nic.name.as_str())
        .address(plug.nic.mac.0.to_vec())
        .append_extra_attribute(LinkAttribute::Group(LINK_GROUP))
        .setns_by_fd(plug.netns.as_raw_fd());
    if let Some(mtu) = plug.mtu() {
        builder = builder.mtu(mtu);
    }
    builder.build()
}

fn link_of(kind: InfoKind, name: &str, mac: Mac) -> LinkMessageBuilder<LinkUnspec> {
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind)
        .name(name)
        .address(mac.0.to_vec())
        .append_extra_attribute(LinkAttribute::Group(LINK_GROUP))
}

pub(super) fn shaper(name: &str) -> LinkMessage {
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Ifb)
        .name(name)
        .append_extra_attribute(LinkAttribute::Group(LINK_GROUP))
        .build()
}

fn port_settings(index: u32, isolated: bool) -> LinkMessage {
    let settings = vec![InfoBridgePort::Isolated(isolated), InfoBridgePort::HairpinMode(false)];
    let mut message = messages::link_of_index(index);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(settings)),
    ]));
    message
}

/// The host's end has no use for a link-local address of its own making, nor the guest for what the
/// host would say about it.
fn without_link_local(index: u32) -> LinkMessage {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let mut message = messages::link_of_index(index);
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    message
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::model::network::Network;
    use crate::render::spoof::frames::{self, OWN4, OWN6};
    use crate::sys::guest_net;
    use crate::sys::netlink::Bridge;
    use crate::sys::netns_fixture::{Netns, comes_to_ping, in_new_netns, json, names, nic, pings, plug, run};
    use crate::sys::packet_fixture::Packets;

    fn bridge(netlink: &Netlink) -> Bridge {
        let (ipv4, ipv6) = ("10.9.0.1/20".parse().unwrap(), "fd00:9::1/64".parse().unwrap());
        netlink.ensure_bridge(&Network::new("lan", "test0", Some(ipv4), Some(ipv6)), "nagaya lan").unwrap()
    }

    /// The interface number `n` of the network, with the addresses .`4 + n` and ::`4 + n`.
    fn numbered(n: u8) -> Nic {
        let mut nic = nic("eth0", n);
        nic.ipv4 = Some(format!("10.9.0.{}/20", 4 + n).parse().unwrap());
        nic.gateway4 = Some("10.9.0.1".parse().unwrap());
        nic.ipv6 = Some(format!("fd00:9::{:x}/64", 4 + n).parse().unwrap());
        nic.gateway6 = Some("fd00:9::1".parse().unwrap());
        nic
    }

    fn is_up(link: &str) -> bool {
        let shown = json("ip", &format!("-j link show {link}"));
        shown[0]["flags"].as_array().unwrap().iter().any(|flag| flag == "UP")
    }

    fn is_there(link: &str) -> bool {
        run("ip", "-br link").lines().any(|line| line.split([' ', '@']).next() == Some(link))
    }

    /// Links are told of their carrier a little later than it is there.
    fn await_carrier(links: &[&str]) {
        let start = Instant::now();
        let has = |link: &&str| json("ip", &format!("-j link show {link}"))[0]["operstate"] == "UP";
        while !links.iter().all(has) {
            assert!(start.elapsed() < Duration::from_secs(5), "no carrier");
        }
    }

    fn port(link: &str) -> serde_json::Value {
        json("ip", &format!("-j -d link show {link}"))[0]["linkinfo"]["info_slave_data"].clone()
    }

    #[test]
    fn a_plugged_interface_is_whole() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            let (guest, nic) = (Netns::new(), numbered(1));
            let names = names(0x0123_abcd);
            let mut plug = plug(&nic, &names, bridge.index, &guest);
            (plug.network_mtu, plug.isolated) = (Some(1400), true);
            netlink.plug(&plug).unwrap();
            let shown = json("ip", "-j -d addr show ng0123abcd");
            let host_end = &shown[0];
            assert_eq!(host_end["address"], "fe:01:02:03:04:01");
            assert_eq!((&host_end["master"], &host_end["mtu"]), (&"test0".into(), &1400.into()));
            assert_eq!(host_end["group"], LINK_GROUP.to_string());
            assert_eq!(host_end["addr_info"].as_array().unwrap().len(), 0, "{host_end}");
            assert!(is_up("ng0123abcd"));
            assert_eq!(port("ng0123abcd")["isolated"], true);
            assert_eq!(port("ng0123abcd")["hairpin"], false);
            let guest_end = guest.run(|| json("ip", "-j -d link show eth0"));
            assert_eq!(guest_end[0]["address"], "02:01:02:03:04:01");
            assert_eq!(
                (&guest_end[0]["linkinfo"]["info_kind"], &guest_end[0]["mtu"]),
                (&"veth".into(), &1400.into())
            );
            let filters = run("tc", "filter show dev ng0123abcd ingress");
            assert!(filters.contains("pref 1 bpf") && filters.contains("direct-action"), "{filters}");
            let guard = Guard::of(&nic).unwrap();
            assert!(netlink.is_guarded("ng0123abcd", &guard).unwrap());
            assert!(!netlink.is_guarded("ng0123abcd", &Guard { ipv4: None, ..guard }).unwrap());
            let laxer = Guard { ipv6: None, ..frames::guard() };
            netlink.set_guard("ng0123abcd", Some(&laxer)).unwrap();
            assert!(netlink.is_guarded("ng0123abcd", &laxer).unwrap());
            let filters = run("tc", "filter show dev ng0123abcd ingress");
            assert_eq!(filters.matches("direct-action").count(), 1, "{filters}");
            netlink.set_port_isolated("ng0123abcd", false).unwrap();
            assert_eq!(port("ng0123abcd")["isolated"], false);
        });
    }

    #[test]
    fn host_and_guest_reach_each_other_also_after_a_reboot() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            let (first, nic) = (Netns::new(), numbered(1));
            netlink.plug(&plug(&nic, &names(1), bridge.index, &first)).unwrap();
            let reaches = || {
                guest_net::configure(std::slice::from_ref(&nic)).unwrap();
                assert!(comes_to_ping("10.9.0.1") && comes_to_ping("fd00:9::1"));
            };
            first.run(reaches);
            assert!(pings("10.9.0.5") && pings("fd00:9::5"));
            let second = Netns::new();
            first.run(|| guest_net::move_links_to_netns(&["eth0"], second.as_fd()).unwrap());
            assert!(!pings("10.9.0.5"));
            second.run(reaches);
            assert_eq!(json("ip", "-j link show ng00000001")[0]["master"], "test0");
        });
    }

    /// Every frame of the tests' list is sent by one guest; another, to which the bridge floods them,
    /// sees exactly those that may pass.
    #[test]
    fn the_kernel_judges_frames_as_the_rules_say() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            // Where br_netfilter is loaded, it drops frames on a bridge that are no good as IP packets.
            for table in ["iptables", "ip6tables", "arptables"] {
                let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{table}"), "0");
            }
            let (guest, witness, own) = (Netns::new(), Netns::new(), numbered(1));
            assert_eq!(Guard::of(&own), Some(frames::guard()));
            assert_eq!((own.ipv4.unwrap().ip(), own.ipv6.unwrap().ip()), (OWN4, OWN6));
            netlink.plug(&plug(&own, &names(1), bridge.index, &guest)).unwrap();
            netlink.plug(&plug(&numbered(2), &names(2), bridge.index, &witness)).unwrap();
            let eyes = witness.run(|| {
                run("ip", "link set eth0 up");
                Packets::on("eth0")
            });
            let cases = frames::cases();
            let last = frames::ethernet(
                frames::MAC,
                0x0806,
                &cases.iter().find(|c| c.0 == "ARP request").unwrap().2[14..],
            );
            let last = [&last[..], b"the last frame"].concat();
            guest.run(|| run("ip", "link set eth0 up"));
            await_carrier(&["ng00000001", "ng00000002"]);
            let send = |filtered: bool| {
                guest.run(|| {
                    let mouth = Packets::on("eth0");
                    for (_, _, frame) in &cases {
                        mouth.send(frame);
                    }
                    mouth.send(&last);
                });
                let seen = eyes.receive_until(b"the last frame");
                for (what, passes, frame) in &cases {
                    // The kernel takes a tag out of a frame before a witness sees it.
                    let tagged = [[0x81, 0x00], [0x88, 0xa8]].contains(&[frame[12], frame[13]]);
                    let came = seen.contains(frame);
                    assert!(came == (*passes || !filtered) || tagged && !filtered, "{what}: {came}");
                }
                seen.len()
            };
            let few = send(true);
            // The same without the filter shows that nothing else held them back.
            netlink.set_guard("ng00000001", None).unwrap();
            assert!(send(false) > few);
            netlink.set_guard("ng00000001", Guard::of(&own).as_ref()).unwrap();
            send(true);
            assert!(netlink.is_guarded("ng00000001", &frames::guard()).unwrap());
        });
    }

    /// A guest that sends all the time while its host's end is being made: none of it gets through that
    /// the filter would hold back.
    #[test]
    fn no_frame_passes_before_the_filter_is_there() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            let (guest, witness, own) = (Netns::new(), Netns::new(), numbered(1));
            netlink.plug(&plug(&numbered(2), &names(2), bridge.index, &witness)).unwrap();
            let eyes = witness.run(|| {
                run("ip", "link set eth0 up");
                Packets::on("eth0")
            });
            let cases = frames::cases();
            let frame = |wanted: &str| cases.iter().find(|(what, ..)| *what == wanted).unwrap().2.clone();
            let (good, bad) = (frame("ARP request"), frame("ARP for another"));
            let (last, good) = ([&good[..], b"last"].concat(), [&good[..], b"good"].concat());
            for _ in 0..10 {
                let done = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    scope.spawn(|| guest.run(|| chatter(&[&bad, &good], &last, &done)));
                    netlink.plug(&plug(&own, &names(1), bridge.index, &guest)).unwrap();
                    for _ in 0..100 {
                        assert!(!eyes.receive_until(b"good").contains(&bad));
                    }
                    done.store(true, Ordering::Relaxed);
                });
                assert!(!eyes.receive_until(b"last").contains(&bad));
                netlink.unplug("ng00000001", "ig00000001").unwrap();
            }
        });
    }

    /// Brings up eth0 as soon as it is there and sends `frames` over and over; an end that is down or
    /// without carrier refuses them. When it is `done`, sends `last`.
    fn chatter(frames: &[&[u8]], last: &[u8], done: &AtomicBool) {
        let start = Instant::now();
        while nix::net::if_::if_nametoindex("eth0").is_err() {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        run("ip", "link set eth0 up");
        let mouth = Packets::on("eth0");
        while !done.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(10) {
            frames.iter().for_each(|frame| mouth.try_send(frame));
            std::thread::sleep(Duration::from_micros(100));
        }
        mouth.send(last);
    }

    #[test]
    fn isolated_ports_reach_the_host_alone() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            let guests = [Netns::new(), Netns::new()];
            for (n, guest) in (1u8..).zip(&guests) {
                let (nic, names) = (numbered(n), names(n.into()));
                netlink.plug(&Plug { isolated: true, ..plug(&nic, &names, bridge.index, guest) }).unwrap();
                guest.run(|| guest_net::configure(&[nic]).unwrap());
            }
            guests[0].run(|| {
                assert!(comes_to_ping("10.9.0.1") && comes_to_ping("fd00:9::1") && !pings("10.9.0.6"));
            });
            netlink.set_port_isolated("ng00000001", false).unwrap();
            guests[0].run(|| {
                // Lest it wait for the answer to an earlier question.
                run("ip", "neigh flush all");
                assert!(comes_to_ping("10.9.0.6") && comes_to_ping("fd00:9::6"));
            });
        });
    }

    #[test]
    fn only_our_links_are_deleted() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            let guest = Netns::new();
            let mut own = numbered(1);
            own.settings.egress = Some(1_000_000_000);
            netlink.plug(&plug(&own, &names(0x0123_abcd), bridge.index, &guest)).unwrap();
            assert!(is_there("ng0123abcd") && is_there("ig0123abcd"));
            for others in [
                "link add ng00000001 type bridge",
                // What docker might call one of its own; a user's container has the same name for it.
                "link add veth0abcdef type veth peer name veth1",
                "link add ig00000003 type veth peer name veth3",
            ] {
                run("ip", others);
            }
            netlink.unplug("ng0123abcd", "ig0123abcd").unwrap();
            netlink.unplug("ng0123abcd", "ig0123abcd").unwrap();
            assert!(!is_there("ng0123abcd") && !is_there("ig0123abcd"));
            for (host, shaper) in
                [("ng00000001", "ig00000001"), ("veth0abcdef", "beth0abcdef"), ("ng00000003", "ig00000003")]
            {
                let refused = netlink.unplug(host, shaper);
                assert!(matches!(refused, Err(NetlinkError::NotOurs { .. })), "{host}: {refused:?}");
            }
            for name in ["test0", "ng0123abc", "ng0123abcde", "ng0123ABCD", "ng", "ig0123abcd"] {
                let refused = netlink.unplug(name, "ig0123abcd");
                assert!(matches!(refused, Err(NetlinkError::LinkName(_))), "{name}");
                assert!(matches!(
                    netlink.unplug("ng0123abcd", name),
                    Err(NetlinkError::LinkName(_)) | Ok(())
                ));
            }
            assert!(guest.run(|| !is_there("eth0")));
            assert!(is_there("veth0abcdef") && is_there("ng00000001") && is_there("ig00000003"));
            // As the first version made them.
            run("ip", "link add ng00000007 type veth peer name stray7");
            netlink.unplug("ng00000007", "ig00000007").unwrap();
            assert!(!is_there("ng00000007"));
        });
    }

    #[test]
    fn a_link_that_cannot_be_whole_is_not_there_at_all() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            let guest = Netns::new();
            let mut own = numbered(1);
            // The name that its shaper would have is another's.
            own.settings.egress = Some(1_000_000);
            run("ip", "link add ig00000001 type bridge");
            let refused = netlink.plug(&plug(&own, &names(1), bridge.index, &guest));
            assert!(matches!(refused, Err(NetlinkError::NotOurs { .. })), "{refused:?}");
            assert!(!is_there("ng00000001") && is_there("ig00000001"));
            run("ip", "link del ig00000001");
            // An address that is routed to another already.
            let mut routed = numbered(2);
            routed.kind = NicKind::Routed;
            routed.ipv4 = Some("192.0.2.9/32".parse().unwrap());
            routed.settings.egress = Some(1_000_000);
            run("ip", "route add 192.0.2.9/32 dev test0");
            let refused = netlink.plug(&plug(&routed, &names(2), 0, &guest));
            assert!(matches!(refused, Err(NetlinkError::Route { .. })), "{refused:?}");
            assert!(!is_there("ng00000002") && !is_there("ig00000002"));
            // There already.
            own.settings.egress = None;
            netlink.plug(&plug(&own, &names(1), bridge.index, &guest)).unwrap();
            let refused = netlink.plug(&plug(&own, &names(1), bridge.index, &Netns::new()));
            assert!(matches!(refused, Err(NetlinkError::CreateLink { .. })), "{refused:?}");
            assert!(
                is_there("ng00000001")
                    && netlink.is_guarded("ng00000001", &Guard::of(&own).unwrap()).unwrap()
            );
            let names = names(3);
            let nowhere = Plug { bridge: None, ..plug(&own, &names, bridge.index, &guest) };
            let refused = netlink.plug(&nowhere).unwrap_err().to_string();
            assert_eq!(refused, "network 'lan' has no bridge that 'ng00000003' could be a port of");
        });
    }

    #[test]
    fn a_macvlan_stands_beside_its_parent() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            run("ip", "link add up0 type veth peer name far0");
            let far = Netns::new();
            run("ip", "link set up0 up");
            guest_net::move_links_to_netns(&["far0"], far.as_fd()).unwrap();
            far.run(|| {
                run("ip", "addr add 10.9.0.1/20 dev far0");
                run("ip", "link set far0 up");
            });
            let guest = Netns::new();
            let mut own = numbered(1);
            own.kind = NicKind::Macvlan { parent: "up0".to_owned() };
            let names = names(1);
            netlink.plug(&plug(&own, &names, 0, &guest)).unwrap();
            assert!(!is_there("ng00000001") && !is_there("eth0"));
            guest.run(|| {
                let link = json("ip", "-j -d link show eth0");
                assert_eq!(link[0]["address"], "02:01:02:03:04:01");
                assert_eq!(link[0]["linkinfo"]["info_kind"], "macvlan");
                assert_eq!(link[0]["linkinfo"]["info_data"]["mode"], "bridge");
                guest_net::configure(std::slice::from_ref(&own)).unwrap();
                assert!(comes_to_ping("10.9.0.1"));
            });
            netlink.unplug(&names.0, &names.1).unwrap();
            own.kind = NicKind::Macvlan { parent: "none0".to_owned() };
            assert!(matches!(netlink.plug(&plug(&own, &names, 0, &guest)), Err(NetlinkError::NoLink(_))));
            let bridge = bridge(&netlink);
            run("ip", "link add port0 type veth peer name stray0");
            run("ip", "link set port0 master test0");
            own.kind = NicKind::Macvlan { parent: "port0".to_owned() };
            own.name = "eth1".to_owned();
            let refused = netlink.plug(&plug(&own, &names, bridge.index, &guest));
            assert!(matches!(refused, Err(NetlinkError::Macvlan { .. })), "{refused:?}");
        });
    }

    /// Root of a user namespace may do as much in a network namespace of its own: that is how an ordinary
    /// user's containers are plugged. This test runs again as a program of its own there.
    #[test]
    fn in_a_user_namespace_too() {
        const INSIDE: &str = "NAGAYA_TEST_INSIDE";
        if std::env::var_os(INSIDE).is_none() {
            let output = std::process::Command::new("unshare")
                .args(["--user", "--map-root-user", "--net", "--"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture", "sys::netlink::port::tests::in_a_user_namespace_too"])
                .env(INSIDE, "1")
                .output()
                .expect("run unshare (package util-linux)");
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("plugged and reached"), "{text}");
            return;
        }
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            let (guest, mut own) = (Netns::new(), numbered(1));
            (own.settings.ingress, own.settings.egress) = (Some(1_000_000_000), Some(1_000_000_000));
            netlink.plug(&plug(&own, &names(1), bridge.index, &guest)).unwrap();
            guest.run(|| {
                guest_net::configure(std::slice::from_ref(&own)).unwrap();
                assert!(comes_to_ping("10.9.0.1") && comes_to_ping("fd00:9::1"));
            });
            assert!(netlink.is_guarded("ng00000001", &Guard::of(&own).unwrap()).unwrap());
            netlink.unplug("ng00000001", "ig00000001").unwrap();
            assert!(!is_there("ng00000001") && !is_there("ig00000001"));
            println!("plugged and reached");
        });
    }

    /// What plugging costs beside a pair without anything, which is what the first version made.
    #[test]
    fn plugging_is_cheap() {
        const COUNT: u32 = 200;
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let bridge = bridge(&netlink);
            let start = Instant::now();
            for _ in 0..1000 {
                self::bridge(&netlink);
            }
            println!("ensure_bridge, nothing to do: {:?}", start.elapsed() / 1000);
            let guests: Vec<Netns> = (0..2 * COUNT).map(|_| Netns::new()).collect();
            let mut own = numbered(1);
            let (mut bare, mut whole) = (Duration::ZERO, Duration::ZERO);
            for (n, guest) in (0..).zip(&guests) {
                own.mac = Mac::guest([1, 2, 3, (n >> 8) as u8, n as u8]);
                let names = names(n);
                let plug = plug(&own, &names, bridge.index, guest);
                let start = Instant::now();
                if n % 2 == 0 {
                    netlink.plug(&plug).unwrap();
                    whole += start.elapsed();
                } else {
                    let message = RouteNetlinkMessage::NewLink(messages::bring_up(pair(&plug)));
                    netlink.ask_one(Request::create(message)).unwrap().unwrap();
                    bare += start.elapsed();
                }
            }
            println!("a bare pair, up: {:?}; plug: {:?}", bare / COUNT, whole / COUNT);
            let ports = json("ip", "-j link show master test0");
            assert_eq!(ports.as_array().unwrap().len(), 2 * COUNT as usize);
            let start = Instant::now();
            netlink.unplug_all(&(0..20).map(names).collect::<Vec<_>>()).unwrap();
            println!("unplug: {:?}", start.elapsed() / 20);
            // A filter and its verification are a handful of requests, not a program.
            assert!(whole < 10 * bare, "{whole:?} {bare:?}");
        });
    }
}
