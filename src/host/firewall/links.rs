//! Containers' links, and the ports of bridges whose packets are led through the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{FirewallError, FirewallResult, Owned, is_in_place, policy_name, retried, traffic_names};
use crate::model::firewall::plan::{ContainerPlan, LinkPlan, Plan};
use crate::model::mac::Mac;
use crate::model::name::ContainerId;
use crate::model::nic::MOST_NICS;
use crate::render::nft::blocks as block_rules;
use crate::render::nft::owners as owner_rules;
use crate::render::nft::phrases;
use crate::render::nft::ports;
use crate::render::nft::table::{Element, TableName};
use crate::sys::hardware_address;
use crate::sys::nft::{self, Batch};

/// Makes a container's links known: before its every start. Of those that are known already nothing
/// changes.
pub fn add_links(owned: &Owned, id: &ContainerId, links: &[LinkPlan]) -> FirewallResult<()> {
    owned.check_links(id, links)?;
    retried(|generation| {
        if !is_in_place(&owned.instance, &owned.owner)? {
            return Err(FirewallError::NotInPlace);
        }
        let mut batch = Batch::new().only_at(generation);
        prune(&mut batch, owned, &links.iter().map(|link| link.link.as_str()).collect(), false)?;
        add_elements(&mut batch, owned, links)?;
        Ok(batch)
    })
}

/// The Ethernet addresses of the bridges whose ports are to be routed: those that they will have, where
/// they are not there yet.
pub(super) fn macs(plan: &Plan) -> BTreeMap<String, Mac> {
    let routed = plan.networks.iter().filter(|network| network.routed);
    let mac = |bridge: &str| {
        hardware_address::of(bridge).unwrap_or_else(|| hardware_address::of_new_bridge(bridge))
    };
    routed.map(|network| (network.bridge.clone(), mac(&network.bridge))).collect()
}

/// The bridge's address, if its ports are led to the host.
fn routing(owner: &str, bridge: &str) -> FirewallResult<Option<Mac>> {
    let Some(mac) = hardware_address::of(bridge) else { return Ok(None) };
    let chain = ports::routing_chain(bridge, mac);
    Ok((nft::rule_count(&TableName::bridge(owner), &chain)? > 0).then_some(mac))
}

/// The links of these containers.
pub(super) fn names(containers: &[ContainerPlan]) -> BTreeSet<&str> {
    containers.iter().flat_map(|container| &container.links).map(|link| link.link.as_str()).collect()
}

/// Forgets links that are not there, where more are known than an ordinary user can have: those of
/// containers that never started, or of which nobody said that they are gone. `wanted` are about to
/// be made known; with `counts_only` all but the tables of counts is made anew anyway.
pub(super) fn prune(
    batch: &mut Batch,
    owned: &Owned,
    wanted: &BTreeSet<&str>,
    counts_only: bool,
) -> FirewallResult<()> {
    let Some(bounds) = owned.bounds else { return Ok(()) };
    let most = bounds.containers * usize::from(MOST_NICS) + owned.bridges.len();
    let owner = owned.owner.as_str();
    let counts = traffic_names(owner).into_iter();
    let mut sets: Vec<(TableName, String)> = counts
        .flat_map(|table| [ports::SENT, ports::RECEIVED].map(|set| (table.clone(), set.into())))
        .collect();
    let together = owner_rules::table_name(&owned.instance);
    let own_set = owner_rules::own_set(owner).name;
    if !counts_only {
        sets.push((TableName::bridge(owner), ports::ROUTED.to_owned()));
        sets.push((policy_name(owner), phrases::LINKS.to_owned()));
        sets.push((block_rules::table_name(owner), phrases::LINKS.to_owned()));
        sets.push((together.clone(), own_set.clone()));
    }
    for (table, set) in sets {
        let found = nft::elements(&table, &set)?.unwrap_or_default();
        let new =
            wanted.iter().filter(|link| !found.iter().any(|f| f.key == Element::link(link).key)).count();
        if found.len() + new <= most {
            continue;
        }
        let is_idle = |key: &[u8]| {
            let name = String::from_utf8_lossy(key).trim_end_matches('\0').to_owned();
            let is_known = wanted.contains(name.as_str()) || owned.bridges.contains_key(&name);
            !is_known && !Path::new("/sys/class/net").join(name).exists()
        };
        let gone = found.into_iter().filter(|f| is_idle(&f.key)).map(|f| Element::new(f.key));
        let gone: Vec<Element> = gone.collect();
        batch.delete_elements(&table, &set, &gone);
        if set == own_set {
            // What is in the owner's own set is in those of all owners.
            [owner_rules::ALL, owner_rules::OWNERS]
                .iter()
                .for_each(|of_all| batch.delete_elements(&together, of_all, &gone));
        }
    }
    Ok(())
}

pub(super) fn add_elements(batch: &mut Batch, owned: &Owned, links: &[LinkPlan]) -> FirewallResult<()> {
    let owner = owned.owner.as_str();
    let [of_ports, of_links] = traffic_names(owner);
    for link in links {
        let element = [Element::link(&link.link)];
        let traffic = if link.bridge.is_some() { &of_ports } else { &of_links };
        batch.add_elements(traffic, ports::SENT, &element);
        batch.add_elements(traffic, ports::RECEIVED, &element);
        match &link.bridge {
            None => {
                batch.add_elements(&policy_name(owner), phrases::LINKS, &element);
                batch.add_elements(&block_rules::table_name(owner), phrases::LINKS, &element);
                let table = owner_rules::table_name(&owned.instance);
                for (set, element) in owner_rules::elements(owner, &link.link) {
                    batch.add_elements(&table, &set, &[element]);
                }
            }
            Some(bridge) => route_port(batch, owner, link, bridge)?,
        }
    }
    Ok(())
}

/// A port of a bridge whose other ports are routed is routed too; one that has moved from another
/// bridge no longer as it was there.
fn route_port(batch: &mut Batch, owner: &str, link: &LinkPlan, bridge: &str) -> FirewallResult<()> {
    let table = TableName::bridge(owner);
    let key = Element::link(&link.link).key;
    let found = nft::element(&table, ports::ROUTED, &key)?;
    let mac = routing(owner, bridge)?;
    let wanted = mac.map(|mac| ports::routing_chain(bridge, mac));
    match found {
        Some(f) if f.chain == wanted => return Ok(()),
        Some(_) => batch.delete_elements(&table, ports::ROUTED, &[Element::new(key)]),
        None => {}
    }
    if let Some(mac) = mac {
        batch.add_elements(&table, ports::ROUTED, &[ports::port_element(&link.link, bridge, mac)]);
    }
    Ok(())
}
