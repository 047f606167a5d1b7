//! Subnets that are asked for, and those that nobody on the host uses yet.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};

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

/// The bridge's own address with the prefix length, as it is typed. A subnet's own address stands for its first
/// host, which the bridge usually is.
///
/// # Errors
/// For who typed it: how it must be.
pub fn bridge_address(text: &str) -> Result<Ipv4Network, String> {
    let usage = "it must be an address with a prefix length of 8 to 29, such as 10.1.0.1/20";
    let network: Ipv4Network = text.parse().map_err(|_| usage.to_owned())?;
    if !text.contains('/') || !(8..=29).contains(&network.prefix()) {
        return Err(usage.to_owned());
    }
    if network.ip() == network.broadcast() {
        return Err(format!("{} is the subnet's broadcast address", network.ip()));
    }
    if network.ip() != network.network() {
        return Ok(network);
    }
    let first = u32::from(network.ip()) + 1;
    Ipv4Network::new(first.into(), network.prefix()).map_err(|e| e.to_string())
}

/// Prefix length of a unique local subnet (RFC 4193).
pub const ULA_PREFIX: u8 = 64;

/// A unique local subnet that overlaps nothing in `used`, as the host's own address on it. `seed` is
/// 56 random bits: the 40 of the site's and the 16 of the subnet's.
pub fn pick_ula(used: &[Ipv6Network], seed: u64) -> Option<Ipv6Network> {
    const TRIES: u64 = 1 << 16;
    (0..TRIES).find_map(|n| {
        let bits = (seed & !0xffff & ((1 << 56) - 1)) | (seed.wrapping_add(n) & 0xffff);
        let base = (0xfd_u128 << 120) | (u128::from(bits) << 64) | 1;
        let candidate = Ipv6Network::new(Ipv6Addr::from(base), ULA_PREFIX).ok()?;
        let free = !used.iter().any(|net| net.contains(candidate.ip()) || candidate.contains(net.ip()));
        free.then_some(candidate)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_names_the_bridges_address() {
        assert_eq!(bridge_address("10.1.0.9/20").unwrap().to_string(), "10.1.0.9/20");
        assert_eq!(bridge_address("10.1.0.0/20").unwrap().to_string(), "10.1.0.1/20");
        for bad in
            ["10.1.0.1", "10.1.0.1/30", "10.1.0.1/33", "0.0.0.0/0", "fd00::1/64", "10.1.15.255/20", "x"]
        {
            assert!(bridge_address(bad).is_err(), "{bad}");
        }
    }

    fn nets(texts: &[&str]) -> Vec<Ipv4Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn picked(used: &[&str], seed: u64) -> Option<String> {
        pick_subnet(&nets(used), seed).map(|net| net.to_string())
    }

    #[test]
    fn a_unique_local_subnet_has_the_seeds_bits_and_overlaps_nothing() {
        let seed = 0x0012_3456_789a_bcde;
        let first = pick_ula(&[], seed).unwrap();
        assert_eq!(first.to_string(), "fd12:3456:789a:bcde::1/64");
        assert_eq!(pick_ula(&[first], seed).unwrap().to_string(), "fd12:3456:789a:bcdf::1/64");
        assert_eq!(pick_ula(&["fc00::/7".parse().unwrap()], seed), None);
        assert_eq!(pick_ula(&[], 0xffff).unwrap().to_string(), "fd00:0:0:ffff::1/64");
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
}
