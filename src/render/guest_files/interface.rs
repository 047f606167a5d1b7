//! What the files of every style say about an interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::model::nic::{Nic, NicKind};

/// How an interface has addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting<N, A> {
    Off,
    /// By DHCP and, for IPv6, router advertisements.
    Asks,
    Static {
        net: N,
        /// The default route's; none where another interface has it.
        gateway: Option<Gateway<A>>,
    },
}

/// A router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway<A> {
    pub ip: A,
    /// It is outside of the interface's subnet and reached over the link all the same.
    pub on_link: bool,
}

impl<N: Copy, A: Copy> Setting<N, A> {
    pub fn net(&self) -> Option<N> {
        match self {
            Self::Static { net, .. } => Some(*net),
            _ => None,
        }
    }

    pub fn gateway(&self) -> Option<Gateway<A>> {
        match self {
            Self::Static { gateway, .. } => *gateway,
            _ => None,
        }
    }

    pub fn asks(&self) -> bool {
        matches!(self, Self::Asks)
    }

    pub fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    fn has_default_route(&self) -> bool {
        self.asks() || self.gateway().is_some()
    }
}

/// One interface as its guest's tools are to set it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface<'a> {
    pub name: &'a str,
    pub mtu: Option<u32>,
    pub ipv4: Setting<Ipv4Network, Ipv4Addr>,
    pub ipv6: Setting<Ipv6Network, Ipv6Addr>,
    /// The guest waits for it at boot.
    pub is_awaited: bool,
    /// Empty on all but one.
    pub resolvers: &'a [IpAddr],
    pub domain: Option<&'a str>,
}

impl<'a> Interface<'a> {
    /// Those of a guest. The default route of a family is the first interface's that has or asks for
    /// one; resolvers are said of the first that has any default route.
    pub fn all(nics: &'a [Nic], resolvers: &'a [IpAddr], domain: Option<&'a str>) -> Vec<Self> {
        let mut interfaces: Vec<Self> = Vec::new();
        for nic in nics {
            let mut interface = Self::of(nic);
            if interfaces.iter().any(|other| other.ipv4.has_default_route()) {
                interface.ipv4 = without_gateway(interface.ipv4);
            }
            if interfaces.iter().any(|other| other.ipv6.has_default_route()) {
                interface.ipv6 = without_gateway(interface.ipv6);
            }
            // An answer to one that asks may never come.
            interface.is_awaited = interfaces.is_empty() || !interface.asks();
            interface.is_awaited &= !(interface.ipv4.is_off() && interface.ipv6.is_off());
            interfaces.push(interface);
        }
        let uplink =
            |interface: &Self| interface.ipv4.has_default_route() || interface.ipv6.has_default_route();
        let at = interfaces.iter().position(uplink).unwrap_or(0);
        if let Some(interface) = interfaces.get_mut(at) {
            (interface.resolvers, interface.domain) = (resolvers, domain);
        }
        interfaces
    }

    fn of(nic: &'a Nic) -> Self {
        // A network says by the addresses that it allots which families it has; of the network
        // behind a macvlan nothing is known.
        let nothing_known = nic.ipv4.is_none() && nic.ipv6.is_none();
        let may_ask = nic.settings.dhcp && (!nothing_known || matches!(nic.kind, NicKind::Macvlan { .. }));
        let gateway4 = |net: Ipv4Network| nic.gateway4.map(|ip| Gateway { ip, on_link: !net.contains(ip) });
        let gateway6 = |net: Ipv6Network| nic.gateway6.map(|ip| Gateway { ip, on_link: !net.contains(ip) });
        Self {
            name: &nic.name,
            mtu: nic.settings.mtu,
            ipv4: match nic.ipv4 {
                _ if may_ask && (nothing_known || nic.ipv4.is_some()) => Setting::Asks,
                Some(net) => Setting::Static { net, gateway: gateway4(net) },
                None => Setting::Off,
            },
            ipv6: match nic.ipv6 {
                _ if may_ask && (nothing_known || nic.ipv6.is_some()) => Setting::Asks,
                Some(net) => Setting::Static { net, gateway: gateway6(net) },
                None => Setting::Off,
            },
            is_awaited: true,
            resolvers: &[],
            domain: None,
        }
    }

    pub fn asks(&self) -> bool {
        self.ipv4.asks() || self.ipv6.asks()
    }

    pub fn resolvers4(&self) -> impl Iterator<Item = &'a IpAddr> {
        self.resolvers.iter().filter(|ip| ip.is_ipv4())
    }

    pub fn resolvers6(&self) -> impl Iterator<Item = &'a IpAddr> {
        self.resolvers.iter().filter(|ip| ip.is_ipv6())
    }
}

fn without_gateway<N, A>(setting: Setting<N, A>) -> Setting<N, A> {
    match setting {
        Setting::Static { net, .. } => Setting::Static { net, gateway: None },
        other => other,
    }
}
