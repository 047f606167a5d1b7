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

/// A string that is not six bytes as `02:00:00:00:00:00` in lower case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an Ethernet address (02:00:00:00:00:00, lower case)")]
pub struct MacError(pub String);

impl std::str::FromStr for Mac {
    type Err = MacError;

    /// Reads back what `Display` writes and nothing else.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let bad = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = parts.next().and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(bad)?;
        }
        let mac = Self(bytes);
        if mac.to_string() == text { Ok(mac) } else { Err(bad()) }
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

/// Where private subnets are taken from: first and last address of the range, prefix length of a
/// subnet. RFC 1918, the largest block first.
const POOLS: [(Ipv4Addr, Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 255, 255, 255), 20),
    (Ipv4Addr::new(172, 16, 0, 0), Ipv4Addr::new(172, 31, 255, 255), 20),
    (Ipv4Addr::new(192, 168, 0, 0), Ipv4Addr::new(192, 168, 255, 255), 24),
];

/// A private subnet that overlaps nothing in `used`, as the host's own address on it (the
/// subnet's first) with the prefix length. `seed` decides where in a pool the search begins, so
/// that two hosts of one site seldom choose alike. `None` when no pool has room.
///
/// `used` ought to hold the host's resolvers too: one reached through the default route is in no
/// routing table, and a subnet laid over it would cut the host off from it.
pub fn pick_subnet(used: &[Ipv4Network], seed: u64) -> Option<Ipv4Network> {
    POOLS.iter().find_map(|(first, last, prefix)| {
        let size = 1u32 << (32 - prefix);
        let count = (u32::from(*last) - u32::from(*first)) / size + 1;
        let start = (seed % u64::from(count)) as u32;
        (0..count).find_map(|n| {
            let base = u32::from(*first) + (start + n) % count * size;
            let candidate = Ipv4Network::new(Ipv4Addr::from(base + 1), *prefix).ok()?;
            let free = !used.iter().any(|net| net.overlaps(candidate));
            free.then_some(candidate)
        })
    })
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

/// Whether `text` may name a bridge: below the kernel's 16 bytes, and without anything that an
/// nftables string or a path would read differently.
pub fn is_bridge_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_never_get_network_broadcast_or_gateway() {
        let network = Network { bridge: "b0".into(), ipv4: "10.9.0.1/29".parse().unwrap() };
        let all: Vec<_> = network.guest_addresses().map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
        for last in 0..=9 {
            let ip = Ipv4Addr::new(10, 9, 0, last);
            assert_eq!(network.is_guest_address(ip), all.contains(&ip.to_string()), "{ip}");
        }
    }

    #[test]
    fn macs_are_read_back_as_they_are_written() {
        let mac = Mac([2, 0, 0x1f, 0xff, 7, 9]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        let long = "02:00:00:00:00:00:00";
        for bad in [
            "",
            "2:0:0:0:0:0",
            "02:00:00:00:00",
            long,
            "02:00:00:00:00:0G",
            "02:00:00:00:00:FF",
            "+2:00:00:00:00:00",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    fn nets(texts: &[&str]) -> Vec<Ipv4Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn picked(used: &[&str], seed: u64) -> Option<String> {
        pick_subnet(&nets(used), seed).map(|net| net.to_string())
    }

    #[test]
    fn a_subnet_begins_where_the_seed_says_and_wraps_around() {
        assert_eq!(picked(&[], 0).unwrap(), "10.0.0.1/20");
        assert_eq!(picked(&[], 17).unwrap(), "10.1.16.1/20");
        assert_eq!(picked(&[], 4096 + 17).unwrap(), "10.1.16.1/20");
        assert_eq!(picked(&["10.255.240.0/20"], 4095).unwrap(), "10.0.0.1/20");
        assert!(picked(&[], u64::MAX).is_some());
    }

    #[test]
    fn a_subnet_overlaps_nothing_in_use() {
        // One address inside, the whole of it, and more than it, written with host bits or without.
        assert_eq!(picked(&["10.0.15.255/32"], 0).unwrap(), "10.0.16.1/20");
        assert_eq!(picked(&["10.0.0.7/20", "10.0.16.0/21"], 0).unwrap(), "10.0.32.1/20");
        assert_eq!(picked(&["10.0.0.0/9"], 5).unwrap(), "10.128.0.1/20");
    }

    #[test]
    fn a_taken_pool_gives_way_to_the_next() {
        assert_eq!(picked(&["10.0.0.0/8"], 1).unwrap(), "172.16.16.1/20");
        assert_eq!(picked(&["10.0.0.0/8", "172.16.0.0/12"], 3).unwrap(), "192.168.3.1/24");
        assert_eq!(picked(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], 3), None);
    }

    #[test]
    fn macs_are_unicast_and_local() {
        let mac = Mac::guest([1, 2, 3, 4, 255]);
        assert_eq!(mac.to_string(), "02:01:02:03:04:ff");
        assert_eq!(mac.host_end().to_string(), "fe:01:02:03:04:ff");
    }
}
