//! Network interfaces of containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::model::field::FieldError;
use crate::model::mac::Mac;
use crate::model::network::is_interface_name;

/// How an interface is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum NicKind {
    /// A port of a network's bridge.
    Bridged { network: String },
    /// A sub-interface of one of the host's, with an address of its own there.
    Macvlan { parent: String },
    /// A link of its own to the host, which routes single addresses over it: no bridge.
    Routed,
}

impl NicKind {
    /// The network whose bridge such an interface is a port of.
    pub fn network(&self) -> Option<&str> {
        match self {
            Self::Bridged { network } => Some(network),
            _ => None,
        }
    }

    /// The value of `nictype`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Bridged { .. } => "bridged",
            Self::Macvlan { .. } => "macvlan",
            Self::Routed => "routed",
        }
    }
}

/// What may be chosen of an interface besides where it is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NicSettings {
    /// Bytes of a packet; None: the network's.
    pub mtu: Option<u32>,
    /// Bits in a second to the guest.
    pub ingress: Option<u64>,
    /// Bits in a second from the guest.
    pub egress: Option<u64>,
    /// The guest may only send from the interface's own Ethernet address.
    pub mac_filtering: bool,
    /// … and IPv4 address, and say nothing else of itself by ARP, nor serve DHCP.
    pub ipv4_filtering: bool,
    /// … and IPv6 address, nor advertise another or a router, nor serve DHCPv6.
    pub ipv6_filtering: bool,
    /// It reaches no other isolated interface of its network.
    pub port_isolation: bool,
    /// The guest asks for its addresses by DHCP and router advertisements.
    pub dhcp: bool,
}

impl Default for NicSettings {
    fn default() -> Self {
        Self {
            mtu: None,
            ingress: None,
            egress: None,
            mac_filtering: true,
            ipv4_filtering: true,
            ipv6_filtering: true,
            port_isolation: false,
            dhcp: false,
        }
    }
}

/// One interface of one container, with all that was allotted to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Name of the device, by which the operator speaks of it.
    pub device: String,
    /// Name of the interface in the guest.
    pub name: String,
    /// Number among the container's interfaces, from which the host's end has its name.
    pub slot: u8,
    /// How it is connected.
    pub kind: NicKind,
    /// The guest's Ethernet address.
    pub mac: Mac,
    /// The guest's address with its network's prefix length; /32 where it is routed.
    pub ipv4: Option<Ipv4Network>,
    /// The guest's IPv4 router.
    pub gateway4: Option<Ipv4Addr>,
    /// As `ipv4`; /128 where it is routed.
    pub ipv6: Option<Ipv6Network>,
    /// The guest's IPv6 router.
    pub gateway6: Option<Ipv6Addr>,
    /// What was chosen besides.
    #[serde(default)]
    pub settings: NicSettings,
}

/// An interface as the broker is told to make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicOrder {
    /// The interface as it is stored.
    pub nic: Nic,
    /// The bridge that it is a port of; empty for the other kinds.
    #[serde(default)]
    pub bridge: String,
    /// Its guest is kept from the other guests of its network.
    #[serde(default)]
    pub isolated: bool,
    /// Bytes of a packet; None: the kernel's default.
    pub mtu: Option<u32>,
}

/// Interfaces that a container may have at most.
pub const MOST_NICS: u8 = 6;

/// What the host's end of a routed interface is called by its guest, in both families (LXD's
/// choice).
pub const ROUTED_GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
/// The same for IPv6.
pub const ROUTED_GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

impl Nic {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.map(|net| IpAddr::V4(net.ip()));
        ipv4.into_iter().chain(self.ipv6.map(|net| IpAddr::V6(net.ip())))
    }

    /// The network whose bridge it is a port of.
    pub fn network(&self) -> Option<&str> {
        self.kind.network()
    }

    /// The rules that the fields' types do not enforce.
    pub fn check(&self) -> Result<(), FieldError> {
        let nic = self;
        let rule = |good: bool, field, value: &dyn ToString, rule| {
            if good { Ok(()) } else { Err(FieldError { field, value: value.to_string(), rule }) }
        };
        rule(is_device_name(&nic.device), "device", &nic.device, "a device's name")?;
        rule(is_interface_name(&nic.name), "name", &nic.name, "an interface's name")?;
        rule(nic.slot < MOST_NICS, "slot", &nic.slot, "a number below 6")?;
        rule(nic.mac.is_unicast(), "mac", &nic.mac, "a unicast address")?;
        let place = match &nic.kind {
            NicKind::Bridged { network: place } | NicKind::Macvlan { parent: place } => place.as_str(),
            NicKind::Routed => "routed",
        };
        rule(is_interface_name(place), "place", &place, "a network's or an interface's name")?;
        if let Some(net) = nic.ipv4 {
            let ip = net.ip();
            let good = !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast());
            rule(good && nic.gateway4 != Some(ip), "ipv4", &net, "a guest's address")?;
        }
        if let Some(net) = nic.ipv6 {
            let ip = net.ip();
            let good =
                !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local());
            rule(good && nic.gateway6 != Some(ip), "ipv6", &net, "a guest's address")?;
        }
        Ok(())
    }

    /// Whether its guest's traffic passes a link that the host can filter.
    pub fn has_host_end(&self) -> bool {
        !matches!(self.kind, NicKind::Macvlan { .. })
    }
}

/// Which address an interface is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted<A> {
    /// The lowest that is free, where the network has any.
    #[default]
    Auto,
    None,
    At(A),
}

/// An interface that is to be; what is not said here is allotted when it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicRequest {
    /// Name of the device, by which the operator speaks of it.
    pub device: String,
    /// None: `eth` and the slot.
    pub name: Option<String>,
    /// How it is to be connected.
    pub kind: NicKind,
    /// None: drawn at random by the caller until it is free.
    pub mac: Option<Mac>,
    /// Which IPv4 address.
    pub ipv4: Wanted<Ipv4Addr>,
    /// Which IPv6 address.
    pub ipv6: Wanted<Ipv6Addr>,
    /// Prefix lengths and gateways of a macvlan's static addresses, which no network knows.
    pub outside4: Option<(u8, Option<Ipv4Addr>)>,
    /// The same for IPv6.
    pub outside6: Option<(u8, Option<Ipv6Addr>)>,
    /// What was chosen besides.
    pub settings: NicSettings,
}

impl NicRequest {
    /// The network whose bridge it is to be a port of.
    pub fn network(&self) -> Option<&str> {
        self.kind.network()
    }

    /// One on `network`, with addresses that are free.
    pub fn on(device: &str, network: &str) -> Self {
        Self {
            device: device.to_owned(),
            name: None,
            kind: NicKind::Bridged { network: network.to_owned() },
            mac: None,
            ipv4: Wanted::Auto,
            ipv6: Wanted::Auto,
            outside4: None,
            outside6: None,
            settings: NicSettings::default(),
        }
    }
}

/// Whether `text` may name a device.
pub fn is_device_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stored::tests::value_outlives;

    #[test]
    fn interfaces_outlive_versions() {
        let nic = |kind| Nic {
            device: "eth0".to_owned(),
            name: "eth0".to_owned(),
            slot: 0,
            kind,
            mac: Mac::guest([1, 2, 3, 4, 5]),
            ipv4: Some("10.9.0.2/24".parse().unwrap()),
            gateway4: Some(Ipv4Addr::new(10, 9, 0, 1)),
            ipv6: Some("fd00::2/64".parse().unwrap()),
            gateway6: Some("fd00::1".parse().unwrap()),
            settings: NicSettings { mtu: Some(1400), ..NicSettings::default() },
        };
        let needed = ["device", "name", "slot", "kind", "kind.type", "mac"];
        value_outlives(&nic(NicKind::Routed), &needed, &[]);
        value_outlives(
            &nic(NicKind::Macvlan { parent: "o".into() }),
            &[&needed[..], &["kind.parent"]].concat(),
            &[],
        );
        let bridged = nic(NicKind::Bridged { network: "lan".into() });
        value_outlives(&bridged, &[&needed[..], &["kind.network"]].concat(), &[]);
        let without: NicSettings = serde_json::from_str("{}").unwrap();
        assert!(without.mac_filtering && without.ipv4_filtering && without.ipv6_filtering);
    }
}
