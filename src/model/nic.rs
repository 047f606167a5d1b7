//! Network interfaces of containers.

mod keys;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

pub use keys::{NIC_KEYS, bit_rate, bit_rate_text, mtu};

use super::container::FieldError;
use super::mac::Mac;
use super::network::is_interface_name;

/// How an interface is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Name of the device, by which the operator speaks of it.
    pub device: String,
    /// Name of the interface in the guest.
    pub name: String,
    /// Number among the container's interfaces, from which the host's end has its name.
    pub slot: u8,
    pub kind: NicKind,
    pub mac: Mac,
    /// The guest's address with its network's prefix length; /32 where it is routed.
    pub ipv4: Option<Ipv4Network>,
    pub gateway4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Network>,
    pub gateway6: Option<Ipv6Addr>,
    pub settings: NicSettings,
}

/// An interface as the broker is told to make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicOrder {
    pub nic: Nic,
    /// The bridge that it is a port of; empty for the other kinds.
    pub bridge: String,
    /// Its guest is kept from the other guests of its network.
    pub isolated: bool,
    /// Bytes of a packet; None: the kernel's default.
    pub mtu: Option<u32>,
}

/// Interfaces that a container may have at most.
pub const MOST_NICS: u8 = 6;

/// What the host's end of a routed interface is called by its guest, in both families (LXD's
/// choice).
pub const ROUTED_GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
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

    /// The keys that describe it, as they can be set.
    pub fn config(&self) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::new();
        let mut put = |key: &str, value: Option<String>| {
            pairs.extend(value.map(|value| (key.to_owned(), value)));
        };
        let settings = &self.settings;
        put("name", Some(self.name.clone()));
        put("hwaddr", Some(self.mac.to_string()));
        let macvlan = match &self.kind {
            NicKind::Bridged { network } => {
                put("network", Some(network.clone()));
                put("security.port_isolation", settings.port_isolation.then(|| "true".to_owned()));
                false
            }
            NicKind::Macvlan { parent } => {
                put("nictype", Some("macvlan".to_owned()));
                put("parent", Some(parent.clone()));
                put("ipv4.gateway", self.gateway4.map(|ip| ip.to_string()));
                put("ipv6.gateway", self.gateway6.map(|ip| ip.to_string()));
                true
            }
            NicKind::Routed => {
                put("nictype", Some("routed".to_owned()));
                false
            }
        };
        let none = || (!macvlan && !settings.dhcp).then(|| "none".to_owned());
        let ipv4 = self.ipv4.map(|net| if macvlan { net.to_string() } else { net.ip().to_string() });
        let ipv6 = self.ipv6.map(|net| if macvlan { net.to_string() } else { net.ip().to_string() });
        put("ipv4.address", ipv4.or_else(none));
        put("ipv6.address", ipv6.or_else(none));
        put("mtu", settings.mtu.map(|n| n.to_string()));
        put("limits.ingress", settings.ingress.map(bit_rate_text));
        put("limits.egress", settings.egress.map(bit_rate_text));
        let off = |on: bool| (!on && !macvlan).then(|| "false".to_owned());
        put("security.mac_filtering", off(settings.mac_filtering));
        put("security.ipv4_filtering", off(settings.ipv4_filtering));
        put("security.ipv6_filtering", off(settings.ipv6_filtering));
        put("dhcp", (settings.dhcp && !macvlan).then(|| "true".to_owned()));
        pairs
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
    pub device: String,
    /// None: `eth` and the slot.
    pub name: Option<String>,
    pub kind: NicKind,
    /// None: drawn at random by the caller until it is free.
    pub mac: Option<Mac>,
    pub ipv4: Wanted<Ipv4Addr>,
    pub ipv6: Wanted<Ipv6Addr>,
    /// Prefix lengths and gateways of a macvlan's static addresses, which no network knows.
    pub outside4: Option<(u8, Option<Ipv4Addr>)>,
    pub outside6: Option<(u8, Option<Ipv6Addr>)>,
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
