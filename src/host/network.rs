//! What a caller may have of the host's network: its own bridges, subnets that are nobody else's, and
//! what the administrator grants beyond.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::de::DeserializeOwned;
use zbus::OwnedFd as BusFd;

use super::dns::DnsLease;
use super::error::{HostError, failed, refused};
use super::ledger::{self, LedgerError};
use crate::model::grant::Grant;
use crate::model::instance::Instance;
use crate::model::network::{Nat, Network};
use crate::model::nic::{MOST_NICS, NicKind, NicOrder};
use crate::sys::host_resolvers;
use crate::sys::netlink::Netlink;
use crate::sys::{error_text, sealed};

/// Longest description of a network, and of a container's interfaces, in bytes.
const MAX_JSON: usize = 64 * 1024;
/// The same for one guest of a network.
const MAX_LEASE: usize = 256;
/// The same for all of them, where there is no bound to how many there are.
const MAX_LEASES: usize = 16 * 1024 * 1024;
/// The same for a whole firewall.
const MAX_PLAN: usize = 64 * 1024 * 1024;
/// The widest subnet that an ordinary user may lay over the host's view of the world.
const WIDEST_OF_USERS: u8 = 20;

/// The network that `text` describes, if this owner may have it at all.
pub fn parsed(instance: &Instance, grant: Option<&Grant>, text: &str) -> Result<Network, HostError> {
    let network: Network = json(text, "a network")?;
    network.check().map_err(|e| refused(e.to_string()))?;
    let bridge = &network.bridge;
    if !network.foreign {
        return match instance.may_be_bridge(bridge) {
            true => Ok(network),
            false => Err(refused(format!("'{bridge}' is not a network of yours"))),
        };
    }
    let granted = grant.is_none_or(|grant| grant.parents().any(|parent| parent == bridge));
    if instance.is_private() || !granted {
        return Err(refused(format!(
            "'{bridge}' is not a bridge that you may be on: your grant does not say so"
        )));
    }
    Ok(network)
}

/// The interfaces that `text` describes, if this owner may have them. Which bridges there are is
/// looked up by the caller.
pub fn nics(instance: &Instance, grant: Option<&Grant>, text: &str) -> Result<Vec<NicOrder>, HostError> {
    let orders: Vec<NicOrder> = json(text, "interfaces")?;
    if orders.len() > usize::from(MOST_NICS) {
        return Err(refused(format!("a container has {MOST_NICS} interfaces at most")));
    }
    for (n, order) in orders.iter().enumerate() {
        let nic = &order.nic;
        nic.check().map_err(|e| refused(e.to_string()))?;
        if orders[..n].iter().any(|before| before.nic.slot == nic.slot || before.nic.name == nic.name) {
            return Err(refused("two interfaces have the same slot or name"));
        }
        if order.mtu.is_some_and(|mtu| !(1280..=65_535).contains(&mtu)) {
            return Err(refused("the mtu is not a number from 1280 to 65535"));
        }
        match &nic.kind {
            NicKind::Bridged { .. } => {}
            NicKind::Macvlan { parent } => {
                let granted = grant.is_none_or(|grant| grant.parents().any(|granted| granted == parent));
                if instance.is_private() || !granted {
                    return Err(refused(format!("'{parent}' is not an interface that you may share")));
                }
            }
            NicKind::Routed => {
                let may =
                    |ip: IpAddr| grant.is_none_or(|grant| grant.addresses().any(|net| net.contains(ip)));
                if let Some(ip) = nic.addresses().find(|ip| !may(*ip)) {
                    return Err(refused(format!("{ip} is not an address that your grant holds")));
                }
            }
        }
    }
    Ok(orders)
}

/// Whether the addresses of an interface are those of a guest on `network`.
pub fn fits(network: &Network, order: &NicOrder) -> Result<(), HostError> {
    let outside = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => network.ipv4.is_some() && !network.is_guest_address4(*ip),
        IpAddr::V6(ip) => network.ipv6.is_some() && !network.is_guest_address6(*ip),
    };
    match order.nic.addresses().find(outside) {
        Some(ip) => Err(refused(format!("{ip} is not a guest's address on network '{}'", network.name))),
        None => Ok(()),
    }
}

/// What a network's guests are called and where they are: no more than so many containers can have.
pub fn leases(most_containers: Option<usize>, fd: BusFd) -> Result<Vec<DnsLease>, HostError> {
    let most = most_containers.map(|most| most * usize::from(MOST_NICS));
    let bytes = most.map_or(MAX_LEASES, |most| MAX_JSON + most * MAX_LEASE);
    let leases: Vec<DnsLease> = sealed_json(fd, "guests", bytes)?;
    match most.filter(|most| leases.len() > *most) {
        Some(most) => {
            Err(refused(format!("{} guests are more than the {most} that you can have", leases.len())))
        }
        None => Ok(leases),
    }
}

/// Refuses an ordinary user subnets that are not on record as this network's.
pub fn check_claimed(instance: &Instance, network: &Network) -> Result<(), HostError> {
    if instance.person().is_none() || network.foreign {
        return Ok(());
    }
    let claimed = ledger::of(instance).map_err(failed)?.remove(&network.bridge).unwrap_or_default();
    let own = network.ipv4.map(IpNetwork::V4).into_iter().chain(network.ipv6.map(IpNetwork::V6));
    match own.into_iter().find(|net| !claimed.contains(net)) {
        Some(net) => Err(refused(format!(
            "{net} is not on record as a subnet of network '{}': EnsureNetwork has to come first",
            network.name
        ))),
        None => Ok(()),
    }
}

/// A part of a firewall.
pub fn plan<T: DeserializeOwned>(fd: BusFd) -> Result<T, HostError> {
    sealed_json(fd, "a firewall", MAX_PLAN)
}

/// A list of blocks as it was sent.
pub fn blocks(fd: BusFd) -> Result<Vec<u8>, HostError> {
    sealed_bytes(fd, "blocks", MAX_PLAN)
}

/// An answer as JSON, in a sealed memory file.
pub fn answer(value: &impl serde::Serialize) -> Result<BusFd, HostError> {
    let text = serde_json::to_vec(value).map_err(|e| HostError::Failed(e.to_string()))?;
    Ok(sealed::write(&text).map_err(failed)?.into())
}

fn json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, HostError> {
    if text.len() > MAX_JSON {
        return Err(refused(format!("a description of {what} is no longer than {MAX_JSON} bytes")));
    }
    serde_json::from_str(text).map_err(|e| described(what, &e))
}

fn sealed_json<T: DeserializeOwned>(fd: BusFd, what: &str, most: usize) -> Result<T, HostError> {
    serde_json::from_slice(&sealed_bytes(fd, what, most)?).map_err(|e| described(what, &e))
}

fn sealed_bytes(fd: BusFd, what: &str, most: usize) -> Result<Vec<u8>, HostError> {
    sealed::read(&fd.into(), most)
        .map_err(|e| refused(format!("that is not a description of {what}: {}", error_text(&e))))
}

fn described(what: &str, error: &serde_json::Error) -> HostError {
    refused(format!("that is not a description of {what}: {error}"))
}

/// Refuses an ordinary user what is beyond the grant, or somebody else's now or by the record.
pub fn check_subnets(
    instance: &Instance,
    grant: Option<&Grant>,
    netlink: &Netlink,
    network: &Network,
) -> Result<(), HostError> {
    let Some(grant) = grant.filter(|_| !network.foreign) else { return Ok(()) };
    if grant.networks() == 0 {
        return Err(refused(format!(
            "your grant holds no network of your own on this host; an administrator can allow one: \
             nagaya grant {} networks=1",
            instance.user()
        )));
    }
    let granted = |ip: IpAddr| grant.addresses().any(|net| net.contains(ip));
    if let Some(net) = network.ipv4
        && !granted(net.ip().into())
    {
        if !net.ip().is_private() {
            return Err(refused(format!("{net} is neither a private network nor one that your grant holds")));
        }
        if net.prefix() < WIDEST_OF_USERS {
            return Err(refused(format!("{net} is wider than /{WIDEST_OF_USERS}")));
        }
    }
    if let Some(net) = network.ipv6
        && !granted(net.ip().into())
        && !(net.ip().is_unique_local() && net.prefix() >= 64)
    {
        return Err(refused(format!("{net} is neither a unique local /64 nor one that your grant holds")));
    }
    for nat in [network.nat4, network.nat6] {
        if let Nat::To(ip) = nat
            && !granted(ip)
        {
            return Err(refused(format!("{ip} is not an address that your grant holds")));
        }
    }
    ledger::claim(instance, network, grant.networks()).map_err(|e| match e {
        LedgerError::Overlaps { .. } | LedgerError::TooMany { .. } => refused(e.to_string()),
        other => failed(other),
    })?;
    match overlapping(netlink, network)? {
        None => Ok(()),
        Some(why) => {
            // What cannot be had is nobody's.
            ledger::release(instance, &network.bridge).map_err(failed)?;
            Err(refused(why))
        }
    }
}

/// What of the host the network overlaps.
fn overlapping(netlink: &Netlink, network: &Network) -> Result<Option<String>, HostError> {
    let mut used4: Vec<Ipv4Network> = netlink.used_subnets_but(&network.bridge).map_err(failed)?;
    let mut used6: Vec<Ipv6Network> = netlink.used_subnets6_but(&network.bridge).map_err(failed)?;
    for ip in host_resolvers::usable() {
        match ip {
            IpAddr::V4(ip) => used4.push(ip.into()),
            IpAddr::V6(ip) => used6.push(ip.into()),
        }
    }
    let taken4 = network.ipv4.and_then(|net| used4.into_iter().find(|used| used.overlaps(net)));
    let taken6 = network.ipv6.and_then(|net| used6.into_iter().find(|used| used.overlaps(net)));
    let taken = taken4.map(IpNetwork::V4).or_else(|| taken6.map(IpNetwork::V6));
    Ok(taken.map(|taken| format!("network '{}' overlaps {taken}, which the host uses", network.name)))
}
