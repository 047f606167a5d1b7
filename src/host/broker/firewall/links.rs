//! Containers' links, as the tables know them.

use std::collections::BTreeSet;
use std::path::Path;

use super::check::Owned;
use super::error::{FirewallError, FirewallResult};
use super::look::is_in_place;
use super::names::{policy_name, traffic_names};
use super::retry::retried;
use super::routing::led_by;
use crate::model::firewall::plan::{ContainerPlan, LinkPlan};
use crate::model::name::ContainerId;
use crate::model::nic::MOST_NICS;
use crate::render::nft::links::LINKS;
use crate::render::nft::table::{Element, TableName};
use crate::render::nft::{blocks as block_rules, owners as owner_rules, ports};
use crate::sys::net::nft::{self, Batch};

/// Adds a container's links, before each of its starts. Links that are known already do not change.
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

/// The links of these containers.
pub fn names(containers: &[ContainerPlan]) -> BTreeSet<&str> {
    containers.iter().flat_map(|container| &container.links).map(|link| link.link.as_str()).collect()
}

/// Removes links that do not exist, if more are known than an ordinary user can have: those of containers
/// that never started, or that went without `ForgetContainer`. `wanted` are about to be added; with
/// `counts_only` everything but the tables of counts is made anew anyway.
pub fn prune(
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
        sets.push((policy_name(owner), LINKS.to_owned()));
        sets.push((block_rules::table_name(owner), LINKS.to_owned()));
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

/// Adds the links to the counts of traffic and, if they have no bridge, to the sets of the owner's
/// interfaces.
pub fn add_elements(batch: &mut Batch, owned: &Owned, links: &[LinkPlan]) -> FirewallResult<()> {
    let owner = owned.owner.as_str();
    let [of_ports, of_links] = traffic_names(owner);
    for link in links {
        let element = [Element::link(&link.link)];
        let traffic = if link.bridge.is_some() { &of_ports } else { &of_links };
        batch.add_elements(traffic, ports::SENT, &element);
        batch.add_elements(traffic, ports::RECEIVED, &element);
        match &link.bridge {
            None => {
                batch.add_elements(&policy_name(owner), LINKS, &element);
                batch.add_elements(&block_rules::table_name(owner), LINKS, &element);
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

/// Routes a port if the other ports of its bridge are routed. A port that has moved from another bridge is
/// no longer routed as it was there.
fn route_port(batch: &mut Batch, owner: &str, link: &LinkPlan, bridge: &str) -> FirewallResult<()> {
    let table = TableName::bridge(owner);
    let key = Element::link(&link.link).key;
    let name = (table.clone(), ports::ROUTED.to_owned(), key.clone());
    let found = nft::elements_named(&[name])?.pop().flatten();
    let mac = led_by(owner, bridge)?;
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
