//! Which bridge was given which subnets: root's record of what ordinary users have been granted, so
//! that nobody takes a subnet whose owner's containers are not running.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::host::record::{self, Record, RecordError};
use crate::model::instance::Instance;
use crate::model::network::Network;

const FILE: &str = "networks.toml";

/// Why a subnet cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("{wanted} overlaps {taken}, which another network of this host has")]
    Overlaps { wanted: IpNetwork, taken: IpNetwork },
    #[error(
        "your grant of {most} network{} on this host is used up; an administrator can allow more: \
         nagaya grant {user} networks={}",
        if *most == 1 { "" } else { "s" },
        most.saturating_add(1)
    )]
    TooMany { most: u32, user: String },
    #[error(transparent)]
    Record(#[from] RecordError),
}

type Networks = BTreeMap<String, Subnets>;

/// The subnets of a bridge; older records have a single one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Subnets {
    Many(Vec<IpNetwork>),
    One(IpNetwork),
}

impl Subnets {
    fn of(network: &Network) -> Self {
        let ipv4 = network.ipv4.map(IpNetwork::V4);
        Self::Many(ipv4.into_iter().chain(network.ipv6.map(IpNetwork::V6)).collect())
    }

    fn iter(&self) -> std::slice::Iter<'_, IpNetwork> {
        match self {
            Self::Many(subnets) => subnets.iter(),
            Self::One(subnet) => std::slice::from_ref(subnet).iter(),
        }
    }
}

fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    match (a, b) {
        (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(b),
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(b),
        _ => false,
    }
}

fn open(instance: &Instance) -> Result<Record<Networks>, RecordError> {
    record::open(instance, FILE)
}

/// Records that the bridge has these subnets; its owner may have `most` bridges.
///
/// # Errors
/// When another bridge has been given a part of them.
pub fn claim(instance: &Instance, network: &Network, most: u32) -> Result<(), ClaimError> {
    let mut claims = open(instance)?;
    let wanted = Subnets::of(network);
    if claims.content().get(&network.bridge) == Some(&wanted) {
        return Ok(());
    }
    let others = || claims.content().iter().filter(|(bridge, _)| **bridge != network.bridge);
    for (wanted, taken) in
        others().flat_map(|(_, taken)| wanted.iter().flat_map(|w| taken.iter().map(move |t| (*w, *t))))
    {
        if overlap(wanted, taken) {
            return Err(ClaimError::Overlaps { wanted, taken });
        }
    }
    let own = others().filter(|(bridge, _)| instance.may_be_bridge(bridge)).count();
    if own >= most as usize {
        return Err(ClaimError::TooMany { most, user: instance.user().to_owned() });
    }
    claims.content_mut().insert(network.bridge.clone(), wanted);
    Ok(claims.write()?)
}

/// An owner's bridges with their subnets.
pub fn of(instance: &Instance) -> Result<BTreeMap<String, Vec<IpNetwork>>, ClaimError> {
    if !record::exists(instance, FILE) {
        return Ok(BTreeMap::new());
    }
    let claims = open(instance)?;
    let own = claims.content().iter().filter(|(bridge, _)| instance.may_be_bridge(bridge));
    Ok(own.map(|(bridge, subnets)| (bridge.clone(), subnets.iter().copied().collect())).collect())
}

/// Forgets the bridge.
pub fn release(instance: &Instance, bridge: &str) -> Result<(), ClaimError> {
    if !record::exists(instance, FILE) {
        return Ok(());
    }
    let mut claims = open(instance)?;
    match claims.content_mut().remove(bridge) {
        Some(_) => Ok(claims.write()?),
        None => Ok(()),
    }
}

/// Removes a record that is empty.
pub fn forget(instance: &Instance) {
    if let Ok(claims) = open(instance)
        && claims.content().is_empty()
    {
        claims.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_version_0_1_0_is_as_it_was() {
        let all: Networks = record::released("networks.toml");
        let subnets: Vec<String> = all["released-rs.1"].iter().map(IpNetwork::to_string).collect();
        assert_eq!((all.len(), subnets[0].as_str(), subnets.len()), (1, "10.90.0.1/24", 2));
        assert!(subnets[1].starts_with("fd"), "{subnets:?}");
    }

    #[test]
    fn a_grant_that_is_used_up_is_told_with_what_to_do() {
        let told = |most| ClaimError::TooMany { most, user: "ann".to_owned() }.to_string();
        assert!(told(1).starts_with("your grant of 1 network on this host is used up; "), "{}", told(1));
        assert!(told(1).ends_with(": nagaya grant ann networks=2"), "{}", told(1));
        assert!(told(3).starts_with("your grant of 3 networks on"), "{}", told(3));
    }
}
