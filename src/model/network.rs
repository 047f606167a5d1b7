//! Networks: a bridge each, the subnets on it, and what is done with their traffic.

mod keys;
mod subnet;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

pub use keys::{KeyError, NETWORK_KEYS};
pub use subnet::{ULA_PREFIX, pick_subnet, pick_ula};

use super::config::value::boolean;
use super::nic;

/// Bytes of a packet where nothing else was chosen: the kernel's own default for Ethernet links.
pub const DEFAULT_MTU: u32 = 1500;

/// Whose address a guest's packets show outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nat {
    /// The guest's own.
    #[default]
    Off,
    /// That of whichever interface they leave by.
    Masquerade,
    /// This one.
    To(IpAddr),
}

/// A network. Where an address is `None`, it has no subnet of that family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub name: String,
    /// The bridge's interface.
    pub bridge: String,
    /// The bridge is the host's own: nagaya neither makes nor removes it nor gives it addresses.
    pub foreign: bool,
    /// The host's own address on it with the prefix length: the guests' gateway. On a foreign bridge
    /// the router's.
    pub ipv4: Option<Ipv4Network>,
    pub nat4: Nat,
    pub dhcp4: bool,
    pub ipv6: Option<Ipv6Network>,
    pub nat6: Nat,
    /// Router advertisements and DHCPv6.
    pub dhcp6: bool,
    /// The domain that its guests' names are in, which is then answered for.
    pub domain: Option<String>,
    pub mtu: Option<u32>,
    /// Guests reach the host and the outside, but not one another.
    pub isolated: bool,
    /// The operator's own notes, `user.*`.
    pub notes: BTreeMap<String, String>,
}

impl Network {
    /// One with these subnets and all else by default: hidden behind the host.
    pub fn new(name: &str, bridge: &str, ipv4: Option<Ipv4Network>, ipv6: Option<Ipv6Network>) -> Self {
        let nat = |there: bool| if there { Nat::Masquerade } else { Nat::Off };
        Self {
            name: name.to_owned(),
            bridge: bridge.to_owned(),
            foreign: false,
            ipv4,
            nat4: nat(ipv4.is_some()),
            dhcp4: false,
            ipv6,
            nat6: nat(ipv6.is_some()),
            dhcp6: false,
            domain: None,
            mtu: None,
            isolated: false,
            notes: BTreeMap::new(),
        }
    }

    pub fn gateway4(&self) -> Option<Ipv4Addr> {
        self.ipv4.map(|net| net.ip())
    }

    pub fn gateway6(&self) -> Option<Ipv6Addr> {
        self.ipv6.map(|net| net.ip())
    }

    /// Whether something answers its guests' DHCP, DNS or router solicitations.
    pub fn wants_dnsmasq(&self) -> bool {
        self.dhcp4 || self.dhcp6 || self.domain.is_some()
    }

    /// Whether a guest may have `ip`: inside, and neither network, broadcast nor gateway.
    pub fn is_guest_address4(&self, ip: Ipv4Addr) -> bool {
        self.ipv4.is_some_and(|net| {
            let edge = ip == net.network() || ip == net.broadcast();
            net.contains(ip) && !edge && ip != net.ip()
        })
    }

    /// Whether a guest may have `ip`: inside, and neither the routers' anycast address nor the gateway.
    pub fn is_guest_address6(&self, ip: Ipv6Addr) -> bool {
        self.ipv6.is_some_and(|net| net.contains(ip) && ip != net.network() && ip != net.ip())
    }

    /// IPv4 addresses that guests may have, ascending: all but network, broadcast and gateway.
    pub fn guest_addresses4(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (first, last, gateway) = match self.ipv4 {
            Some(net) => (u32::from(net.network()), u32::from(net.broadcast()), u32::from(net.ip())),
            None => (0, 0, 0),
        };
        (first.saturating_add(1)..last).filter(move |ip| *ip != gateway).map(Ipv4Addr::from)
    }

    /// The IPv6 address that goes with the guest's IPv4 address: the same number in the subnet.
    pub fn twin6(&self, ipv4: Ipv4Addr) -> Option<Ipv6Addr> {
        let (net4, net6) = (self.ipv4?, self.ipv6?);
        let number = u32::from(ipv4).checked_sub(u32::from(net4.network()))?;
        let twin = Ipv6Addr::from(u128::from(net6.network()) + u128::from(number));
        self.is_guest_address6(twin).then_some(twin)
    }

    /// The rules that the fields' types do not enforce.
    ///
    /// # Errors
    /// The key that breaks one.
    pub fn check(&self) -> Result<(), KeyError> {
        if !is_network_name(&self.name) {
            return Err(KeyError::wrong("name", &self.name, "1 to 15 of a-z, 0-9 and '-', a letter first"));
        }
        if !is_interface_name(&self.bridge) {
            return Err(KeyError::wrong("bridge", &self.bridge, "an interface's name"));
        }
        if let Some(net) = self.ipv4 {
            let edge = net.ip() == net.network() || net.ip() == net.broadcast();
            if edge || net.prefix() > 30 || net.prefix() < 8 {
                let rule = "a host's address with a prefix length of 8 to 30, such as 10.1.0.1/24";
                return Err(KeyError::wrong("ipv4.address", &net.to_string(), rule));
            }
            if net.ip().is_loopback() || net.ip().is_multicast() || net.ip().is_link_local() {
                return Err(KeyError::wrong("ipv4.address", &net.to_string(), "an address that is routed"));
            }
        }
        if let Some(net) = self.ipv6 {
            let ip = net.ip();
            if ip == net.network() || !(48..=112).contains(&net.prefix()) {
                let rule = "a host's address with a prefix length of 48 to 112, such as fd00:1::1/64";
                return Err(KeyError::wrong("ipv6.address", &net.to_string(), rule));
            }
            if ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local() || ip.to_ipv4().is_some() {
                return Err(KeyError::wrong("ipv6.address", &net.to_string(), "an address that is routed"));
            }
            if self.dhcp6 && net.prefix() != 64 {
                return Err(KeyError::wrong("ipv6.dhcp", "true", "false where the prefix length is not 64"));
            }
        }
        if let Some(domain) = self.domain.as_ref().filter(|domain| !is_domain(domain)) {
            return Err(KeyError::wrong("dns.domain", domain, "a domain's name in lower case, or none"));
        }
        if let Some(bytes) = self.mtu {
            nic::mtu(&bytes.to_string())?;
        }
        self.notes.iter().try_for_each(|(key, value)| check_note(key, value))?;
        let nat_to = |nat: Nat, v4: bool| match nat {
            Nat::To(ip) => {
                ip.is_ipv4() == v4 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback()
            }
            _ => true,
        };
        for (key, nat, v4) in [("ipv4.nat.address", self.nat4, true), ("ipv6.nat.address", self.nat6, false)]
        {
            if !nat_to(nat, v4) {
                return Err(KeyError::wrong(key, "", "an address of the host of that family"));
            }
        }
        let without = |key: &str, set: bool, of: &str| match set {
            true => Err(KeyError::needs(key, of)),
            false => Ok(()),
        };
        without("ipv4.nat", self.ipv4.is_none() && self.nat4 != Nat::Off, "ipv4.address")?;
        without("ipv4.dhcp", self.ipv4.is_none() && self.dhcp4, "ipv4.address")?;
        without("ipv6.nat", self.ipv6.is_none() && self.nat6 != Nat::Off, "ipv6.address")?;
        without("ipv6.dhcp", self.ipv6.is_none() && self.dhcp6, "ipv6.address")?;
        if self.foreign && (self.wants_dnsmasq() || self.nat4 != Nat::Off || self.nat6 != Nat::Off) {
            let reason = "a network without 'parent': on a bridge of the host's own, others route and answer";
            return Err(KeyError::not_for("ipv4.nat, ipv4.dhcp, ipv6.nat, ipv6.dhcp, dns.domain", reason));
        }
        Ok(())
    }

    /// Sets one key; `auto` has been resolved by the caller. An empty value takes it back.
    ///
    /// # Errors
    /// The key that cannot be so. What depends on other keys is `check`'s to say.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), KeyError> {
        let flag = |value: &str| match value {
            "" => Ok(false),
            text => boolean(text).ok_or_else(|| KeyError::wrong(key, text, "true or false")),
        };
        match key {
            "ipv4.address" => {
                self.ipv4 = match value {
                    "" | "none" => None,
                    text => Some(keys::with_prefix(key, text, "such as 10.1.0.1/24")?),
                };
                if self.ipv4.is_none() {
                    (self.nat4, self.dhcp4) = (Nat::Off, false);
                }
            }
            "ipv6.address" => {
                self.ipv6 = match value {
                    "" | "none" => None,
                    text => Some(keys::with_prefix(key, text, "such as fd00:1::1/64")?),
                };
                if self.ipv6.is_none() {
                    (self.nat6, self.dhcp6) = (Nat::Off, false);
                }
            }
            "ipv4.nat" => self.nat4 = nat(self.nat4, flag(value)?),
            "ipv6.nat" => self.nat6 = nat(self.nat6, flag(value)?),
            "ipv4.nat.address" => self.nat4 = nat_address(key, value)?,
            "ipv6.nat.address" => self.nat6 = nat_address(key, value)?,
            "ipv4.dhcp" => self.dhcp4 = flag(value)?,
            "ipv6.dhcp" => self.dhcp6 = flag(value)?,
            "dns.domain" => {
                self.domain = match value {
                    "" | "none" => None,
                    text if is_domain(text) => Some(text.to_owned()),
                    text => return Err(KeyError::wrong(key, text, "a domain's name in lower case, or none")),
                }
            }
            "mtu" => self.mtu = if value.is_empty() { None } else { Some(nic::mtu(value)?) },
            "security.port_isolation" => self.isolated = flag(value)?,
            "parent" => return Err(KeyError::fixed(key)),
            _ if key.starts_with("user.") => {
                check_note(key, value)?;
                match value {
                    "" => self.notes.remove(key),
                    text => self.notes.insert(key.to_owned(), text.to_owned()),
                };
            }
            _ => return Err(KeyError::unknown(key, NETWORK_KEYS.iter().map(|(name, ..)| *name))),
        }
        Ok(())
    }

    /// All keys that hold, sorted.
    pub fn config(&self) -> BTreeMap<String, String> {
        let mut pairs = self.notes.clone();
        let mut put = |key: &str, value: String| {
            pairs.insert(key.to_owned(), value);
        };
        put("ipv4.address", self.ipv4.map_or_else(|| "none".to_owned(), |net| net.to_string()));
        put("ipv6.address", self.ipv6.map_or_else(|| "none".to_owned(), |net| net.to_string()));
        for (family, nat) in [("ipv4", self.nat4), ("ipv6", self.nat6)] {
            put(&format!("{family}.nat"), (nat != Nat::Off).to_string());
            if let Nat::To(ip) = nat {
                put(&format!("{family}.nat.address"), ip.to_string());
            }
        }
        put("ipv4.dhcp", self.dhcp4.to_string());
        put("ipv6.dhcp", self.dhcp6.to_string());
        put("security.port_isolation", self.isolated.to_string());
        if let Some(domain) = &self.domain {
            put("dns.domain", domain.clone());
        }
        if let Some(mtu) = self.mtu {
            put("mtu", mtu.to_string());
        }
        if self.foreign {
            put("parent", self.bridge.clone());
        }
        pairs
    }
}

/// Whether `user.*` may be so.
fn check_note(key: &str, value: &str) -> Result<(), KeyError> {
    let named = key.strip_prefix("user.").is_some_and(|rest| (1..=64).contains(&rest.len()));
    let plain = !key.chars().chain(value.chars()).any(char::is_control);
    match named && plain && value.len() <= 1024 {
        true => Ok(()),
        false => Err(KeyError::wrong(key, value, "1024 bytes at most without control characters")),
    }
}

fn nat(now: Nat, on: bool) -> Nat {
    match (now, on) {
        (_, false) => Nat::Off,
        (Nat::Off, true) => Nat::Masquerade,
        (now, true) => now,
    }
}

fn nat_address(key: &str, value: &str) -> Result<Nat, KeyError> {
    match value {
        "" => Ok(Nat::Masquerade),
        text => {
            let ip: Option<IpAddr> = text.parse().ok();
            let fits = ip.filter(|ip| ip.is_ipv4() == key.starts_with("ipv4"));
            fits.map(Nat::To)
                .ok_or_else(|| KeyError::wrong(key, text, "an address of the host of that family"))
        }
    }
}

/// Whether `text` may name a network. Where it names the interface too, that has no more room.
pub fn is_network_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether `text` may name a network interface: below the kernel's 16 bytes, and without anything
/// that an nftables string or a path would read differently.
pub fn is_interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A domain's name of labels in lower case (RFC 1123).
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 200 && text.split('.').all(label) && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let (ipv4, ipv6) = ("10.9.0.1/29".parse().unwrap(), "fd00:9::1/64".parse().unwrap());
        Network::new("lan", "b0", Some(ipv4), Some(ipv6))
    }

    #[test]
    fn guests_never_get_network_broadcast_or_gateway() {
        let network = network();
        let all: Vec<_> = network.guest_addresses4().map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
        for last in 0..=9 {
            let ip = Ipv4Addr::new(10, 9, 0, last);
            assert_eq!(network.is_guest_address4(ip), all.contains(&ip.to_string()), "{ip}");
        }
        assert_eq!(network.twin6(Ipv4Addr::new(10, 9, 0, 3)).unwrap().to_string(), "fd00:9::3");
        assert_eq!(network.twin6(Ipv4Addr::new(10, 9, 0, 1)), None);
        assert!(!network.is_guest_address6("fd00:9::".parse().unwrap()));
        assert!(!network.is_guest_address6("fd00:8::7".parse().unwrap()));
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
        for bad in ["", "a b", "A", "-a", "sixteen-letters0", "a;b", "1a", "a.b"] {
            assert!(!is_network_name(bad), "{bad}");
        }
        for bad in ["", "a b", "a/b", "a\"", "sixteen-letters0", ".", "-a"] {
            assert!(!is_interface_name(bad), "{bad}");
        }
    }

    #[test]
    fn dependent_keys_need_what_they_stand_on() {
        let mut network = network();
        network.set("ipv4.address", "none").unwrap();
        network.set("ipv4.dhcp", "true").unwrap();
        assert!(network.check().unwrap_err().to_string().contains("ipv4.address"));
        let mut foreign = Network { foreign: true, nat4: Nat::Off, nat6: Nat::Off, ..self::network() };
        foreign.check().unwrap();
        foreign.dhcp4 = true;
        assert!(foreign.check().unwrap_err().to_string().contains("parent"));
    }
}
