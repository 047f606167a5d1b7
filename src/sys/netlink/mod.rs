//! Links, addresses and routes of the host, by route netlink. This file has what all verbs use; they
//! stand in the files beside it.

mod bridge;
pub mod channel;
pub mod messages;
mod neighbours;
mod port;
mod rates;
mod routed;
mod steps;
mod subnets;
mod watch;

use std::io;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::sysctl::SysctlError;
use crate::model::mac::Mac;
pub use bridge::Bridge;
use channel::{Channel, Reply, Request};
pub use port::{Fault, LINK_GROUP, Plug, Port};
pub use watch::LinkWatch;

/// How often a list is asked for that changes while it is read.
const TRIES: usize = 8;

/// What went wrong with a link, an address or a route.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a route netlink socket")]
    Open(#[source] io::Error),
    #[error("cannot talk to the kernel over route netlink")]
    Exchange(#[source] io::Error),
    #[error("'{0}' cannot be a bridge: 1 to 15 of a-z, A-Z, 0-9, '.', '-' and '_'")]
    BridgeName(String),
    #[error("'{0}' is not a link of ours")]
    LinkName(String),
    #[error("cannot look up link '{name}'")]
    Lookup { name: String, source: io::Error },
    #[error("cannot list the host's {what}")]
    List { what: &'static str, source: io::Error },
    #[error("'{0}' is there already and is not a bridge; give the network another bridge")]
    NotABridge(String),
    #[error("the host has no bridge '{0}'; make it, or give the network another parent")]
    NoBridge(String),
    #[error("bridge '{0}' is down; bring it up with 'ip link set {0} up'")]
    BridgeDown(String),
    #[error("'{name}' belongs to '{owner}'; give the network another bridge")]
    OthersBridge { name: String, owner: String },
    #[error("bridge '{bridge}' is not ours: it has the address {found}; give the network another bridge")]
    ForeignBridge { bridge: String, found: IpNetwork },
    #[error("cannot create bridge '{bridge}'")]
    CreateBridge { bridge: String, source: io::Error },
    #[error("cannot set up the kernel's settings of link '{link}'")]
    Settings { link: String, source: SysctlError },
    #[error("cannot give {address} to '{link}'")]
    Address { link: String, address: IpNetwork, source: io::Error },
    #[error("cannot take {address} from '{link}'")]
    TakeAddress { link: String, address: IpNetwork, source: io::Error },
    #[error("cannot bring up '{link}'")]
    Up { link: String, source: io::Error },
    #[error("bridge '{bridge}' vanished while it was being set up")]
    BridgeVanished { bridge: String },
    #[error("bridge '{bridge}' still has {ports} ports; stop what is on it")]
    BridgeInUse { bridge: String, ports: usize },
    #[error("'{name}' is there already and is not a link of nagaya's")]
    NotOurs { name: String },
    #[error("the host has no link '{0}'")]
    NoLink(String),
    #[error("network '{network}' has no bridge that '{name}' could be a port of")]
    Unbridged { name: String, network: String },
    #[error("cannot create link '{name}'")]
    CreateLink { name: String, source: io::Error },
    #[error("cannot create '{name}' on '{parent}'; a parent that is a bridge's port cannot be shared")]
    Macvlan { name: String, parent: String, source: io::Error },
    #[error("cannot {what} link '{name}'")]
    Configure { name: String, what: &'static str, source: io::Error },
    #[error("cannot {what} link '{name}': the kernel lacks one of {modules}; try 'modprobe' with each")]
    Lacks { name: String, what: &'static str, modules: &'static str },
    #[error("the filter of link '{0}' is not what it was set to; somebody else changes the link's filters")]
    Unguarded(String),
    #[error("cannot route {address} to link '{name}'")]
    Route { name: String, address: IpAddr, source: io::Error },
    #[error("cannot delete link '{name}'")]
    Delete { name: String, source: io::Error },
    #[error("link '{name}' is not as it ought to be, and does not stay as it is set: {faults}")]
    Unmended { name: String, faults: String },
}

/// Requests to the kernel's routing netlink in the network namespace of the thread that opened it.
/// They block, for no longer than the kernel works on them.
pub struct Netlink {
    channel: Channel,
}

impl Netlink {
    pub fn open() -> Result<Self, NetlinkError> {
        Channel::open().map(|channel| Self { channel }).map_err(NetlinkError::Open)
    }

    fn ask(&self, requests: Vec<Request>) -> Result<Vec<Reply>, NetlinkError> {
        self.channel.exchange(requests).map_err(NetlinkError::Exchange)
    }

    fn ask_one(&self, request: Request) -> Result<Reply, NetlinkError> {
        Ok(self.ask(vec![request])?.pop().unwrap_or_else(|| Ok(Vec::new())))
    }

    /// The link of that name; none where there is no such link.
    fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        found(name, self.ask_one(Request::on(messages::link_named(name)))?)
    }

    /// Whether there is a link of that name, and it is up.
    pub fn is_up(&self, name: &str) -> Result<bool, NetlinkError> {
        Ok(self.link(name)?.is_some_and(|link| link.up))
    }

    /// All that `message` asks for, in a state that it was in as a whole.
    fn list(
        &self,
        what: &'static str,
        message: impl Fn() -> RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut reply = self.ask_one(Request::list(message()))?;
        for _ in 1..TRIES {
            match &reply {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    reply = self.ask_one(Request::list(message()))?;
                }
                _ => break,
            }
        }
        reply.map_err(|source| NetlinkError::List { what, source })
    }

    /// The addresses of the link `index`, or of all links where it is 0, with the prefix lengths of their
    /// networks.
    fn addresses(&self, index: u32) -> Result<Vec<IpNetwork>, NetlinkError> {
        let ask = || {
            let mut message = AddressMessage::default();
            message.header.index = index;
            RouteNetlinkMessage::GetAddress(message)
        };
        let found = self.list("addresses", ask)?;
        Ok(found.iter().filter_map(address_of).collect())
    }
}

/// What is asked of a link before anything is done to it.
struct Link {
    index: u32,
    kind: Option<InfoKind>,
    up: bool,
    /// The other end is up too.
    has_carrier: bool,
    alias: Option<String>,
    mac: Option<Mac>,
    mtu: u32,
    group: u32,
    /// Index of the bridge that it is a port of, and how it is one.
    master: Option<u32>,
    port: Vec<InfoBridgePort>,
    /// What is set of a bridge.
    bridge: Vec<InfoBridge>,
    /// How it makes itself a link-local address; none where it has no IPv6.
    link_local: Option<In6AddrGenMode>,
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
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

    fn learn(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = Some(kind.clone()),
            LinkInfo::Data(InfoData::Bridge(settings)) => self.bridge = settings.clone(),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)) => self.port = settings.clone(),
            _ => {}
        }
    }
}

/// The link that an answer is about; none where there is no link of that name.
fn found(name: &str, reply: Reply) -> Result<Option<Link>, NetlinkError> {
    match reply {
        Ok(messages) => Ok(messages.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(Link::of(message)),
            _ => None,
        })),
        Err(error) if is(&error, libc::ENODEV) => Ok(None),
        Err(source) => Err(NetlinkError::Lookup { name: name.to_owned(), source }),
    }
}

/// The address that a message is about. On a point-to-point link `Address` is the other end's,
/// `Local` always the host's own, which IPv6 leaves out elsewhere.
fn address_of(message: &RouteNetlinkMessage) -> Option<IpNetwork> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNetwork::new(local.or(address)?, message.header.prefix_len).ok()
}

fn is_link_local(address: &IpNetwork) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn is(error: &io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}

/// `Ok` also where it failed for one of these reasons.
fn but(reply: Reply, fine: &[i32]) -> io::Result<()> {
    match reply {
        Ok(_) => Ok(()),
        Err(error) if fine.iter().any(|errno| is(&error, *errno)) => Ok(()),
        Err(error) => Err(error),
    }
}
