//! What can go wrong with the host's links, addresses and routes.

use std::io;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::sys::net::sysctl::SysctlError;

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
    NoSpoofFilter(String),
    #[error("cannot route {address} to link '{name}'")]
    Route { name: String, address: IpAddr, source: io::Error },
    #[error("cannot delete link '{name}'")]
    Delete { name: String, source: io::Error },
    #[error("link '{name}' is not as it ought to be, and does not stay as it is set: {faults}")]
    Unmended { name: String, faults: String },
}
