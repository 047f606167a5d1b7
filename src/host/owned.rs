//! What of a firewall a caller may speak of.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::firewall::{Bounds, Owned, Ports};
use super::ledger::{self, LedgerError};
use crate::model::firewall::plan::{ContainerPlan, NetworkPlan};
use crate::model::grant::Grant;
use crate::model::instance::Instance;
use crate::model::nic::MOST_NICS;

/// What belongs to the owner of `instance`. Whoever is root, or has the host's network to himself, has
/// the networks and bridges that he speaks of, short of what is somebody else's by its name; an
/// ordinary user, what is on record as his, for so many containers.
pub fn owned(
    instance: &Instance,
    grant: Option<&Grant>,
    most_containers: Option<usize>,
    networks: &[NetworkPlan],
    containers: &[ContainerPlan],
) -> Result<Owned, LedgerError> {
    let own = instance.clone();
    let link = Box::new(move |id: &_, link: &str| (0..MOST_NICS).any(|slot| own.host_link(id, slot) == link));
    let mut all = Owned {
        owner: instance.nft_table(),
        instance: instance.name().to_owned(),
        bridges: BTreeMap::new(),
        routed: Vec::new(),
        link,
        ports: Ports::all(),
        nat: None,
        bounds: None,
    };
    let Some(grant) = grant else {
        all.routed = everything();
        for network in networks.iter().filter(|network| instance.may_be_bridge(&network.bridge)) {
            let ipv4 = network.ipv4.map(IpNetwork::V4);
            let subnets = ipv4.into_iter().chain(network.ipv6.map(IpNetwork::V6)).collect();
            all.bridges.insert(network.bridge.clone(), subnets);
        }
        let links = containers.iter().flat_map(|container| &container.links);
        for bridge in links.filter_map(|link| link.bridge.clone()) {
            all.bridges.entry(bridge).or_default();
        }
        return Ok(all);
    };
    all.bridges = ledger::of(instance)?;
    for parent in grant.parents() {
        all.bridges.entry(parent.clone()).or_default();
    }
    all.routed = grant.addresses().collect();
    all.ports = Ports {
        anywhere: grant.ports().map(|range| (range.first, range.last)).collect(),
        at: Some(grant.addresses().collect()),
    };
    all.nat = Some(grant.addresses().collect());
    all.bounds = most_containers.map(|containers| Bounds { containers });
    Ok(all)
}

fn everything() -> Vec<IpNetwork> {
    ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse().ok()).collect()
}
