//! What belongs to an instance, as far as its firewall is concerned.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{Owned, Ports};
use crate::host::ledger::{self, LedgerError};
use crate::model::firewall::plan::{LinkPlan, NetworkPlan};
use crate::model::grant::Grant;
use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::model::nic::MOST_NICS;

impl Owned {
    /// `networks` and `links` are what the caller speaks of: of those, its own are in the answer, each
    /// network with the subnets that it may have. An ordinary user has what `grant` and the record of
    /// networks say.
    pub fn of<'a>(
        instance: &Instance,
        grant: Option<&Grant>,
        networks: &[NetworkPlan],
        links: impl Iterator<Item = &'a LinkPlan>,
    ) -> Result<Self, LedgerError> {
        let everywhere = || vec![all(true), all(false)];
        let granted = || grant.map(|grant| grant.addresses().collect::<Vec<_>>());
        let recorded = grant.map(|_| ledger::of(instance)).transpose()?;
        let mut bridges = BTreeMap::new();
        for network in networks.iter().filter(|network| instance.may_be_bridge(&network.bridge)) {
            let subnets = match &recorded {
                Some(recorded) => recorded.get(&network.bridge).cloned().unwrap_or_default(),
                None => subnets(network),
            };
            bridges.insert(network.bridge.clone(), subnets);
        }
        // Ports on bridges of the host's own are only counted.
        for bridge in links.filter_map(|link| link.bridge.as_ref()) {
            let foreign = grant.is_none_or(|grant| grant.parents().any(|parent| parent == bridge));
            if foreign || instance.may_be_bridge(bridge) {
                bridges.entry(bridge.clone()).or_default();
            }
        }
        // Those of networks that are not spoken of here are the user's too.
        for (bridge, subnets) in recorded.into_iter().flatten() {
            bridges.entry(bridge).or_insert(subnets);
        }
        let of_container = {
            let instance = instance.clone();
            move |id: &ContainerId, link: &str| {
                (0..MOST_NICS).any(|slot| instance.host_link(id, slot) == link)
            }
        };
        Ok(Self {
            owner: instance.nft_table(),
            instance: instance.name().to_owned(),
            bridges,
            routed: granted().unwrap_or_else(everywhere),
            link: Box::new(of_container),
            ports: match grant {
                None => Ports::all(),
                Some(grant) => Ports {
                    anywhere: grant.ports().map(|range| (range.first, range.last)).collect(),
                    at: granted(),
                },
            },
            nat: granted(),
        })
    }
}

fn subnets(network: &NetworkPlan) -> Vec<IpNetwork> {
    let ipv4 = network.ipv4.map(IpNetwork::V4);
    ipv4.into_iter().chain(network.ipv6.map(IpNetwork::V6)).collect()
}

/// All addresses of a family.
fn all(v4: bool) -> IpNetwork {
    let ip: IpAddr = if v4 { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    IpNetwork::new(ip, 0).unwrap_or_else(|_| ip.into())
}
