//! The one network that an instance has had so far.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::mac::Mac;
use super::nic::{Nic, NicKind, NicSettings};

/// A managed bridge with a private subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Name of the bridge, which is the network's name.
    pub bridge: String,
    /// The host's own address on it with the prefix length: the guests' gateway.
    pub ipv4: Ipv4Network,
}

impl Network {
    pub fn gateway(&self) -> Ipv4Addr {
        self.ipv4.ip()
    }

    /// Whether the gateway is a host's address and leaves room for at least one guest.
    pub fn has_guest_addresses(&self) -> bool {
        let edge = self.gateway() == self.ipv4.network() || self.gateway() == self.ipv4.broadcast();
        self.ipv4.prefix() <= 30 && !edge
    }

    /// Whether a guest may have `ip`: inside, and neither network, broadcast nor gateway.
    pub fn is_guest_address(&self, ip: Ipv4Addr) -> bool {
        let edge = ip == self.ipv4.network() || ip == self.ipv4.broadcast();
        self.ipv4.contains(ip) && !edge && ip != self.gateway()
    }

    /// Addresses that guests may have: all but network, broadcast and gateway.
    pub fn guest_addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let first = u32::from(self.ipv4.network());
        let last = u32::from(self.ipv4.broadcast());
        (first.saturating_add(1)..last).map(Ipv4Addr::from).filter(|ip| *ip != self.gateway())
    }
}

/// What one interface of one container was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub bridge: String,
    pub mac: Mac,
    /// The guest's address with the subnet's prefix length.
    pub ipv4: Ipv4Network,
    pub gateway: Ipv4Addr,
}

impl Lease {
    /// The network it is on, which the lease says in full.
    pub fn network(&self) -> Network {
        // A prefix length out of an Ipv4Network is at most 32, which is all that new() checks.
        let ipv4 = Ipv4Network::new(self.gateway, self.ipv4.prefix()).unwrap_or(self.ipv4);
        Network { bridge: self.bridge.clone(), ipv4 }
    }
}

impl Network {
    /// The same as networks are described now.
    pub fn now(&self) -> super::network::Network {
        super::network::Network::new(&self.bridge, &self.bridge, Some(self.ipv4), None)
    }
}

impl Lease {
    /// The same as interfaces are described now.
    pub fn nic(&self) -> Nic {
        Nic {
            device: "eth0".to_owned(),
            name: "eth0".to_owned(),
            slot: 0,
            kind: NicKind::Bridged { network: self.bridge.clone() },
            mac: self.mac,
            ipv4: Some(self.ipv4),
            gateway4: Some(self.gateway),
            ipv6: None,
            gateway6: None,
            settings: NicSettings::default(),
        }
    }
}

/// Whether `text` may name a bridge: below the kernel's 16 bytes, and without anything that an
/// nftables string or a path would read differently.
pub fn is_bridge_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
