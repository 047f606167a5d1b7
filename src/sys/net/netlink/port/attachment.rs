//! What is said of an interface that is to be.

use std::os::fd::BorrowedFd;

use super::rates::Rates;
use crate::model::nic::Nic;

/// One interface of a container, to be attached.
pub struct Attachment<'a> {
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

impl Attachment<'_> {
    pub(super) fn mtu(&self) -> Option<u32> {
        self.nic.settings.mtu.or(self.network_mtu)
    }

    pub(super) fn rates(&self) -> Rates {
        Rates { ingress: self.nic.settings.ingress, egress: self.nic.settings.egress }
    }
}
