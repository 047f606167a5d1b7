//! The messages that make links and their guests' ends.

use std::os::fd::AsRawFd;

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::attachment::Attachment;
use super::ownership::LINK_GROUP;
use crate::model::mac::Mac;
use crate::sys::net::netlink::messages;

/// Both ends of a link, the host's not yet up.
pub fn pair(attachment: &Attachment<'_>) -> LinkMessage {
    let mut peer = guest_end(attachment);
    peer.attributes.extend(one_queue());
    let mut builder = link_of(InfoKind::Veth, attachment.host_name, attachment.nic.mac.host_end())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    if let Some(mtu) = attachment.mtu() {
        builder = builder.mtu(mtu);
    }
    if let Some(bridge) = attachment.bridge {
        builder = builder.controller(bridge);
    }
    let mut message = builder.build();
    message.attributes.extend(one_queue());
    message
}

/// The kernel gives an end of a pair as many queues as there are processors, and uses one. It takes a grace
/// period to lay the others down.
fn one_queue() -> [LinkAttribute; 2] {
    [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]
}

fn guest_end(attachment: &Attachment<'_>) -> LinkMessage {
    let mut builder = LinkMessageBuilder::<LinkUnspec>::default()
        .name(attachment.nic.name.as_str())
        .address(attachment.nic.mac.0.to_vec())
        .append_extra_attribute(LinkAttribute::Group(LINK_GROUP))
        .setns_by_fd(attachment.netns.as_raw_fd());
    if let Some(mtu) = attachment.mtu() {
        builder = builder.mtu(mtu);
    }
    builder.build()
}

/// A sub-interface of the host's interface of that index, in the guest.
pub fn macvlan(attachment: &Attachment<'_>, parent: u32) -> LinkMessage {
    let mut message = guest_end(attachment);
    message.attributes.extend([
        LinkAttribute::Link(parent),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
        ]),
    ]);
    message
}

fn link_of(kind: InfoKind, name: &str, mac: Mac) -> LinkMessageBuilder<LinkUnspec> {
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind)
        .name(name)
        .address(mac.0.to_vec())
        .append_extra_attribute(LinkAttribute::Group(LINK_GROUP))
}

pub fn port_settings(index: u32, settings: Vec<InfoBridgePort>) -> LinkMessage {
    let mut message = messages::link_of_index(index);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(settings)),
    ]));
    message
}

/// The host's end has no use for a link-local address of its own making, nor the guest for what the
/// host would say about it.
pub fn without_link_local(index: u32) -> LinkMessage {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let mut message = messages::link_of_index(index);
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    message
}
