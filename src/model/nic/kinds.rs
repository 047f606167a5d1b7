//! What values of an interface's keys look like.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{NicKind, Wanted};
use crate::model::keys::{Kind, Words};
use crate::model::mac::Mac;
use crate::model::network::is_interface_name;

pub const TYPE: Kind = Kind {
    name: "type",
    words: Words::These(&["bridged", "macvlan", "routed"]),
    rule: "bridged, macvlan or routed",
    check: |text| nic_kind(text, "").is_some(),
};

/// Whether there is such a network is for who knows them to say.
pub const NETWORK: Kind =
    Kind { name: "network", words: Words::Networks, rule: "a network's name", check: |_| true };

pub const PARENT: Kind = Kind {
    name: "interface",
    words: Words::Interfaces,
    rule: "an interface's name: 1 to 15 of a-z, A-Z, 0-9, '.', '-' and '_'",
    check: is_interface_name,
};

pub const NAME: Kind = Kind {
    name: "interface",
    words: Words::NONE,
    rule: "an interface's name: 1 to 15 of a-z, A-Z, 0-9, '.', '-' and '_', and not 'lo', which every guest \
           has",
    check: |text| is_interface_name(text) && text != "lo",
};

pub const MAC: Kind = Kind {
    name: "MAC",
    words: Words::NONE,
    rule: "a unicast Ethernet address, such as 02:00:00:00:00:01",
    check: |text| mac(text).is_some(),
};

pub const ADDRESS4: Kind = Kind {
    name: "address",
    words: Words::These(&["none"]),
    rule: "an IPv4 address, or none; of a macvlan, and only there, with its prefix length",
    check: |text| address::<Ipv4Addr>(text, 32).is_some(),
};

pub const ADDRESS6: Kind = Kind {
    name: "address",
    words: Words::These(&["none"]),
    rule: "an IPv6 address, or none; of a macvlan, and only there, with its prefix length",
    check: |text| address::<Ipv6Addr>(text, 128).is_some(),
};

pub const ROUTER4: Kind = Kind {
    name: "address",
    words: Words::NONE,
    rule: "an IPv4 address",
    check: |text| text.parse::<Ipv4Addr>().is_ok(),
};

pub const ROUTER6: Kind = Kind {
    name: "address",
    words: Words::NONE,
    rule: "an IPv6 address",
    check: |text| text.parse::<Ipv6Addr>().is_ok(),
};

pub const RATE: Kind = Kind {
    name: "bit rate",
    words: Words::NONE,
    rule: "bits in a second of at least 8kbit, such as 100Mbit",
    check: |text| bit_rate(text).is_some(),
};

/// How an interface is connected, on `network` if that is by a bridge.
pub fn nic_kind(text: &str, network: &str) -> Option<NicKind> {
    match text {
        "bridged" => Some(NicKind::Bridged { network: network.to_owned() }),
        "macvlan" => Some(NicKind::Macvlan { parent: String::new() }),
        "routed" => Some(NicKind::Routed),
        _ => None,
    }
}

pub fn mac(text: &str) -> Option<Mac> {
    text.to_ascii_lowercase().parse::<Mac>().ok().filter(|mac| mac.is_unicast())
}

/// An address, and its prefix length where that is said, of at most `most` bits.
pub fn address<A: FromStr>(text: &str, most: u8) -> Option<(Wanted<A>, Option<u8>)> {
    match text {
        "auto" => Some((Wanted::Auto, None)),
        "none" => Some((Wanted::None, None)),
        text => {
            let (address, prefix) = match text.split_once('/') {
                Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
                None => (text, None),
            };
            prefix.is_none_or(|prefix| (1..=most).contains(&prefix)).then_some(())?;
            Some((Wanted::At(address.parse().ok()?), prefix))
        }
    }
}

/// Bits in a second: digits and bit, kbit, Mbit, Gbit or Tbit (LXD's units).
pub fn bit_rate(text: &str) -> Option<u64> {
    let end = text.bytes().position(|b| !b.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit {
        "bit" => 1,
        "kbit" => 1000,
        "Mbit" => 1_000_000,
        "Gbit" => 1_000_000_000,
        "Tbit" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|bits| (8_000..=1 << 50).contains(bits))
}

/// The shortest text that `bit_rate` reads.
pub fn bit_rate_text(bits: u64) -> String {
    let units = [(1_000_000_000_000, "Tbit"), (1_000_000_000, "Gbit"), (1_000_000, "Mbit"), (1000, "kbit")];
    let unit = units.iter().find(|(factor, _)| bits >= *factor && bits.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bits}bit"), |(factor, name)| format!("{}{name}", bits / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_back() {
        for text in ["8kbit", "100Mbit", "1500kbit", "10Gbit", "8001bit"] {
            assert_eq!(bit_rate_text(bit_rate(text).unwrap()), text);
        }
        for bad in ["", "100", "Mbit", "1.5Gbit", "100MB", "-1Mbit", "99999999999999Tbit"] {
            assert_eq!(bit_rate(bad), None, "{bad}");
        }
    }
}
