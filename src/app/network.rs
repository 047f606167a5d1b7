//! The instance's own network: chosen once, kept in the database.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network};

use super::context::App;
use super::error::{AppError, AppResult};
use super::launch::random;
use crate::model::lan::Network;
use crate::model::network::pick_subnet;
use crate::render::guest_files;
use crate::sys::SysError;
use crate::sys::netlink::Netlink;

/// The network, which is made up if there is none yet: with `wanted` as the host's address, else
/// with a private subnet that the host does not use.
pub fn ensure(app: &mut App, wanted: Option<Ipv4Network>) -> AppResult<Network> {
    let bridge = app.instance.bridge();
    if let Some(network) = app.store.network(&bridge)? {
        return match wanted {
            Some(wanted) if wanted != network.ipv4 => {
                Err(AppError::Refused(format!("network '{bridge}' exists already, with {}", network.ipv4)))
            }
            _ => Ok(network),
        };
    }
    let used = used_subnets()?;
    let ipv4 = match wanted {
        None => pick_subnet(&used, random()?).ok_or_else(|| AppError::NoSubnet(bridge.clone()))?,
        Some(wanted) => {
            check_wanted(wanted, &used)?;
            wanted
        }
    };
    let network = Network { bridge: bridge.clone(), ipv4 };
    // Another command may have been quicker: what is stored counts.
    match app.store.add_network(&network) {
        Ok(()) | Err(crate::store::StoreError::NetworkTaken { .. }) if wanted.is_none() => {}
        other => other?,
    }
    Ok(app.store.network(&bridge)?.unwrap_or(network))
}

fn check_wanted(wanted: Ipv4Network, used: &[Ipv4Network]) -> AppResult<()> {
    if !wanted.ip().is_private() || !(8..=29).contains(&wanted.prefix()) {
        return Err(AppError::Refused(format!("{wanted} is not a private subnet of /8 to /29")));
    }
    if wanted.ip() == wanted.network() || wanted.ip() == wanted.broadcast() {
        let first = wanted.nth(1).unwrap_or_else(|| wanted.ip());
        return Err(AppError::Refused(format!(
            "{wanted} names no address for the host; try {first}/{}",
            wanted.prefix()
        )));
    }
    match used.iter().find(|u| u.overlaps(wanted)) {
        Some(other) => Err(AppError::Refused(format!("{wanted} overlaps {other}, which the host uses"))),
        None => Ok(()),
    }
}

/// The instance's network as the kernel has it, for when the database has lost it.
pub fn found(app: &App) -> AppResult<Option<Network>> {
    let bridge = app.instance.bridge();
    let addresses = Netlink::open()
        .and_then(|netlink| netlink.bridge_addresses(&bridge))
        .map_err(|e| SysError::new(format!("look at bridge {bridge}"), std::io::Error::other(e)))?;
    let ipv4 = addresses.into_iter().find_map(|address| match address {
        IpNetwork::V4(ipv4) => Some(ipv4),
        IpNetwork::V6(_) => None,
    });
    Ok(ipv4.map(|ipv4| Network { bridge, ipv4 }))
}

/// Prefixes of the host's addresses and routes, and its resolvers.
fn used_subnets() -> AppResult<Vec<Ipv4Network>> {
    let mut used = Netlink::open()
        .and_then(|netlink| netlink.used_subnets())
        .map_err(|e| SysError::new("see which subnets the host uses", std::io::Error::other(e)))?;
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    used.extend(guest_files::resolvers(&text, None).into_iter().filter_map(|ip| match ip {
        IpAddr::V4(ip) => Some(Ipv4Network::from(ip)),
        IpAddr::V6(_) => None,
    }));
    Ok(used)
}
