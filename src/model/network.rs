//! Networks and the addresses on them.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Mac {
    /// A guest's address: locally administered unicast, from 5 random bytes.
    pub fn guest(random: [u8; 5]) -> Self {
        let [a, b, c, d, e] = random;
        Self([0x02, a, b, c, d, e])
    }

    /// The host end of a guest's link. It begins with fe, the highest locally administered unicast
    /// prefix, for a bridge takes over the lowest address among its ports.
    pub fn host_end(self) -> Self {
        let mut bytes = self.0;
        bytes[0] = 0xfe;
        Self(bytes)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_never_get_network_broadcast_or_gateway() {
        let network = Network { bridge: "b0".into(), ipv4: "10.9.0.1/29".parse().unwrap() };
        let all: Vec<_> = network.guest_addresses().map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
    }

    #[test]
    fn macs_are_unicast_and_local() {
        let mac = Mac::guest([1, 2, 3, 4, 255]);
        assert_eq!(mac.to_string(), "02:01:02:03:04:ff");
        assert_eq!(mac.host_end().to_string(), "fe:01:02:03:04:ff");
    }
}
