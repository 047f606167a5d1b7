//! The keys of networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::names::{is_domain, is_interface_name};
use super::settings::{Nat, Network, check_note};
use crate::model::config::value::boolean;
use crate::model::keys::{Absent, BOOL, Key, KeyError, Kind, Live, MTU, Subject, TEXT, Table, Words};

/// How a key of a network is set, to a value of its kind, and read.
#[derive(Clone, Copy)]
pub struct Field {
    /// An empty value takes the key back. None where the value is not of the kind.
    set: fn(&mut Network, &str) -> Option<()>,
    /// None where there is nothing to say.
    get: fn(&Network) -> Option<String>,
}

impl Subject for Network {
    type Draft = Self;
    type Sets = Field;
    const EMPTY_RESETS: bool = true;

    fn put(key: &Key<Self>, network: &mut Self, name: &str, value: &str) -> Result<(), KeyError> {
        if key.family().is_some() {
            check_note(name, value)?;
            match value {
                "" => network.notes.remove(name),
                text => network.notes.insert(name.to_owned(), text.to_owned()),
            };
        }
        (key.sets.set)(network, value).ok_or_else(|| KeyError::wrong(name, value, key.kind.rule))
    }
}

impl Network {
    /// Sets one key; `auto` has been resolved by the caller. An empty value takes it back.
    ///
    /// # Errors
    /// The key that cannot be so. What depends on other keys is `check`'s to say.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), KeyError> {
        NETWORK_KEYS.set(self, key, value)
    }

    /// The rules that the fields' types do not enforce.
    ///
    /// # Errors
    /// The key that breaks one.
    pub fn check(&self) -> Result<(), KeyError> {
        self.rules().map_err(|e| e.listed_by(NETWORK_KEYS.listed_by))
    }

    /// All keys that hold, sorted.
    pub fn config(&self) -> BTreeMap<String, String> {
        let mut pairs = self.notes.clone();
        let said = NETWORK_KEYS.keys.iter().filter_map(|key| Some((key.name, (key.sets.get)(self)?)));
        pairs.extend(said.map(|(key, value)| (key.to_owned(), value)));
        pairs
    }
}

pub const NETWORK_KEYS: Table<Network> =
    Table { what: "network", listed_by: "nagaya network keys", keys: KEYS, absent: ABSENT };

const SUBNET4: Kind = Kind {
    name: "address/prefix",
    words: Words::These(&["auto", "none"]),
    rule: "an address with its prefix length, such as 10.1.0.1/24; auto, or none",
    check: |text| text == "auto" || subnet::<Ipv4Network>(text).is_some(),
};

const SUBNET6: Kind = Kind {
    name: "address/prefix",
    words: Words::These(&["auto", "none"]),
    rule: "an address with its prefix length, such as fd00:1::1/64; auto, or none",
    check: |text| text == "auto" || subnet::<Ipv6Network>(text).is_some(),
};

const HOST4: Kind = Kind {
    name: "address",
    words: Words::NONE,
    rule: "an IPv4 address of the host",
    check: |text| text.parse::<Ipv4Addr>().is_ok(),
};

const HOST6: Kind = Kind {
    name: "address",
    words: Words::NONE,
    rule: "an IPv6 address of the host",
    check: |text| text.parse::<Ipv6Addr>().is_ok(),
};

const DOMAIN: Kind = Kind {
    name: "domain",
    words: Words::NONE,
    rule: "a domain's name in lower case, or none",
    check: |text| text == "none" || is_domain(text),
};

const BRIDGE: Kind = Kind {
    name: "interface",
    words: Words::Interfaces,
    rule: "an interface's name",
    check: is_interface_name,
};

const KEYS: &[Key<Network>] = &[
    Key::new(
        "ipv4.address",
        SUBNET4,
        "auto",
        Live::Guests,
        "The host's address on it with the prefix length; auto, or none",
        Field {
            set: |network, text| {
                network.ipv4 = subnet(text)?;
                if network.ipv4.is_none() {
                    (network.nat4, network.dhcp4) = (Nat::Off, false);
                }
                Some(())
            },
            get: |network| Some(or_none(network.ipv4)),
        },
    ),
    Key::new(
        "ipv4.nat",
        BOOL,
        "true",
        Live::Now,
        "Whether guests' IPv4 packets leave with the host's address",
        Field {
            set: |network, text| switch(&mut network.nat4, text),
            get: |network| Some((network.nat4 != Nat::Off).to_string()),
        },
    )
    .differs("default true only behind auto"),
    Key::new(
        "ipv4.nat.address",
        HOST4,
        "",
        Live::Now,
        "The address that they leave with instead of the outgoing interface's",
        Field {
            set: |network, text| nat_to(&mut network.nat4, text),
            get: |network| nat_address(network.nat4),
        },
    ),
    Key::new(
        "ipv4.dhcp",
        BOOL,
        "false",
        Live::Now,
        "Whether DHCP is answered, with the guests' static addresses",
        Field {
            set: |network, text| flag(&mut network.dhcp4, text),
            get: |network| Some(network.dhcp4.to_string()),
        },
    )
    .differs("default true"),
    Key::new(
        "ipv6.address",
        SUBNET6,
        "auto",
        Live::Guests,
        "As ipv4.address; auto is a unique local subnet (ULA)",
        Field {
            set: |network, text| {
                network.ipv6 = subnet(text)?;
                if network.ipv6.is_none() {
                    (network.nat6, network.dhcp6) = (Nat::Off, false);
                }
                Some(())
            },
            get: |network| Some(or_none(network.ipv6)),
        },
    ),
    Key::new(
        "ipv6.nat",
        BOOL,
        "true",
        Live::Now,
        "Whether guests' IPv6 packets leave with the host's address",
        Field {
            set: |network, text| switch(&mut network.nat6, text),
            get: |network| Some((network.nat6 != Nat::Off).to_string()),
        },
    )
    .differs("default true only behind auto"),
    Key::new(
        "ipv6.nat.address",
        HOST6,
        "",
        Live::Now,
        "The address that they leave with instead of the outgoing interface's",
        Field {
            set: |network, text| nat_to(&mut network.nat6, text),
            get: |network| nat_address(network.nat6),
        },
    ),
    Key::new(
        "ipv6.dhcp",
        BOOL,
        "false",
        Live::Now,
        "Whether routers are advertised and DHCPv6 is answered",
        Field {
            set: |network, text| flag(&mut network.dhcp6, text),
            get: |network| Some(network.dhcp6.to_string()),
        },
    )
    .differs("default true"),
    Key::new(
        "dns.domain",
        DOMAIN,
        "",
        Live::Guests,
        "The domain in which its guests' names are answered, forward and reverse",
        Field {
            set: |network, text| {
                network.domain = Some(text).filter(|text| !matches!(*text, "" | "none")).map(str::to_owned);
                Some(())
            },
            get: |network| network.domain.clone(),
        },
    )
    .differs("default its own name"),
    Key::new(
        "mtu",
        MTU,
        "1500",
        Live::Guests,
        "Bytes of a packet",
        Field {
            set: |network, text| {
                network.mtu = if text.is_empty() { None } else { Some(text.parse().ok()?) };
                Some(())
            },
            get: |network| network.mtu.map(|bytes| bytes.to_string()),
        },
    )
    .differs("bridge.mtu"),
    Key::new(
        "parent",
        BRIDGE,
        "",
        Live::Creation,
        "An existing bridge of the host's to join; for 'network create' only",
        Field { set: |_, _| None, get: |network| network.foreign.then(|| network.bridge.clone()) },
    )
    .differs("not of bridges"),
    Key::new(
        "security.port_isolation",
        BOOL,
        "false",
        Live::Now,
        "Whether its guests are kept from one another",
        Field {
            set: |network, text| flag(&mut network.isolated, text),
            get: |network| Some(network.isolated.to_string()),
        },
    )
    .differs("of interfaces only"),
    Key::new(
        "user.*",
        TEXT,
        "",
        Live::None,
        "A note of your own",
        Field { set: |_, _| Some(()), get: |_| None },
    ),
];

/// Keys that LXD's bridges have, and what to use instead.
const ABSENT: &[Absent] = &[
    Absent::key("bridge.driver"),
    Absent::instead(
        "bridge.external_interfaces",
        "a network can be on a bridge that the host has: nagaya network create NAME parent=br0",
    ),
    Absent::key("bridge.hwaddr"),
    Absent::instead("bridge.mtu", "mtu=9000"),
    Absent::key("bridge.multicast_snooping"),
    Absent::instead("dns.mode", "names are answered where there is a domain: dns.domain=lan.example"),
    Absent::key("dns.nameservers"),
    Absent::key("dns.search"),
    Absent::key("dns.zone.forward"),
    Absent::key("dns.zone.reverse.ipv4"),
    Absent::key("dns.zone.reverse.ipv6"),
    Absent::key("ipv4.dhcp.expiry"),
    Absent::key("ipv4.dhcp.gateway"),
    Absent::instead(
        "ipv4.dhcp.ranges",
        "guests get the addresses that are allotted to them: nagaya device set NAME eth0 ipv4.address=ADDRESS",
    ),
    Absent::key("ipv4.dhcp.routes"),
    Absent::instead(
        "ipv4.firewall",
        "nagaya's firewall lets through what its policy allows: nagaya firewall rules",
    ),
    Absent::key("ipv4.nat.order"),
    Absent::key("ipv4.ovn.ranges"),
    Absent::instead(
        "ipv4.routes",
        "single addresses are routed to an interface: nagaya device add NAME wan nic nictype=routed ipv4.address=ADDRESS",
    ),
    Absent::instead("ipv4.routing", "nagaya switches forwarding on where a network needs it"),
    Absent::key("ipv6.dhcp.expiry"),
    Absent::instead(
        "ipv6.dhcp.ranges",
        "guests get the addresses that are allotted to them: nagaya device set NAME eth0 ipv6.address=ADDRESS",
    ),
    Absent::instead(
        "ipv6.dhcp.stateful",
        "guests get the addresses that are allotted to them: ipv6.dhcp=true",
    ),
    Absent::instead(
        "ipv6.firewall",
        "nagaya's firewall lets through what its policy allows: nagaya firewall rules",
    ),
    Absent::key("ipv6.nat.order"),
    Absent::key("ipv6.ovn.ranges"),
    Absent::instead("ipv6.ra", "ipv6.dhcp=true advertises routers too"),
    Absent::instead(
        "ipv6.routes",
        "single addresses are routed to an interface: nagaya device add NAME wan nic nictype=routed ipv6.address=ADDRESS",
    ),
    Absent::instead("ipv6.routing", "nagaya switches forwarding on where a network needs it"),
    Absent::key("raw.dnsmasq"),
    Absent::instead("security.acls*", "rules are the firewall's: nagaya firewall allow --help"),
];

/// An address that is written with its prefix length; none where there is to be none.
fn subnet<N: FromStr>(text: &str) -> Option<Option<N>> {
    match text {
        "" | "none" => Some(None),
        text if text.contains('/') => text.parse().ok().map(Some),
        _ => None,
    }
}

fn or_none(net: Option<impl ToString>) -> String {
    net.map_or_else(|| "none".to_owned(), |net| net.to_string())
}

fn flag(field: &mut bool, text: &str) -> Option<()> {
    *field = if text.is_empty() { false } else { boolean(text)? };
    Some(())
}

/// An address that was chosen stays.
fn switch(nat: &mut Nat, text: &str) -> Option<()> {
    let mut on = false;
    flag(&mut on, text)?;
    *nat = match (*nat, on) {
        (_, false) => Nat::Off,
        (Nat::Off, true) => Nat::Masquerade,
        (now, true) => now,
    };
    Some(())
}

fn nat_to(nat: &mut Nat, text: &str) -> Option<()> {
    *nat = if text.is_empty() { Nat::Masquerade } else { Nat::To(text.parse::<IpAddr>().ok()?) };
    Some(())
}

fn nat_address(nat: Nat) -> Option<String> {
    match nat {
        Nat::To(ip) => Some(ip.to_string()),
        Nat::Off | Nat::Masquerade => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let (ipv4, ipv6) = ("10.9.0.1/29".parse().unwrap(), "fd00:9::1/64".parse().unwrap());
        Network::new("lan", "b0", Some(ipv4), Some(ipv6))
    }

    #[test]
    fn keys_are_read_back_as_they_were_set() {
        let mut network = network();
        for (key, value) in [
            ("ipv4.address", "10.1.2.1/24"),
            ("ipv4.nat.address", "198.51.100.7"),
            ("ipv6.address", "none"),
            ("ipv4.dhcp", "true"),
            ("dns.domain", "lan.example"),
            ("mtu", "1400"),
            ("user.note", "of the third floor"),
        ] {
            network.set(key, value).unwrap();
            assert_eq!(network.config().get(key).map(String::as_str), Some(value));
        }
        network.check().unwrap();
        assert_eq!(network.nat6, Nat::Off, "without addresses there is nothing to translate");
        network.set("ipv4.nat", "false").unwrap();
        assert_eq!(network.config().get("ipv4.nat.address"), None);
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
    }

    #[test]
    fn nonsense_is_named() {
        for (key, value) in [
            ("ipv4.address", "10.1.2.0/24"),
            ("ipv4.address", "10.1.2.255/24"),
            ("ipv4.address", "10.1.2.1"),
            ("ipv4.address", "10.1.2.1/31"),
            ("ipv4.address", "127.0.0.1/8"),
            ("ipv4.address", "x"),
            ("ipv6.address", "fe80::1/64"),
            ("ipv6.address", "fd00::/64"),
            ("ipv6.address", "fd00::1/127"),
            ("ipv4.nat", "perhaps"),
            ("ipv4.nat.address", "fd00::1"),
            ("dns.domain", "UPPER"),
            ("dns.domain", "a b"),
            ("dns.domain", "-x.example"),
            ("mtu", "9"),
            ("parent", "br0"),
            ("bridge.driver", "native"),
        ] {
            let mut network = network();
            let error = network.set(key, value).and_then(|()| network.check()).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
