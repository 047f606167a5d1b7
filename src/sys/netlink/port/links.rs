//! The messages that make links and their guests' ends.

use std::os::fd::AsRawFd;

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{LINK_GROUP, Plug};
use crate::model::mac::Mac;
use crate::sys::netlink::messages;

/// Both ends of a link, the host's not yet up.
pub fn pair(plug: &Plug<'_>) -> LinkMessage {
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

/// A sub-interface of the host's interface of that index, in the guest.
pub fn macvlan(plug: &Plug<'_>, parent: u32) -> LinkMessage {
    let mut message = guest_end(plug);
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

pub fn shaper(name: &str) -> LinkMessage {
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Ifb)
        .name(name)
        .append_extra_attribute(LinkAttribute::Group(LINK_GROUP))
        .build()
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
