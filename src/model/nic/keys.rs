//! The keys of a `nic` device and what they mean.

use std::collections::BTreeMap;

use super::{NicKind, NicRequest, Wanted, is_device_name};
use crate::model::config::value::{boolean, integer};
use crate::model::mac::Mac;
use crate::model::network::{KeyError, is_interface_name};

/// The keys of a `nic` device, with what each takes; names are LXD's.
pub const NIC_KEYS: &[(&str, &str, &str)] = &[
    ("nictype", "bridged", "How it is connected: bridged, macvlan or routed"),
    ("network", "", "The network that it is on [default: the one that setup made]"),
    ("parent", "", "macvlan: the host's interface that it shares"),
    ("name", "", "The interface's name in the guest [default: eth0, eth1, …]"),
    ("hwaddr", "", "Its Ethernet address [default: a random one]"),
    ("ipv4.address", "", "Its IPv4 address, or none [default: one that is free]"),
    ("ipv4.gateway", "", "macvlan: the router of its IPv4 address"),
    ("ipv6.address", "", "Its IPv6 address, or none [default: one that is free]"),
    ("ipv6.gateway", "", "macvlan: the router of its IPv6 address"),
    ("mtu", "", "Bytes of a packet [default: the network's]"),
    ("limits.ingress", "", "Bits in a second to the guest, such as 100Mbit"),
    ("limits.egress", "", "Bits in a second from the guest, such as 100Mbit"),
    ("security.mac_filtering", "true", "Whether it may send from its own Ethernet address only"),
    ("security.ipv4_filtering", "true", "Whether it may send from its own IPv4 address only"),
    ("security.ipv6_filtering", "true", "Whether it may send from its own IPv6 address only"),
    ("security.port_isolation", "false", "Whether it reaches no other isolated interface"),
    ("dhcp", "false", "Whether the guest asks for its addresses by DHCP"),
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
            if !NIC_KEYS.iter().any(|(name, ..)| name == key) {
                return Err(KeyError::unknown(key, NIC_KEYS.iter().map(|(name, ..)| *name)));
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

#[cfg(test)]
mod tests;
