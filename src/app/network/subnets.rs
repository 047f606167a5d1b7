//! Subnets: which the host uses, and which are free.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::network::{Network, pick_subnet, pick_ula};
use crate::sys::SysError;
use crate::sys::kernel::random::random;
use crate::sys::net::netlink::Netlink;
use crate::sys::net::{host_resolvers, sysctl};

/// The instance's network as the kernel has it, for when the database has lost it.
pub fn found(app: &App) -> AppResult<Option<Network>> {
    let bridge = app.instance.bridge();
    let ask = || Netlink::open()?.bridge_addresses(&bridge);
    let found =
        ask().map_err(|e| SysError::new(format!("look at bridge {bridge}"), std::io::Error::other(e)))?;
    let ipv4 = found.iter().find_map(|net| match net {
        IpNetwork::V4(net) => Some(*net),
        IpNetwork::V6(_) => None,
    });
    Ok(ipv4.map(|ipv4| Network::new(&bridge, &bridge, Some(ipv4), None)))
}

/// Prefixes of the host's addresses and routes, and its resolvers.
pub(super) struct Used {
    ipv4: Vec<Ipv4Network>,
    ipv6: Vec<Ipv6Network>,
}

impl Used {
    /// Without what the link `but` has itself.
    pub(super) fn now(but: Option<&str>) -> AppResult<Self> {
        let ask = || {
            let netlink = Netlink::open()?;
            match but {
                None => Ok((netlink.used_subnets()?, netlink.used_subnets6()?)),
                Some(link) => Ok((netlink.used_subnets_but(link)?, netlink.used_subnets6_but(link)?)),
            }
        };
        let (mut ipv4, mut ipv6) = ask().map_err(|e: crate::sys::net::netlink::NetlinkError| {
            SysError::new("see which subnets the host uses", std::io::Error::other(e))
        })?;
        for resolver in host_resolvers::usable() {
            match resolver {
                IpAddr::V4(ip) => ipv4.push(ip.into()),
                IpAddr::V6(ip) => ipv6.push(ip.into()),
            }
        }
        Ok(Self { ipv4, ipv6 })
    }

    pub(super) fn free4(&self, name: &str) -> AppResult<Ipv4Network> {
        pick_subnet(&self.ipv4, random()?).ok_or_else(|| AppError::NoSubnet(name.to_owned()))
    }

    /// None on a host without IPv6.
    pub(super) fn free6(&self) -> AppResult<Option<Ipv6Network>> {
        if !sysctl::has_ipv6() {
            return Ok(None);
        }
        Ok(pick_ula(&self.ipv6, random()?))
    }

    pub(super) fn check_both(&self, network: &Network) -> AppResult<()> {
        network.ipv4.map_or(Ok(()), |net| self.check(net.into()))?;
        network.ipv6.map_or(Ok(()), |net| self.check(net.into()))
    }

    pub(super) fn check(&self, wanted: IpNetwork) -> AppResult<()> {
        let taken = match wanted {
            IpNetwork::V4(net) => self.ipv4.iter().find(|u| u.overlaps(net)).map(|u| u.to_string()),
            IpNetwork::V6(net) => self.ipv6.iter().find(|u| u.overlaps(net)).map(|u| u.to_string()),
        };
        match taken {
            Some(taken) => Err(AppError::Overlaps { wanted: wanted.to_string(), taken }),
            None => Ok(()),
        }
    }
}
