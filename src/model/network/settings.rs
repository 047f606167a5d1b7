//! Networks: a bridge each, the subnets on it, and what is done with their traffic.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::names::{is_domain, is_interface_name, is_network_name};
use crate::model::keys::{KeyError, MTU};

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
pub struct Network {
    /// What the operator calls it.
    pub name: String,
    /// The bridge's interface.
    pub bridge: String,
    /// The bridge is the host's own: nagaya neither makes nor removes it nor gives it addresses.
    #[serde(default)]
    pub foreign: bool,
    /// The host's own address on it with the prefix length: the guests' gateway. On a foreign bridge
    /// the router's.
    pub ipv4: Option<Ipv4Network>,
    /// Whose IPv4 address guests' packets show outside.
    #[serde(default)]
    pub nat4: Nat,
    /// Whether DHCP is answered.
    #[serde(default)]
    pub dhcp4: bool,
    /// The same for IPv6.
    pub ipv6: Option<Ipv6Network>,
    /// Whose IPv6 address guests' packets show outside.
    #[serde(default)]
    pub nat6: Nat,
    /// Router advertisements and DHCPv6.
    #[serde(default)]
    pub dhcp6: bool,
    /// The domain that its guests' names are in, which is then answered for.
    pub domain: Option<String>,
    /// Bytes of a packet; None: [`DEFAULT_MTU`].
    pub mtu: Option<u32>,
    /// Guests reach the host and the outside, but not one another.
    #[serde(default)]
    pub isolated: bool,
    /// The operator's own notes, `user.*`.
    #[serde(default)]
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

    /// The guests' IPv4 gateway.
    pub fn gateway4(&self) -> Option<Ipv4Addr> {
        self.ipv4.map(|net| net.ip())
    }

    /// The guests' IPv6 gateway.
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

    /// What `check` checks.
    pub(super) fn rules(&self) -> Result<(), KeyError> {
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
        if let Some(bytes) = self.mtu.map(|bytes| bytes.to_string()).filter(|bytes| !(MTU.check)(bytes)) {
            return Err(KeyError::wrong("mtu", &bytes, MTU.rule));
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
}

/// Whether `user.*` may be so.
pub(super) fn check_note(key: &str, value: &str) -> Result<(), KeyError> {
    let named = key.strip_prefix("user.").is_some_and(|rest| (1..=64).contains(&rest.len()));
    let plain = !key.chars().chain(value.chars()).any(char::is_control);
    match named && plain && value.len() <= 1024 {
        true => Ok(()),
        false => Err(KeyError::wrong(key, value, "1024 bytes at most without control characters")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stored::tests::value_outlives;

    #[test]
    fn networks_outlive_versions() {
        let (ipv4, ipv6) = ("10.9.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap());
        let mut network = Network::new("lan", "lan", Some(ipv4), Some(ipv6));
        network.notes.insert("user.a".to_owned(), "b".to_owned());
        network.domain = Some("lan".to_owned());
        value_outlives(&network, &["name", "bridge"], &["notes"]);
    }

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
    fn dependent_keys_need_what_they_stand_on() {
        let mut network = network();
        (network.ipv4, network.nat4, network.dhcp4) = (None, Nat::Off, true);
        assert!(network.rules().unwrap_err().to_string().contains("ipv4.address"));
        let mut foreign = Network { foreign: true, nat4: Nat::Off, nat6: Nat::Off, ..self::network() };
        foreign.rules().unwrap();
        foreign.dhcp4 = true;
        assert!(foreign.rules().unwrap_err().to_string().contains("parent"));
    }
}
