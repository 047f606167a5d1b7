//! The links of containers' interfaces.

mod links;
mod mend;
#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoBridgePort, InfoKind};

pub(super) use links::shaper;
pub use mend::{Fault, Port};

use super::channel::Request;
use super::rates::Rates;
use super::steps::{Step, clsact_step, guard_step, is_unknown};
use super::{Link, Netlink, NetlinkError, but, found, messages};
use crate::model::instance::{is_host_link, is_shaper_link};
use crate::model::nic::{Nic, NicKind};
use crate::render::spoof::{self, Guard};
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
        let settings = vec![InfoBridgePort::Isolated(isolated)];
        let port = RouteNetlinkMessage::NewLink(links::port_settings(link.index, settings));
        self.run(host_name, vec![Step::new("isolate", "", Request::on(port))])
    }

    /// Has a port give a guest what it has sent to itself by an address of the host's. A link that is
    /// none, or no port, is fine.
    ///
    /// Only where bridged packets pass the host's rules (bridge-nf-call-iptables) is this needed: such a
    /// packet has its new target before the bridge looks where to send it.
    pub fn give_back(&self, host_name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.link(host_name)? else { return Ok(()) };
        let link = ours(host_name, link, &InfoKind::Veth)?;
        let settings = vec![InfoBridgePort::HairpinMode(true)];
        let port = RouteNetlinkMessage::NewLink(links::port_settings(link.index, settings));
        let mut step = Step::new("give packets back by", "", Request::on(port));
        step.fine = &[libc::ENODEV, libc::EOPNOTSUPP, libc::EINVAL];
        self.run(host_name, vec![step])
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
        let mut requests = vec![Request::create(RouteNetlinkMessage::NewLink(links::pair(plug)))];
        requests.push(Request::on(messages::link_named(plug.host_name)));
        if shaped {
            requests.push(Request::create(RouteNetlinkMessage::NewLink(links::shaper(plug.shaper_name))));
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
            let settings = vec![InfoBridgePort::Isolated(plug.isolated), InfoBridgePort::HairpinMode(false)];
            let port = RouteNetlinkMessage::NewLink(links::port_settings(index, settings));
            steps.push(Step::new("set the port flags of", "", Request::on(port)));
        }
        if sysctl::has_ipv6() {
            let quiet = RouteNetlinkMessage::SetLink(links::without_link_local(index));
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
        let message = RouteNetlinkMessage::NewLink(links::macvlan(plug, parent_link.index));
        let made = self.ask_one(Request::create(message))?;
        made.map(drop).map_err(|source| NetlinkError::Macvlan {
            name: plug.nic.name.clone(),
            parent: parent.to_owned(),
            source,
        })
    }
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
