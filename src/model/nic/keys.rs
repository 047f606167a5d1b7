//! The keys of a `nic` device and what they mean.

use std::collections::BTreeMap;

use super::kinds::{
    ADDRESS4, ADDRESS6, MAC, NAME, NETWORK, PARENT, RATE, ROUTER4, ROUTER6, TYPE, address, bit_rate,
    bit_rate_text, mac, nic_kind,
};
use super::{Nic, NicKind, NicRequest, Wanted, is_device_name};
use crate::model::config::value::boolean;
use crate::model::keys::{Absent, BOOL, Key, KeyError, Live, MTU, Subject, Table};

/// How a key of an interface is asked for, by a value of its kind, and read.
#[derive(Clone, Copy)]
pub struct Field {
    only: Only,
    /// None where the value is not of the kind.
    set: fn(&mut NicRequest, &str) -> Option<()>,
    /// None where it has the default.
    get: fn(&Nic) -> Option<String>,
}

/// The interfaces that have a key.
#[derive(Clone, Copy)]
enum Only {
    All,
    Bridged,
    Macvlan,
    /// With addresses that no network of nagaya's knows.
    Outside,
    HostEnd,
}

impl Only {
    fn has(self, kind: &NicKind) -> bool {
        match self {
            Self::All => true,
            Self::Bridged => matches!(kind, NicKind::Bridged { .. }),
            Self::Macvlan | Self::Outside => matches!(kind, NicKind::Macvlan { .. }),
            Self::HostEnd => !matches!(kind, NicKind::Macvlan { .. }),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::All => "an interface",
            Self::Bridged => "a bridged interface",
            Self::Macvlan => "a macvlan",
            Self::Outside => "a macvlan; a network knows its own",
            Self::HostEnd => "an interface with an end on the host, which a macvlan has not",
        }
    }
}

impl Subject for Nic {
    type Draft = NicRequest;
    type Sets = Field;
    const EMPTY_RESETS: bool = false;

    fn put(key: &Key<Self>, request: &mut NicRequest, name: &str, value: &str) -> Result<(), KeyError> {
        let Field { only, set, .. } = key.sets;
        if !only.has(&request.kind) {
            return Err(KeyError::not_for(name, only.as_str()));
        }
        set(request, value).ok_or_else(|| KeyError::wrong(name, value, key.kind.rule))
    }
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
        for key in pairs.keys() {
            NIC_KEYS.known(key)?;
        }
        if !is_device_name(device) {
            let rule = "1 to 32 of a-z, 0-9, '-', '_' and '.', a letter first";
            return Err(KeyError::wrong("device", device, rule));
        }
        let mut request = Self::on(device, default_network);
        // In the order of the table: what the type decides comes behind it.
        for key in NIC_KEYS.keys {
            if let Some(value) = pairs.get(key.name) {
                NIC_KEYS.set(&mut request, key.name, value)?;
            }
        }
        let said = |key: &str| pairs.contains_key(key);
        request.settle(said).map_err(|e| e.listed_by(NIC_KEYS.listed_by))?;
        Ok(request)
    }

    /// What of a key depends on others.
    fn settle(&mut self, said: impl Fn(&str) -> bool) -> Result<(), KeyError> {
        match &self.kind {
            NicKind::Macvlan { parent } if parent.is_empty() => {
                return Err(KeyError::needs("nictype=macvlan", "parent"));
            }
            NicKind::Macvlan { .. } if !said("dhcp") => {
                // Nobody but the parent's own network knows which addresses are free there.
                self.settings.dhcp = self.outside4.is_none() && self.outside6.is_none();
            }
            NicKind::Routed if !matches!((self.ipv4, self.ipv6), (Wanted::At(_), _) | (_, Wanted::At(_))) => {
                return Err(KeyError::needs("nictype=routed", "ipv4.address or ipv6.address"));
            }
            _ => {}
        }
        for (gateway, address, there) in [
            ("ipv4.gateway", "ipv4.address", self.outside4.is_some()),
            ("ipv6.gateway", "ipv6.address", self.outside6.is_some()),
        ] {
            if said(gateway) && !there {
                return Err(KeyError::needs(gateway, address));
            }
        }
        // Who may send from any Ethernet address could send what no other filter looks at.
        if !self.settings.mac_filtering {
            self.settings.ipv4_filtering &= said("security.ipv4_filtering");
            self.settings.ipv6_filtering &= said("security.ipv6_filtering");
        }
        Ok(())
    }
}

impl Nic {
    /// The keys that describe it, as they can be set.
    pub fn config(&self) -> BTreeMap<String, String> {
        let said = NIC_KEYS.keys.iter().filter_map(|key| Some((key.name, (key.sets.get)(self)?)));
        said.map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

pub const NIC_KEYS: Table<Nic> =
    Table { what: "device", listed_by: "nagaya device keys", keys: KEYS, absent: ABSENT };

/// Names are LXD's.
const KEYS: &[Key<Nic>] = &[
    Key::new(
        "nictype",
        TYPE,
        "bridged",
        Live::NextStart,
        "How it is connected: bridged, macvlan or routed",
        Field {
            only: Only::All,
            set: |request, text| {
                request.kind = nic_kind(text, request.network().unwrap_or_default())?;
                if let NicKind::Macvlan { .. } = request.kind {
                    (request.settings.mac_filtering, request.settings.ipv4_filtering) = (false, false);
                    request.settings.ipv6_filtering = false;
                }
                Some(())
            },
            get: |nic| Some(nic.kind.as_str()).filter(|_| nic.network().is_none()).map(str::to_owned),
        },
    ),
    Key::new(
        "network",
        NETWORK,
        "",
        Live::NextStart,
        "The network that it is on [default: the one that setup made]",
        Field {
            only: Only::Bridged,
            set: |request, text| {
                request.kind = NicKind::Bridged { network: text.to_owned() };
                Some(())
            },
            get: |nic| nic.network().map(str::to_owned),
        },
    ),
    Key::new(
        "parent",
        PARENT,
        "",
        Live::NextStart,
        "macvlan: the host's interface that it shares",
        Field {
            only: Only::Macvlan,
            set: |request, text| {
                request.kind = NicKind::Macvlan { parent: text.to_owned() };
                Some(())
            },
            get: |nic| match &nic.kind {
                NicKind::Macvlan { parent } => Some(parent.clone()),
                NicKind::Bridged { .. } | NicKind::Routed => None,
            },
        },
    ),
    Key::new(
        "name",
        NAME,
        "",
        Live::NextStart,
        "The interface's name in the guest [default: eth0, eth1, …]",
        Field {
            only: Only::All,
            set: |request, text| {
                request.name = Some(text.to_owned());
                Some(())
            },
            get: |nic| Some(nic.name.clone()),
        },
    ),
    Key::new(
        "hwaddr",
        MAC,
        "",
        Live::NextStart,
        "Its Ethernet address [default: a random one]",
        Field {
            only: Only::All,
            set: |request, text| {
                request.mac = Some(mac(text)?);
                Some(())
            },
            get: |nic| Some(nic.mac.to_string()),
        },
    ),
    Key::new(
        "ipv4.address",
        ADDRESS4,
        "",
        Live::NextStart,
        "Its IPv4 address, or none [default: a free one]",
        Field {
            only: Only::All,
            set: |request, text| {
                let (wanted, prefix) = address(text, 32)?;
                let outside = matches!((&request.kind, &wanted), (NicKind::Macvlan { .. }, Wanted::At(_)));
                (outside == prefix.is_some()).then_some(())?;
                (request.ipv4, request.outside4) = (wanted, prefix.map(|prefix| (prefix, None)));
                Some(())
            },
            get: |nic| {
                let text = nic.ipv4.map(|net| match nic.has_host_end() {
                    true => net.ip().to_string(),
                    false => net.to_string(),
                });
                text.or_else(|| (nic.has_host_end() && !nic.settings.dhcp).then(|| "none".to_owned()))
            },
        },
    ),
    Key::new(
        "ipv4.gateway",
        ROUTER4,
        "",
        Live::NextStart,
        "macvlan: the router of its IPv4 address",
        Field {
            only: Only::Outside,
            set: |request, text| {
                let router = text.parse().ok()?;
                request.outside4 = request.outside4.map(|(prefix, _)| (prefix, Some(router)));
                Some(())
            },
            get: |nic| nic.gateway4.filter(|_| !nic.has_host_end()).map(|ip| ip.to_string()),
        },
    )
    .differs("not of macvlans"),
    Key::new(
        "ipv6.address",
        ADDRESS6,
        "",
        Live::NextStart,
        "Its IPv6 address, or none [default: a free one]",
        Field {
            only: Only::All,
            set: |request, text| {
                let (wanted, prefix) = address(text, 128)?;
                let outside = matches!((&request.kind, &wanted), (NicKind::Macvlan { .. }, Wanted::At(_)));
                (outside == prefix.is_some()).then_some(())?;
                (request.ipv6, request.outside6) = (wanted, prefix.map(|prefix| (prefix, None)));
                Some(())
            },
            get: |nic| {
                let text = nic.ipv6.map(|net| match nic.has_host_end() {
                    true => net.ip().to_string(),
                    false => net.to_string(),
                });
                text.or_else(|| (nic.has_host_end() && !nic.settings.dhcp).then(|| "none".to_owned()))
            },
        },
    ),
    Key::new(
        "ipv6.gateway",
        ROUTER6,
        "",
        Live::NextStart,
        "macvlan: the router of its IPv6 address",
        Field {
            only: Only::Outside,
            set: |request, text| {
                let router = text.parse().ok()?;
                request.outside6 = request.outside6.map(|(prefix, _)| (prefix, Some(router)));
                Some(())
            },
            get: |nic| nic.gateway6.filter(|_| !nic.has_host_end()).map(|ip| ip.to_string()),
        },
    )
    .differs("not of macvlans"),
    Key::new(
        "mtu",
        MTU,
        "",
        Live::NextStart,
        "Bytes of a packet [default: the network's]",
        Field {
            only: Only::All,
            set: |request, text| {
                request.settings.mtu = Some(text.parse().ok()?);
                Some(())
            },
            get: |nic| nic.settings.mtu.map(|bytes| bytes.to_string()),
        },
    ),
    Key::new(
        "limits.ingress",
        RATE,
        "",
        Live::Now,
        "Bits in a second to the guest, such as 100Mbit",
        Field {
            only: Only::HostEnd,
            set: |request, text| {
                request.settings.ingress = Some(bit_rate(text)?);
                Some(())
            },
            get: |nic| nic.settings.ingress.map(bit_rate_text),
        },
    ),
    Key::new(
        "limits.egress",
        RATE,
        "",
        Live::Now,
        "Bits in a second from the guest, such as 100Mbit",
        Field {
            only: Only::HostEnd,
            set: |request, text| {
                request.settings.egress = Some(bit_rate(text)?);
                Some(())
            },
            get: |nic| nic.settings.egress.map(bit_rate_text),
        },
    ),
    Key::new(
        "security.mac_filtering",
        BOOL,
        "true",
        Live::NextStart,
        "Whether it may send from its own Ethernet address only",
        Field {
            only: Only::HostEnd,
            set: |request, text| flag(&mut request.settings.mac_filtering, text),
            get: |nic| off(nic, nic.settings.mac_filtering),
        },
    )
    .differs("default false"),
    Key::new(
        "security.ipv4_filtering",
        BOOL,
        "true",
        Live::NextStart,
        "Whether it may send from its own IPv4 address only",
        Field {
            only: Only::HostEnd,
            set: |request, text| flag(&mut request.settings.ipv4_filtering, text),
            get: |nic| off(nic, nic.settings.ipv4_filtering),
        },
    )
    .differs("default false"),
    Key::new(
        "security.ipv6_filtering",
        BOOL,
        "true",
        Live::NextStart,
        "Whether it may send from its own IPv6 address only",
        Field {
            only: Only::HostEnd,
            set: |request, text| flag(&mut request.settings.ipv6_filtering, text),
            get: |nic| off(nic, nic.settings.ipv6_filtering),
        },
    )
    .differs("default false"),
    Key::new(
        "security.port_isolation",
        BOOL,
        "false",
        Live::Now,
        "Whether it reaches no other isolated interface",
        Field {
            only: Only::Bridged,
            set: |request, text| flag(&mut request.settings.port_isolation, text),
            get: |nic| on(nic.settings.port_isolation && nic.network().is_some()),
        },
    ),
    Key::new(
        "dhcp",
        BOOL,
        "false",
        Live::NextStart,
        "Whether the guest asks for its addresses by DHCP",
        Field {
            only: Only::All,
            set: |request, text| flag(&mut request.settings.dhcp, text),
            get: |nic| on(nic.settings.dhcp && nic.has_host_end()),
        },
    )
    .ours(),
];

/// Keys that LXD's interfaces have, and what to use instead.
const ABSENT: &[Absent] = &[
    Absent::instead("attached", "nagaya device remove takes it away"),
    Absent::instead("boot.priority", "containers boot from no network"),
    Absent::instead("connected", "nagaya device remove takes it away"),
    Absent::key("gvrp"),
    Absent::instead("host_name", "the host's end is named by nagaya: nagaya info NAME shows it"),
    Absent::key("ipv4.host_address"),
    Absent::key("ipv4.host_table"),
    Absent::key("ipv4.host_tables"),
    Absent::key("ipv4.neighbor_probe"),
    Absent::instead(
        "ipv4.routes",
        "single addresses are routed to an interface of their own: nictype=routed ipv4.address=ADDRESS",
    ),
    Absent::instead(
        "ipv4.routes.external",
        "single addresses are routed to an interface of their own: nictype=routed ipv4.address=ADDRESS",
    ),
    Absent::key("ipv6.host_address"),
    Absent::key("ipv6.host_table"),
    Absent::key("ipv6.host_tables"),
    Absent::key("ipv6.neighbor_probe"),
    Absent::instead(
        "ipv6.routes",
        "single addresses are routed to an interface of their own: nictype=routed ipv6.address=ADDRESS",
    ),
    Absent::instead(
        "ipv6.routes.external",
        "single addresses are routed to an interface of their own: nictype=routed ipv6.address=ADDRESS",
    ),
    Absent::instead("limits.max", "one for each direction: limits.ingress=100Mbit limits.egress=100Mbit"),
    Absent::key("limits.priority"),
    Absent::key("mode"),
    Absent::key("queue.tx.length"),
    Absent::instead("security.acls*", "rules are the firewall's: nagaya firewall allow --help"),
    Absent::key("vlan"),
    Absent::key("vlan.tagged"),
    Absent::key("vrf"),
];

fn flag(field: &mut bool, text: &str) -> Option<()> {
    *field = boolean(text)?;
    Some(())
}

fn on(on: bool) -> Option<String> {
    on.then(|| "true".to_owned())
}

/// Of a filter, which a macvlan has not.
fn off(nic: &Nic, on: bool) -> Option<String> {
    (!on && nic.has_host_end()).then(|| "false".to_owned())
}

#[cfg(test)]
mod tests;
