//! Bridges' ports that give packets back to where they came from.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo};

use super::channel::Request;
use super::port::Step;
use super::{Netlink, NetlinkError, messages};

impl Netlink {
    /// Has a port give a guest what it has sent to itself by an address of the host's. A link that is
    /// none, or no port, is fine.
    ///
    /// Only where bridged packets pass the host's rules (bridge-nf-call-iptables) is this needed: such a
    /// packet has its new target before the bridge looks where to send it.
    pub fn give_back(&self, host_name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.link(host_name)? else { return Ok(()) };
        let mut message = messages::link_of_index(link.index);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ]));
        let request = Request::on(RouteNetlinkMessage::NewLink(message));
        let mut step = Step::new("give packets back by", "", request);
        step.fine = &[libc::ENODEV, libc::EOPNOTSUPP, libc::EINVAL];
        self.run(host_name, vec![step])
    }
}
