//! Links, addresses and routes of the host, over one route netlink socket. This file is the
//! transport and its errors; the verbs stand in the files beside it.

mod bridge;
mod subnets;
mod veth;

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use ipnetwork::Ipv4Network;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::Handle;

use super::sysctl::SysctlError;
pub use veth::Veth;

/// What went wrong with a link, an address or a route.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a route netlink socket")]
    Open(#[source] io::Error),
    #[error("'{0}' cannot be a bridge: 1 to 15 of a-z, 0-9, '-'")]
    BridgeName(String),
    #[error("'{0}' is not a link of ours")]
    LinkName(String),
    #[error("cannot look up link '{name}'")]
    Lookup { name: String, source: io::Error },
    #[error("cannot list the host's {what}")]
    List { what: &'static str, source: io::Error },
    #[error("'{0}' is there already and is not a bridge")]
    NotABridge(String),
    #[error("bridge '{bridge}' is not ours: it has the address {found}, not {wanted}")]
    ForeignBridge { bridge: String, found: Ipv4Network, wanted: Ipv4Network },
    #[error("cannot draw an address for bridge '{bridge}'")]
    Random { bridge: String, source: io::Error },
    #[error("cannot create bridge '{bridge}'")]
    CreateBridge { bridge: String, source: io::Error },
    #[error("cannot set up the kernel's settings of bridge '{bridge}'")]
    BridgeSettings { bridge: String, source: SysctlError },
    #[error("cannot give {address} to bridge '{bridge}'")]
    BridgeAddress { bridge: String, address: Ipv4Network, source: io::Error },
    #[error("cannot bring up bridge '{bridge}'")]
    BridgeUp { bridge: String, source: io::Error },
    #[error("bridge '{bridge}' vanished while it was being set up")]
    BridgeVanished { bridge: String },
    #[error("bridge '{bridge}' still has {ports} ports")]
    BridgeInUse { bridge: String, ports: usize },
    #[error("'{0}' is there already and is not a veth link")]
    NotAVeth(String),
    #[error("cannot create link '{name}' on bridge {bridge}")]
    CreateVeth { name: String, bridge: u32, source: io::Error },
    #[error("cannot delete link '{name}'")]
    Delete { name: String, source: io::Error },
}

/// A route netlink socket in the network namespace of the thread that opened it.
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Needs a running tokio runtime, on which the socket is served until this is dropped.
    pub fn open() -> Result<Self, NetlinkError> {
        // Strict checks (Linux 4.20) make the kernel honour a dump's filters.
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The link of that name; none where there is no such link.
    async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let request = self
            .handle
            .link()
            .get()
            .match_name(name)
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        match request.execute().try_next().await.map_err(into_io) {
            Ok(message) => Ok(message.map(|message| Link::of(&message))),
            Err(error) if is(&error, libc::ENODEV) => Ok(None),
            Err(source) => Err(NetlinkError::Lookup { name: name.to_owned(), source }),
        }
    }

    /// The IPv4 addresses of the link `index`, or of all links where it is 0.
    async fn ipv4_addresses(&self, index: u32) -> Result<Vec<Ipv4Network>, NetlinkError> {
        let mut request = self.handle.address().get();
        request.message_mut().header.family = AddressFamily::Inet;
        request.message_mut().header.index = index;
        let messages: Vec<AddressMessage> = request
            .execute()
            .try_collect()
            .await
            .map_err(|error| NetlinkError::List { what: "addresses", source: into_io(error) })?;
        Ok(messages.iter().filter_map(ipv4_of).collect())
    }

    /// Deletes a link that may have gone meanwhile.
    async fn delete_index(&self, name: &str, index: u32) -> Result<(), NetlinkError> {
        match self.handle.link().del(index).execute().await.map_err(into_io) {
            Ok(()) => Ok(()),
            Err(error) if is(&error, libc::ENODEV) => Ok(()),
            Err(source) => Err(NetlinkError::Delete { name: name.to_owned(), source }),
        }
    }
}

/// What is asked of a link before anything is done to it.
struct Link {
    index: u32,
    kind: Option<InfoKind>,
    up: bool,
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let kind = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
                LinkInfo::Kind(kind) => Some(kind.clone()),
                _ => None,
            }),
            _ => None,
        });
        Self { index: message.header.index, kind, up: message.header.flags.contains(LinkFlags::Up) }
    }
}

/// The address that a message is about. On a point-to-point link `Address` is the other end's,
/// `Local` always the host's own.
fn ipv4_of(message: &AddressMessage) -> Option<Ipv4Network> {
    let own: Ipv4Addr = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Ipv4Network::new(own, message.header.prefix_len).ok()
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

fn is(error: &io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}
