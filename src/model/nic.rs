//! Network interfaces of containers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::config::value::{boolean, integer};
use super::container::FieldError;
use super::mac::Mac;
use super::network::{KeyError, is_interface_name};

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
        match &self.kind {
            NicKind::Bridged { network } => Some(network),
            _ => None,
        }
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

/// The keys of a `nic` device, with what each takes; names are LXD's.
pub const NIC_KEYS: &[(&str, &str)] = &[
    ("nictype", "bridged, macvlan or routed [default: bridged]"),
    ("network", "the network that it is on"),
    ("parent", "macvlan: the host's interface that it shares"),
    ("name", "the interface's name in the guest [default: eth0, eth1, …]"),
    ("hwaddr", "its Ethernet address [default: a random one]"),
    ("ipv4.address", "its IPv4 address, or none [default: one that is free]"),
    ("ipv4.gateway", "macvlan: the router of that address"),
    ("ipv6.address", "its IPv6 address, or none [default: one that is free]"),
    ("ipv6.gateway", "macvlan: the router of that address"),
    ("mtu", "bytes of a packet [default: the network's]"),
    ("limits.ingress", "bits in a second to the guest, such as 100Mbit"),
    ("limits.egress", "bits in a second from the guest"),
    ("security.mac_filtering", "whether it may send from its own Ethernet address only [default: true]"),
    ("security.ipv4_filtering", "… from its own IPv4 address only [default: true]"),
    ("security.ipv6_filtering", "… from its own IPv6 address only [default: true]"),
    ("security.port_isolation", "whether it reaches no other isolated interface [default: false]"),
    ("dhcp", "whether the guest asks for its addresses [default: false]"),
];

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

impl NicRequest {
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

    /// From the keys of a device. `default_network` is where it is if nothing else is said.
    ///
    /// # Errors
    /// The key that cannot be so, and what it must be.
    pub fn of(
        device: &str,
        pairs: &BTreeMap<String, String>,
        default_network: &str,
    ) -> Result<Self, KeyError> {
        let get = |key: &str| pairs.get(key).map(String::as_str);
        for key in pairs.keys() {
            if !NIC_KEYS.iter().any(|(name, _)| name == key) {
                return Err(KeyError::unknown(key, NIC_KEYS.iter().map(|(name, _)| *name)));
            }
        }
        if !is_device_name(device) {
            return Err(KeyError::wrong(
                "device",
                device,
                "1 to 32 of a-z, 0-9, '-', '_' and '.', a letter first",
            ));
        }
        let mut request = Self::on(device, get("network").unwrap_or(default_network));
        request.kind = match get("nictype").unwrap_or("bridged") {
            "bridged" => request.kind,
            "macvlan" => {
                let parent = get("parent").ok_or_else(|| KeyError::needs("nictype=macvlan", "parent"))?;
                NicKind::Macvlan { parent: interface("parent", parent)? }
            }
            "routed" => NicKind::Routed,
            other => return Err(KeyError::wrong("nictype", other, "bridged, macvlan or routed")),
        };
        let bridged = matches!(request.kind, NicKind::Bridged { .. });
        let macvlan = matches!(request.kind, NicKind::Macvlan { .. });
        let only = |key: &str, good: bool, of: &str| match (get(key), good) {
            (Some(_), false) => Err(KeyError::not_for(key, of)),
            _ => Ok(()),
        };
        only("network", bridged, "a bridged interface")?;
        only("parent", macvlan, "a macvlan")?;
        only("ipv4.gateway", macvlan, "a macvlan; a network knows its own")?;
        only("ipv6.gateway", macvlan, "a macvlan; a network knows its own")?;
        only("security.port_isolation", bridged, "a bridged interface")?;
        for key in ["security.mac_filtering", "security.ipv4_filtering", "security.ipv6_filtering"] {
            only(key, !macvlan, "an interface with an end on the host, which a macvlan has not")?;
        }
        for key in ["limits.ingress", "limits.egress"] {
            only(key, !macvlan, "an interface with an end on the host, which a macvlan has not")?;
        }
        request.name = get("name").map(|name| interface("name", name)).transpose()?;
        if request.name.as_deref() == Some("lo") {
            return Err(KeyError::wrong("name", "lo", "another name: every guest has a 'lo'"));
        }
        if let Some(text) = get("hwaddr") {
            let mac = text.to_ascii_lowercase().parse::<Mac>().ok().filter(|mac| mac.is_unicast());
            let rule = "a unicast Ethernet address, such as 02:00:00:00:00:01";
            request.mac = Some(mac.ok_or_else(|| KeyError::wrong("hwaddr", text, rule))?);
        }
        request.addresses(get("ipv4.address"), get("ipv6.address"), macvlan)?;
        if macvlan {
            request.outside4 = outside("ipv4.address", get("ipv4.address"), get("ipv4.gateway"))?;
            request.outside6 = outside("ipv6.address", get("ipv6.address"), get("ipv6.gateway"))?;
            (request.settings.mac_filtering, request.settings.ipv4_filtering) = (false, false);
            request.settings.ipv6_filtering = false;
            // Nobody but the parent's own network knows which addresses are free there.
            request.settings.dhcp = request.outside4.is_none() && request.outside6.is_none();
        }
        request.choices(&get)?;
        if request.kind == NicKind::Routed
            && !matches!((request.ipv4, request.ipv6), (Wanted::At(_), _) | (_, Wanted::At(_)))
        {
            return Err(KeyError::needs("nictype=routed", "ipv4.address or ipv6.address"));
        }
        Ok(request)
    }

    fn addresses(
        &mut self,
        ipv4: Option<&str>,
        ipv6: Option<&str>,
        with_prefix: bool,
    ) -> Result<(), KeyError> {
        let host = |text: &str| match with_prefix {
            true => text.split('/').next().unwrap_or_default().to_owned(),
            false => text.to_owned(),
        };
        match ipv4 {
            None | Some("auto") => {}
            Some("none") => self.ipv4 = Wanted::None,
            Some(text) => {
                let ip = host(text)
                    .parse()
                    .map_err(|_| KeyError::wrong("ipv4.address", text, "an IPv4 address, or none"))?;
                self.ipv4 = Wanted::At(ip);
            }
        }
        match ipv6 {
            None | Some("auto") => {}
            Some("none") => self.ipv6 = Wanted::None,
            Some(text) => {
                let ip = host(text)
                    .parse()
                    .map_err(|_| KeyError::wrong("ipv6.address", text, "an IPv6 address, or none"))?;
                self.ipv6 = Wanted::At(ip);
            }
        }
        Ok(())
    }

    fn choices<'a>(&mut self, get: &impl Fn(&str) -> Option<&'a str>) -> Result<(), KeyError> {
        let settings = &mut self.settings;
        for (key, field) in [
            ("security.mac_filtering", &mut settings.mac_filtering),
            ("security.ipv4_filtering", &mut settings.ipv4_filtering),
            ("security.ipv6_filtering", &mut settings.ipv6_filtering),
            ("security.port_isolation", &mut settings.port_isolation),
            ("dhcp", &mut settings.dhcp),
        ] {
            if let Some(text) = get(key) {
                *field = boolean(text).ok_or_else(|| KeyError::wrong(key, text, "true or false"))?;
            }
        }
        // Who may send from any Ethernet address could send what no other filter looks at.
        if !settings.mac_filtering {
            settings.ipv4_filtering &= get("security.ipv4_filtering").is_some();
            settings.ipv6_filtering &= get("security.ipv6_filtering").is_some();
        }
        for (key, field) in
            [("limits.ingress", &mut settings.ingress), ("limits.egress", &mut settings.egress)]
        {
            if let Some(text) = get(key) {
                let rule = "bits in a second of at least 8kbit, such as 100Mbit";
                *field = Some(bit_rate(text).ok_or_else(|| KeyError::wrong(key, text, rule))?);
            }
        }
        if let Some(text) = get("mtu") {
            settings.mtu = Some(mtu(text)?);
        }
        Ok(())
    }
}

/// Bytes of a packet: at least what IPv6 asks for, at most what a veth takes.
pub fn mtu(text: &str) -> Result<u32, KeyError> {
    let good = integer(text).filter(|n| (1280..=65_535).contains(n));
    good.map(|n| n as u32).ok_or_else(|| KeyError::wrong("mtu", text, "a number of bytes from 1280 to 65535"))
}

fn interface(key: &str, text: &str) -> Result<String, KeyError> {
    match is_interface_name(text) {
        true => Ok(text.to_owned()),
        false => {
            Err(KeyError::wrong(key, text, "an interface's name: 1 to 15 of a-z, A-Z, 0-9, '.', '-' and '_'"))
        }
    }
}

/// A static address that no network of nagaya's knows: its prefix length and its router.
fn outside<A: std::str::FromStr>(
    key: &str,
    address: Option<&str>,
    gateway: Option<&str>,
) -> Result<Option<(u8, Option<A>)>, KeyError> {
    let gateway_key = key.replace("address", "gateway");
    let gateway = match gateway {
        Some(text) => Some(
            text.parse().map_err(|_| KeyError::wrong(&gateway_key, text, "an address of the same kind"))?,
        ),
        None => None,
    };
    match address {
        None | Some("auto" | "none") if gateway.is_some() => Err(KeyError::needs(&gateway_key, key)),
        None | Some("auto" | "none") => Ok(None),
        Some(text) => {
            let most = if key.starts_with("ipv4") { 32 } else { 128 };
            let prefix = text.split_once('/').and_then(|(_, prefix)| prefix.parse::<u8>().ok());
            let prefix = prefix.filter(|prefix| (1..=most).contains(prefix));
            let prefix = prefix
                .ok_or_else(|| KeyError::wrong(key, text, "an address with its prefix length, or none"))?;
            Ok(Some((prefix, gateway)))
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

    fn of(pairs: &[(&str, &str)]) -> Result<NicRequest, KeyError> {
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        NicRequest::of("eth1", &pairs, "nagaya0")
    }

    #[test]
    fn nothing_said_is_the_default_network_with_all_filters() {
        assert_eq!(of(&[]).unwrap(), NicRequest::on("eth1", "nagaya0"));
    }

    #[test]
    fn keys_are_read() {
        let nic = of(&[
            ("network", "dmz"),
            ("name", "lan0"),
            ("hwaddr", "02:AA:00:00:00:01"),
            ("ipv4.address", "10.1.2.3"),
            ("ipv6.address", "none"),
            ("limits.ingress", "100Mbit"),
            ("security.ipv6_filtering", "false"),
            ("mtu", "1400"),
        ])
        .unwrap();
        assert_eq!(nic.kind, NicKind::Bridged { network: "dmz".into() });
        assert_eq!((nic.ipv4, nic.ipv6), (Wanted::At(Ipv4Addr::new(10, 1, 2, 3)), Wanted::None));
        assert_eq!(nic.mac.unwrap().to_string(), "02:aa:00:00:00:01");
        assert_eq!((nic.settings.ingress, nic.settings.mtu), (Some(100_000_000), Some(1400)));
        assert!(nic.settings.ipv4_filtering && !nic.settings.ipv6_filtering);
    }

    #[test]
    fn a_macvlan_asks_unless_it_is_told() {
        let asks = of(&[("nictype", "macvlan"), ("parent", "eth0")]).unwrap();
        assert!(asks.settings.dhcp && !asks.settings.mac_filtering);
        let told = of(&[
            ("nictype", "macvlan"),
            ("parent", "eth0"),
            ("ipv4.address", "192.0.2.7/24"),
            ("ipv4.gateway", "192.0.2.1"),
        ])
        .unwrap();
        assert_eq!(told.outside4, Some((24, Some(Ipv4Addr::new(192, 0, 2, 1)))));
        assert!(!told.settings.dhcp);
    }

    #[test]
    fn nonsense_is_named() {
        for (key, value) in [
            ("hwaddr", "01:00:5e:00:00:01"),
            ("hwaddr", "00:00:00:00:00:00"),
            ("hwaddr", "2:1"),
            ("name", "sixteen-letters0"),
            ("name", "a/b"),
            ("name", "lo"),
            ("ipv4.address", "10.1.2.3/24"),
            ("ipv4.address", "fd00::1"),
            ("ipv6.address", "10.1.2.3"),
            ("limits.egress", "fast"),
            ("limits.egress", "1kbit"),
            ("mtu", "100"),
            ("nictype", "sriov"),
            ("nictype", "macvlan"),
            ("nictype", "routed"),
            ("parent", "eth0"),
            ("ipv4.gateway", "10.0.0.1"),
            ("security.mac_filtering", "maybe"),
            ("vlan", "3"),
        ] {
            let error = of(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(NicRequest::of("Eth 0", &BTreeMap::new(), "n").is_err());
    }

    #[test]
    fn what_an_interface_says_of_itself_makes_it_again() {
        for pairs in [
            vec![("security.port_isolation", "true"), ("limits.ingress", "5Mbit"), ("mtu", "1400")],
            vec![("security.mac_filtering", "false"), ("ipv6.address", "none")],
            vec![("nictype", "routed"), ("ipv6.address", "2001:db8::7")],
            vec![("nictype", "macvlan"), ("parent", "eth0")],
            vec![
                ("nictype", "macvlan"),
                ("parent", "eth0"),
                ("ipv4.address", "192.0.2.7/24"),
                ("ipv4.gateway", "192.0.2.1"),
            ],
        ] {
            let mut request = of(&pairs).unwrap();
            request.mac = Some(Mac::guest([1, 2, 3, 4, 5]));
            request.name = Some("eth1".into());
            let address4 = match (request.ipv4, request.outside4) {
                (Wanted::At(ip), outside) => {
                    Ipv4Network::new(ip, outside.map_or(32, |(prefix, _)| prefix)).ok()
                }
                _ => None,
            };
            let address6 = match request.ipv6 {
                Wanted::At(ip) => Some(Ipv6Network::from(ip)),
                _ => None,
            };
            let nic = Nic {
                device: request.device.clone(),
                name: "eth1".into(),
                slot: 1,
                kind: request.kind.clone(),
                mac: request.mac.unwrap(),
                ipv4: address4,
                gateway4: request.outside4.and_then(|(_, gateway)| gateway),
                ipv6: address6,
                gateway6: None,
                settings: request.settings.clone(),
            };
            let again = NicRequest::of("eth1", &nic.config(), "nagaya0").unwrap();
            assert_eq!((again.kind, again.settings), (request.kind, request.settings), "{pairs:?}");
            assert_eq!(again.outside4, request.outside4);
        }
    }

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
