//! Makes the links of containers' interfaces, and deletes them.

#[cfg(test)]
mod tests;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoBridgePort, InfoKind};

use super::attachment::Attachment;
use super::link_messages;
use super::ownership::{check_names, ours};
use super::rates::{shaper, shaper_index};
use crate::model::instance::is_host_link;
use crate::model::nic::NicKind;
use crate::render::spoof::{self, SpoofFilter};
use crate::sys::net::netlink::channel::{Request, but};
use crate::sys::net::netlink::link::{Link, found};
use crate::sys::net::netlink::steps::{Step, clsact_step, spoof_filter_step};
use crate::sys::net::netlink::{Netlink, NetlinkError, messages};
use crate::sys::net::{sysctl, tc};

/// A host's end and, where the guest's rate is limited, the device that its frames wait in.
pub(super) struct Pair {
    pub(super) host: Link,
    pub(super) shaper: Option<u32>,
}

impl Netlink {
    /// Makes an interface. Its end in the guest has its name and Ethernet address from the start and is
    /// never seen on the host. The host's end comes up last of all, so no frame passes before its filter
    /// is there and has been read back. Three exchanges with the kernel; on failure nothing is left.
    pub fn attach(&self, attachment: &Attachment<'_>) -> Result<(), NetlinkError> {
        check_names(attachment.host_name, attachment.shaper_name)?;
        match &attachment.nic.kind {
            NicKind::Macvlan { parent } => return self.attach_macvlan(attachment, parent),
            NicKind::Bridged { network } if attachment.bridge.is_none() => {
                let (name, network) = (attachment.host_name.to_owned(), network.clone());
                return Err(NetlinkError::Unbridged { name, network });
            }
            NicKind::Bridged { .. } | NicKind::Routed => {}
        }
        let pair = self.create_pair(attachment)?;
        let done = self.furnish(attachment, &pair).and_then(|()| self.let_go(attachment, &pair));
        if done.is_err() {
            let both = [Some(pair.host.index), pair.shaper].into_iter().flatten();
            let undone = self.ask(both.map(|index| Request::on(messages::delete_link(index))).collect());
            tracing::debug!(
                link = attachment.host_name,
                ok = undone.is_ok(),
                "link deleted that could not be set up"
            );
        }
        done
    }

    /// Deletes what [`Netlink::attach`] made. It is no error if that is gone: a link goes by itself with the
    /// container's network namespace, at some moment after the last process.
    #[cfg(test)]
    pub fn detach(&self, host_name: &str, shaper_name: &str) -> Result<(), NetlinkError> {
        self.detach_all(&[(host_name.to_owned(), shaper_name.to_owned())])
    }

    /// The same for pairs of a host's end and a shaper, at once.
    pub fn detach_all(&self, pairs: &[(String, String)]) -> Result<(), NetlinkError> {
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

    /// Whether none of these is there any more.
    pub fn are_gone(&self, pairs: &[(String, String)]) -> Result<bool, NetlinkError> {
        let names: Vec<&String> = pairs.iter().flat_map(|(host, shaper)| [host, shaper]).collect();
        let asked = names.iter().map(|name| Request::on(messages::link_named(name))).collect();
        for (name, reply) in names.into_iter().zip(self.ask(asked)?) {
            if found(name, reply)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets whether a port reaches other isolated ports of its bridge.
    pub fn set_port_isolated(&self, host_name: &str, isolated: bool) -> Result<(), NetlinkError> {
        let link = self.our_host_link(host_name)?;
        let settings = vec![InfoBridgePort::Isolated(isolated)];
        let port = RouteNetlinkMessage::NewLink(link_messages::port_settings(link.index, settings));
        self.run(host_name, vec![Step::new("isolate", "", Request::on(port))])
    }

    /// Switches a port's hairpin mode on, so that a guest gets what it has sent to itself by an address of
    /// the host's. It is no error if there is no such link or it is no port.
    ///
    /// It is needed only where bridged packets pass the host's rules (bridge-nf-call-iptables): there a
    /// packet has its new destination before the bridge decides where to send it.
    pub fn set_hairpin(&self, host_name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.link(host_name)? else { return Ok(()) };
        let link = ours(host_name, link, &InfoKind::Veth)?;
        let settings = vec![InfoBridgePort::HairpinMode(true)];
        let port = RouteNetlinkMessage::NewLink(link_messages::port_settings(link.index, settings));
        let mut step = Step::new("give packets back by", "", Request::on(port));
        step.fine = &[libc::ENODEV, libc::EOPNOTSUPP, libc::EINVAL];
        self.run(host_name, vec![step])
    }

    /// Sets the anti-spoofing filter; `None` removes it.
    pub fn set_spoof_filter(
        &self,
        host_name: &str,
        spoof_filter: Option<&SpoofFilter>,
    ) -> Result<(), NetlinkError> {
        let index = self.our_host_link(host_name)?.index;
        match spoof_filter.map(spoof::program) {
            Some(program) => {
                let steps = vec![clsact_step(index), spoof_filter_step(index, &program)];
                self.run_and_verify(host_name, steps, index, &program)
            }
            None => {
                let mut step = Step::new("lift the filter of", "", Request::on(tc::no_spoof_filter(index)));
                step.fine = &[libc::ENOENT, libc::EINVAL];
                self.run(host_name, vec![step])
            }
        }
    }

    /// Whether exactly this filter is at the link's ingress.
    #[cfg(test)]
    pub fn has_exact_spoof_filter(
        &self,
        host_name: &str,
        spoof_filter: &SpoofFilter,
    ) -> Result<bool, NetlinkError> {
        let index = self.our_host_link(host_name)?.index;
        let filters = self.list("filters", || tc::filters(index))?;
        Ok(tc::has_exact_spoof_filter(&filters, &spoof::program(spoof_filter)))
    }

    /// The host's end of that name, which is ours.
    pub fn our_host_link(&self, name: &str) -> Result<Link, NetlinkError> {
        if !is_host_link(name) {
            return Err(NetlinkError::LinkName(name.to_owned()));
        }
        let link = self.link(name)?.ok_or_else(|| NetlinkError::NoLink(name.to_owned()))?;
        ours(name, link, &InfoKind::Veth)
    }

    pub(super) fn create_pair(&self, attachment: &Attachment<'_>) -> Result<Pair, NetlinkError> {
        let shaped = attachment.nic.settings.egress.is_some();
        let mut requests =
            vec![Request::create(RouteNetlinkMessage::NewLink(link_messages::pair(attachment)))];
        requests.push(Request::on(messages::link_named(attachment.host_name)));
        if shaped {
            requests.push(Request::create(RouteNetlinkMessage::NewLink(shaper(attachment.shaper_name))));
            requests.push(Request::on(messages::link_named(attachment.shaper_name)));
        }
        let mut replies = self.ask(requests)?.into_iter();
        let mut next = || replies.next().unwrap_or_else(|| Ok(Vec::new()));
        let cannot = |name: &str| {
            let name = name.to_owned();
            move |source| NetlinkError::CreateLink { name, source }
        };
        next().map_err(cannot(attachment.host_name))?;
        let host = found(attachment.host_name, next())?;
        let host = host.ok_or_else(|| NetlinkError::NoLink(attachment.host_name.to_owned()))?;
        if !shaped {
            return Ok(Pair { host, shaper: None });
        }
        match shaper_index(attachment.shaper_name, next(), next()) {
            Ok(index) => Ok(Pair { host, shaper: Some(index) }),
            Err(error) => {
                let _ = self.ask_one(Request::on(messages::delete_link(host.index)));
                Err(error)
            }
        }
    }

    /// Sets everything that must be set before the link comes up.
    pub(super) fn furnish(&self, attachment: &Attachment<'_>, pair: &Pair) -> Result<(), NetlinkError> {
        let index = pair.host.index;
        let mut steps = Vec::new();
        if attachment.bridge.is_some() {
            let settings =
                vec![InfoBridgePort::Isolated(attachment.isolated), InfoBridgePort::HairpinMode(false)];
            let port = RouteNetlinkMessage::NewLink(link_messages::port_settings(index, settings));
            steps.push(Step::new("set the port flags of", "", Request::on(port)));
        }
        if sysctl::has_ipv6() {
            let quiet = RouteNetlinkMessage::SetLink(link_messages::without_link_local(index));
            steps.push(Step::new("set up IPv6 of", "", Request::on(quiet)));
        }
        let program = SpoofFilter::of(attachment.nic).map(|spoof_filter| spoof::program(&spoof_filter));
        if program.is_some() {
            steps.push(clsact_step(index));
        }
        steps.extend(program.iter().map(|program| spoof_filter_step(index, program)));
        steps.extend(attachment.rates().steps(&pair.host, pair.shaper));
        if attachment.nic.kind == NicKind::Routed {
            sysctl::harden_routed(attachment.host_name)
                .map_err(|source| NetlinkError::Settings { link: attachment.host_name.to_owned(), source })?;
            steps.extend(self.gateway_steps(attachment.nic, index));
        }
        match program {
            Some(program) => self.run_and_verify(attachment.host_name, steps, index, &program),
            None => self.run(attachment.host_name, steps),
        }
    }

    pub(super) fn let_go(&self, attachment: &Attachment<'_>, pair: &Pair) -> Result<(), NetlinkError> {
        let index = pair.host.index;
        self.run(attachment.host_name, vec![Step::new("bring up", "", Request::on(messages::up(index)))])?;
        match attachment.nic.kind {
            NicKind::Routed => self.add_routes(attachment.nic, attachment.host_name, index),
            _ => Ok(()),
        }
    }

    pub(super) fn attach_macvlan(
        &self,
        attachment: &Attachment<'_>,
        parent: &str,
    ) -> Result<(), NetlinkError> {
        let parent_link = self.link(parent)?.ok_or_else(|| NetlinkError::NoLink(parent.to_owned()))?;
        let message = RouteNetlinkMessage::NewLink(link_messages::macvlan(attachment, parent_link.index));
        let made = self.ask_one(Request::create(message))?;
        made.map(drop).map_err(|source| NetlinkError::Macvlan {
            name: attachment.nic.name.clone(),
            parent: parent.to_owned(),
            source,
        })
    }
}
