//! The keys of networks, and what is said of keys that cannot be so.

use crate::model::suggest;

/// Key, default, and what it is, in the order in which they are shown. Names are LXD's.
pub const NETWORK_KEYS: &[(&str, &str, &str)] = &[
    ("ipv4.address", "auto", "The host's address on it with the prefix length; auto, or none"),
    ("ipv4.nat", "true", "Whether guests' IPv4 packets leave with the host's address"),
    ("ipv4.nat.address", "", "The address that they leave with instead of the outgoing interface's"),
    ("ipv4.dhcp", "false", "Whether DHCP is answered, with the addresses that are allotted anyway"),
    ("ipv6.address", "auto", "As ipv4.address; auto is a unique local subnet (ULA)"),
    ("ipv6.nat", "true", "Whether guests' IPv6 packets leave with the host's address"),
    ("ipv6.nat.address", "", "The address that they leave with instead of the outgoing interface's"),
    ("ipv6.dhcp", "false", "Whether routers are advertised and DHCPv6 is answered"),
    ("dns.domain", "", "The domain in which its guests' names are answered, forward and reverse"),
    ("mtu", "1500", "Bytes of a packet"),
    ("parent", "", "An existing bridge of the host's to be on; for 'network create' only"),
    ("security.port_isolation", "false", "Whether its guests are kept from one another"),
    ("user.*", "", "Anything that you wish to keep with it"),
];

/// A key that cannot be what it was set to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("there is no key '{key}'")]
    Unknown { key: String, nearest: Option<String> },
    #[error("{key} cannot be '{value}': it must be {rule}")]
    Wrong { key: String, value: String, rule: String },
    #[error("{key} needs {other}")]
    Needs { key: String, other: String },
    #[error("{key} is only for {of}")]
    NotFor { key: String, of: String },
    #[error("{key} cannot be changed: it is said when the network is created")]
    Fixed { key: String },
}

impl KeyError {
    pub fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self::Unknown { key: key.to_owned(), nearest: suggest::nearest(key, known).map(str::to_owned) }
    }

    pub fn wrong(key: &str, value: &str, rule: &str) -> Self {
        Self::Wrong { key: key.to_owned(), value: value.to_owned(), rule: rule.to_owned() }
    }

    pub fn needs(key: &str, other: &str) -> Self {
        Self::Needs { key: key.to_owned(), other: other.to_owned() }
    }

    pub fn not_for(key: &str, of: &str) -> Self {
        Self::NotFor { key: key.to_owned(), of: of.to_owned() }
    }

    pub fn fixed(key: &str) -> Self {
        Self::Fixed { key: key.to_owned() }
    }
}

/// An address that is written with its prefix length.
pub(super) fn with_prefix<N: std::str::FromStr>(key: &str, text: &str, such: &str) -> Result<N, KeyError> {
    let parsed = if text.contains('/') { text.parse().ok() } else { None };
    parsed.ok_or_else(|| {
        KeyError::wrong(key, text, &format!("an address with its prefix length, {such}; auto, or none"))
    })
}
