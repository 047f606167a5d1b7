//! What the kernel tells of a link.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::channel::{Reply, is};
use super::error::NetlinkError;
use crate::model::mac::Mac;

/// What is asked of a link before anything is done to it.
pub struct Link {
    pub(super) index: u32,
    pub(super) kind: Option<InfoKind>,
    pub(super) up: bool,
    /// The other end is up too.
    pub(super) has_carrier: bool,
    pub(super) alias: Option<String>,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    pub(super) group: u32,
    /// Index of the bridge that it is a port of, and how it is one.
    pub(super) master: Option<u32>,
    pub(super) port: Vec<InfoBridgePort>,
    /// What is set of a bridge.
    pub(super) bridge: Vec<InfoBridge>,
    /// How it makes itself a link-local address; none where it has no IPv6.
    pub(super) link_local: Option<In6AddrGenMode>,
}

impl Link {
    pub(super) fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            kind: None,
            up: message.header.flags.contains(LinkFlags::Up),
            has_carrier: message.header.flags.contains(LinkFlags::LowerUp),
            alias: None,
            mac: None,
            mtu: 0,
            group: 0,
            master: None,
            port: Vec::new(),
            bridge: Vec::new(),
            link_local: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link.learn(info)),
                LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index != 0),
                LinkAttribute::AfSpecUnspec(families) => {
                    let inet6 = families.iter().find_map(|family| match family {
                        AfSpecUnspec::Inet6(settings) => Some(settings),
                        _ => None,
                    });
                    link.link_local = inet6.into_iter().flatten().find_map(|setting| match setting {
                        AfSpecInet6::AddrGenMode(mode) => Some(*mode),
                        _ => None,
                    });
                }
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Group(group) => link.group = *group,
                _ => {}
            }
        }
        link
    }

    pub(super) fn learn(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = Some(kind.clone()),
            LinkInfo::Data(InfoData::Bridge(settings)) => self.bridge = settings.clone(),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)) => self.port = settings.clone(),
            _ => {}
        }
    }
}

/// The link that an answer is about; none where there is no link of that name.
pub(super) fn found(name: &str, reply: Reply) -> Result<Option<Link>, NetlinkError> {
    match reply {
        Ok(messages) => Ok(messages.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(Link::of(message)),
            _ => None,
        })),
        Err(error) if is(&error, libc::ENODEV) => Ok(None),
        Err(source) => Err(NetlinkError::Lookup { name: name.to_owned(), source }),
    }
}
