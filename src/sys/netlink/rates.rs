//! Limits on how much passes a link.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::InfoKind;

use super::channel::Request;
use super::port::{Step, clsact_step, ours, shaper, shaper_index};
use super::{Link, Netlink, NetlinkError, found, messages};
use crate::model::instance::is_shaper_link;
use crate::sys::tc;

const WHAT: &str = "limit the rate of";

/// Bits in a second to the guest and from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates {
    pub ingress: Option<u64>,
    pub egress: Option<u64>,
}

impl Rates {
    /// What sets the limits that there are. To the guest, the host's end sends no faster. From the guest,
    /// frames are sent on to a device that lets them in no faster, and only then are the bridge's.
    pub fn steps(self, host: &Link, shaper: Option<u32>) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(bits) = self.ingress {
            let bucket = tc::bucket(host.index, bits, host.mtu);
            steps.push(Step::new(WHAT, tc::INGRESS_MODULES, Request::put(bucket)));
        }
        if let (Some(bits), Some(shaper)) = (self.egress, shaper) {
            let limit = |request| Step::new(WHAT, tc::EGRESS_MODULES, request);
            steps.push(limit(Request::put(tc::bucket(shaper, bits, host.mtu))));
            steps.push(limit(Request::on(messages::up(shaper))));
            steps.push(clsact_step(host.index));
            steps.push(limit(Request::put(tc::redirect(host.index, shaper))));
        }
        steps
    }

    /// What lifts the limits that there are not; the device of frames from the guest is nobody's then.
    fn lifting_steps(self, host: &Link, shaper: Option<u32>) -> Vec<Step> {
        let lift = |message: RouteNetlinkMessage| {
            let mut step = Step::new("lift the rate limit of", "", Request::on(message));
            step.fine = &[libc::ENOENT, libc::EINVAL, libc::ENODEV];
            step
        };
        let mut steps = Vec::new();
        if self.ingress.is_none() {
            steps.push(lift(tc::no_bucket(host.index)));
        }
        if self.egress.is_none() {
            steps.push(lift(tc::no_redirect(host.index)));
            steps.extend(shaper.map(|shaper| lift(messages::delete_link(shaper))));
        }
        steps
    }
}

impl Netlink {
    /// Sets bits in a second to the guest (`ingress`) and from it (`egress`); `None` lifts a limit.
    ///
    /// # Errors
    /// There is no such link, or the kernel refuses; then some of it may have been done.
    pub fn set_rates(
        &self,
        host_name: &str,
        shaper_name: &str,
        ingress: Option<u64>,
        egress: Option<u64>,
    ) -> Result<(), NetlinkError> {
        if !is_shaper_link(shaper_name) {
            return Err(NetlinkError::LinkName(shaper_name.to_owned()));
        }
        let host = self.our_host_link(host_name)?;
        let shaper = match egress {
            Some(_) => Some(self.ensure_shaper(shaper_name)?),
            None => self.shaper(shaper_name)?,
        };
        let rates = Rates { ingress, egress };
        let mut steps = rates.steps(&host, shaper);
        steps.extend(rates.lifting_steps(&host, shaper));
        self.run(host_name, steps)
    }

    fn ensure_shaper(&self, name: &str) -> Result<u32, NetlinkError> {
        let make = Request::create(RouteNetlinkMessage::NewLink(shaper(name)));
        let mut replies = self.ask(vec![make, Request::on(messages::link_named(name))])?.into_iter();
        let mut next = || replies.next().unwrap_or_else(|| Ok(Vec::new()));
        shaper_index(name, next(), next())
    }

    fn shaper(&self, name: &str) -> Result<Option<u32>, NetlinkError> {
        let there = found(name, self.ask_one(Request::on(messages::link_named(name)))?)?;
        there.map(|link| ours(name, link, &InfoKind::Ifb).map(|link| link.index)).transpose()
    }
}
