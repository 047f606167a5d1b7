//! What belongs to a caller, and may therefore be named in the caller's firewall.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::subnets;
use super::subnets::ClaimError;
use crate::host::broker::firewall::{Bounds, Owned, Ports};
use crate::model::firewall::plan::{ContainerPlan, NetworkPlan};
use crate::model::grant::Grant;
use crate::model::instance::Instance;
use crate::model::nic::MOST_NICS;

/// What belongs to the owner of `instance`. The service user, and a daemonless owner in a network namespace
/// of their own, have all networks and bridges that they name, unless the name says that they are somebody
/// else's. An ordinary user has what the claims registry records, for at most `most_containers`.
pub fn owned(
    instance: &Instance,
    grant: Option<&Grant>,
    most_containers: Option<usize>,
    networks: &[NetworkPlan],
    containers: &[ContainerPlan],
) -> Result<Owned, ClaimError> {
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
    all.bridges = subnets::of(instance)?;
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
