//! What a caller may have of the host's network: its own bridges, subnets that belong to nobody else, and
//! what the administrator grants besides.

use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::claims::subnets;
use super::claims::subnets::ClaimError;
use crate::host::api::error::{HostError, failed, refused};
use crate::host::services::dns::DnsLease;
use crate::model::grant::Grant;
use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::model::network::{Nat, Network};
use crate::model::nic::{MOST_NICS, NicKind, NicOrder};
use crate::sys::error_text;
use crate::sys::fs::sealed;
use crate::sys::net::host_resolvers;
use crate::sys::net::netlink::{Attachment, Netlink, NetlinkError};

/// Longest description of a network, in bytes.
const MAX_JSON: usize = 64 * 1024;
/// The same for one guest of a network.
const MAX_LEASE: usize = 256;
/// Longest list of blocks, in bytes.
const MAX_BLOCKS: usize = 64 * 1024 * 1024;
/// The widest subnet that an ordinary user may route on the host.
const WIDEST_OF_USERS: u8 = 20;

/// An interface, with the index of the bridge that it is a port of.
pub type BridgedLink = (Option<u32>, NicOrder);

/// Whether this owner may have the network at all.
pub fn check(instance: &Instance, grant: Option<&Grant>, network: &Network) -> Result<(), HostError> {
    network.check().map_err(|e| refused(e.to_string()))?;
    let bridge = &network.bridge;
    if !network.foreign {
        return match instance.may_be_bridge(bridge) {
            true => Ok(()),
            false => Err(refused(format!("'{bridge}' is not a network of yours"))),
        };
    }
    let granted = grant.is_none_or(|grant| grant.parents().any(|parent| parent == bridge));
    if instance.is_daemonless() || !granted {
        return Err(refused(format!(
            "'{bridge}' is not a bridge that you may be on: your grant does not say so"
        )));
    }
    Ok(())
}

/// Gives a container's network namespace an interface, which the host has no former neighbours for.
pub fn attach(
    instance: &Instance,
    netlink: &Netlink,
    container: &ContainerId,
    (bridge, order): &BridgedLink,
    netns: BorrowedFd<'_>,
) -> Result<(), NetlinkError> {
    netlink.attach(&Attachment {
        nic: &order.nic,
        host_name: &instance.host_link(container, order.nic.slot),
        shaper_name: &instance.shaper_link(container, order.nic.slot),
        bridge: *bridge,
        network_mtu: order.mtu,
        isolated: order.isolated,
        netns,
    })?;
    match bridge {
        Some(index) => netlink.forget_neighbours(&order.bridge, *index, order.nic.addresses()),
        None => Ok(()),
    }
}

/// Whether this owner may have these interfaces. Which bridges there are is looked up by the caller.
pub fn nics(instance: &Instance, grant: Option<&Grant>, orders: &[NicOrder]) -> Result<(), HostError> {
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
                if instance.is_daemonless() || !granted {
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
    Ok(())
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

/// Longest list of a network's guests from a caller who can have so many containers, in bytes of JSON.
pub fn longest_leases(most_containers: usize) -> usize {
    MAX_JSON + most_containers * usize::from(MOST_NICS) * MAX_LEASE
}

/// Whether the guests of a network are no more than the caller's containers can have.
pub fn check_leases(most_containers: Option<usize>, leases: &[DnsLease]) -> Result<(), HostError> {
    let most = most_containers.map(|most| most * usize::from(MOST_NICS));
    match most.filter(|most| leases.len() > *most) {
        Some(most) => {
            Err(refused(format!("{} guests are more than the {most} that you can have", leases.len())))
        }
        None => Ok(()),
    }
}

/// Refuses an ordinary user subnets that are not on record as this network's.
pub fn check_claimed(instance: &Instance, network: &Network) -> Result<(), HostError> {
    if instance.uid_of_user().is_none() || network.foreign {
        return Ok(());
    }
    let claimed = subnets::of(instance).map_err(failed)?.remove(&network.bridge).unwrap_or_default();
    let own = network.ipv4.map(IpNetwork::V4).into_iter().chain(network.ipv6.map(IpNetwork::V6));
    match own.into_iter().find(|net| !claimed.contains(net)) {
        Some(net) => Err(refused(format!(
            "{net} is not on record as a subnet of network '{}': EnsureNetwork has to come first",
            network.name
        ))),
        None => Ok(()),
    }
}

/// A list of blocks as it was sent.
pub fn blocks(fd: &OwnedFd) -> Result<Vec<u8>, HostError> {
    sealed::read(fd, MAX_BLOCKS)
        .map_err(|e| refused(format!("that is not a list of blocks: {}", error_text(&e))))
}

/// Refuses an ordinary user subnets that are beyond the grant, or that somebody else uses or has claimed.
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
    subnets::claim(instance, network, grant.networks()).map_err(|e| match e {
        ClaimError::Overlaps { .. } | ClaimError::TooMany { .. } => refused(e.to_string()),
        other => failed(other),
    })?;
    match overlapping(netlink, network)? {
        None => Ok(()),
        Some(why) => {
            // A subnet that is refused must not stay claimed.
            subnets::release(instance, &network.bridge).map_err(failed)?;
            Err(refused(why))
        }
    }
}

/// The subnet of the host's that the network overlaps, if there is one.
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
