//! Owners' firewalls: plans, which the broker's callers send and which are therefore checked again,
//! put into the kernel. One owner has the tables
//!
//! - `inet OWNER`: policy and translated addresses,
//! - `inet OWNER-blocks`: blocked addresses,
//! - `bridge OWNER`: what leads packets between neighbours through the host,
//! - `bridge OWNER-traffic` and `inet OWNER-traffic`: counts of what passed each link.

mod blocks;
mod check;
#[cfg(test)]
mod packet_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use blocks::{BlockOrder, block, block_hits};
pub use check::{Owned, Ports};

use crate::model::firewall::plan::{ContainerPlan, LinkPlan, Plan};
use crate::model::firewall::policy::Direction;
use crate::model::firewall::{Change, plan};
use crate::model::mac::Mac;
use crate::model::name::ContainerId;
use crate::render::nft::blocks as block_rules;
use crate::render::nft::filter;
use crate::render::nft::nat;
use crate::render::nft::policy_table;
use crate::render::nft::ports;
use crate::render::nft::table::{Chain, Element, Family, TableName};
use crate::sys::hardware_address;
use crate::sys::nft::{self, Batch, NftError};

/// Why a firewall is not what it was to be.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The caller may not have this.
    #[error("{0}")]
    Refused(String),
    /// The tables are not there, so that nothing of them can be changed; `apply_all` makes them.
    #[error("the firewall is not in place")]
    NotInPlace,
    #[error(transparent)]
    Nft(#[from] NftError),
}

pub type FirewallResult<T> = Result<T, FirewallError>;

/// What has passed one link since it was first counted, as its guest sees it. Packets are the
/// kernel's, which joins those of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
}

/// What one rule, or a default, has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// `c-000000ab-in`, `g-web-out`, `n-nagaya0-in`; of a network's default `d-nagaya0-in`.
    pub chain: String,
    /// `rule 3` or `default`.
    pub rule: String,
    pub packets: u64,
    pub bytes: u64,
}

/// How often something is tried again because somebody else has changed the kernel's rules.
const TRIES: usize = 50;
/// The same where something is not there that was: an element that has gone by itself, most likely.
const TRIES_GONE: usize = 3;

fn policy_name(owner: &str) -> TableName {
    TableName::inet(owner)
}

fn traffic_names(owner: &str) -> [TableName; 2] {
    let name = ports::traffic_name(owner);
    [TableName::bridge(name.clone()), TableName::inet(name)]
}

fn all_names(owner: &str) -> Vec<TableName> {
    let mut names = vec![policy_name(owner), block_rules::table_name(owner), TableName::bridge(owner)];
    names.extend(traffic_names(owner));
    names
}

/// Puts the whole plan in the place of whatever was there, in one transaction. Blocks and counts of
/// traffic stay; counts of rules begin anew. Bridges have to be there to have their ports routed.
pub fn apply_all(owned: &Owned, plan: &Plan) -> FirewallResult<()> {
    owned.check(plan)?;
    let owner = owned.owner.as_str();
    retried(|generation| {
        let mut batch = Batch::new().only_at(generation);
        batch.replace(&policy_table(owner, plan, &owned.strangers));
        batch.replace(&ports::routing_table(owner, plan, &macs(plan)));
        for table in ports::traffic_tables(owner, plan) {
            match exists(&table.name)? {
                false => batch.add(&table),
                true => {
                    table.elements.iter().for_each(|(set, all)| batch.add_elements(&table.name, set, all))
                }
            }
        }
        let blocks = block_rules::table(owner, plan);
        match exists(&blocks.name)? {
            false => batch.add(&blocks),
            true => {
                for (set, elements) in &blocks.elements {
                    batch.flush_set(&blocks.name, set);
                    batch.add_elements(&blocks.name, set, elements);
                }
            }
        }
        Ok(batch)
    })
}

/// The Ethernet addresses of the bridges whose ports are to be routed, as far as they are there.
fn macs(plan: &Plan) -> BTreeMap<String, Mac> {
    let routed = plan.networks.iter().filter(|network| network.routed);
    let mac = |bridge: &str| hardware_address::of(bridge).map(|mac| (bridge.to_owned(), mac));
    routed.filter_map(|network| mac(&network.bridge)).collect()
}

/// Changes parts of a firewall that is in place, in one transaction.
///
/// # Errors
/// `NotInPlace` where it is not.
pub fn apply_change(owned: &Owned, change: &Change) -> FirewallResult<()> {
    owned.check_change(change)?;
    let owner = owned.owner.as_str();
    let table = policy_name(owner);
    retried(|generation| {
        if !is_in_place(owner)? {
            return Err(FirewallError::NotInPlace);
        }
        let mut batch = Batch::new().only_at(generation);
        for (name, nets) in &change.sets {
            for v4 in [true, false] {
                let (set, elements) = filter::named_set(name, nets, v4);
                batch.add_set(&table, &set);
                batch.flush_set(&table, &set.name);
                batch.add_elements(&table, &set.name, &elements);
            }
        }
        for group in &change.groups {
            filter::group_chains(group).iter().for_each(|chain| batch.put_chain(&table, chain));
        }
        for network in &change.networks {
            change_network(&mut batch, &table, network)?;
        }
        let former = |id: &ContainerId| {
            change.former.iter().filter(|(of, _)| of == id).flat_map(|(_, ips)| ips.clone()).collect()
        };
        for container in &change.containers {
            change_container(&mut batch, owner, container, former(&container.id))?;
        }
        for id in &change.gone_containers {
            drop_container(&mut batch, owner, id, former(id))?;
        }
        drop_unused(&mut batch, &table, change);
        for (map, elements) in change.forwards.iter().flat_map(|f| nat::forward_elements(f)) {
            batch.flush_set(&table, &map);
            batch.add_elements(&table, &map, &elements);
        }
        Ok(batch)
    })
}

/// Groups and sets go last, when nothing speaks of them any more.
fn drop_unused(batch: &mut Batch, table: &TableName, change: &Change) {
    for name in &change.gone_groups {
        for direction in Direction::BOTH {
            let chain = Chain::new(filter::group_chain(name, direction), Vec::new());
            batch.add_chain(table, &chain);
            batch.delete_chain(table, &chain.name);
        }
    }
    for name in &change.gone_sets {
        for v4 in [true, false] {
            let (set, _) = filter::named_set(name, &[], v4);
            batch.add_set(table, &set);
            batch.delete_set(table, &set.name);
        }
    }
}

/// Takes those of a map's elements back that lead to one of these chains.
fn drop_jumps(
    batch: &mut Batch,
    table: &TableName,
    map: &str,
    elements: &[Element],
    chains: &[String],
) -> FirewallResult<()> {
    for element in elements {
        let found = nft::element(table, map, &element.key)?;
        let chain = found.and_then(|found| found.chain);
        if chain.is_some_and(|chain| chains.contains(&chain)) {
            batch.delete_elements(table, map, &[Element::new(element.key.clone())]);
        }
    }
    Ok(())
}

fn change_network(batch: &mut Batch, table: &TableName, network: &plan::NetworkPlan) -> FirewallResult<()> {
    let chains = filter::network_chains(network);
    let names: Vec<String> = chains.iter().map(|chain| chain.name.clone()).collect();
    for direction in Direction::BOTH {
        for map in [filter::network_map(direction), filter::default_map(direction)] {
            drop_jumps(batch, table, map, &[Element::link(&network.bridge)], &names)?;
        }
    }
    chains.iter().for_each(|chain| batch.put_chain(table, chain));
    for (map, elements) in filter::network_elements(network) {
        batch.add_elements(table, &map, &elements);
    }
    Ok(())
}

fn change_container(
    batch: &mut Batch,
    owner: &str,
    container: &ContainerPlan,
    mut addresses: Vec<IpAddr>,
) -> FirewallResult<()> {
    let table = policy_name(owner);
    addresses
        .extend(container.addresses.iter().filter(|ip| !addresses.contains(ip)).copied().collect::<Vec<_>>());
    drop_addresses(batch, &table, &container.id, &addresses)?;
    match container.has_policy() {
        true => {
            filter::container_chains(container).iter().for_each(|chain| batch.put_chain(&table, chain));
            for (map, elements) in filter::container_elements(container) {
                batch.add_elements(&table, &map, &elements);
            }
        }
        false => drop_chains(batch, &table, &container.id),
    }
    add_link_elements(batch, owner, &container.links)?;
    blocks::readdress(batch, owner, container)
}

fn drop_addresses(
    batch: &mut Batch,
    table: &TableName,
    id: &ContainerId,
    addresses: &[IpAddr],
) -> FirewallResult<()> {
    let own = Direction::BOTH.map(|direction| filter::container_chain(id, direction));
    for direction in Direction::BOTH {
        for v4 in [true, false] {
            let elements: Vec<_> =
                addresses.iter().filter(|ip| ip.is_ipv4() == v4).map(|ip| Element::address(*ip)).collect();
            drop_jumps(batch, table, filter::address_map(direction, v4), &elements, &own)?;
        }
    }
    Ok(())
}

/// Also where there are none: a chain that is added first can always be deleted.
fn drop_chains(batch: &mut Batch, table: &TableName, id: &ContainerId) {
    for direction in Direction::BOTH {
        let chain = Chain::new(filter::container_chain(id, direction), Vec::new());
        batch.add_chain(table, &chain);
        batch.delete_chain(table, &chain.name);
    }
}

fn drop_container(
    batch: &mut Batch,
    owner: &str,
    id: &ContainerId,
    addresses: Vec<IpAddr>,
) -> FirewallResult<()> {
    let table = policy_name(owner);
    drop_addresses(batch, &table, id, &addresses)?;
    drop_chains(batch, &table, id);
    blocks::forget(batch, owner, id)
}

/// Forgets a container that is deleted, with the counts of its links and whatever is blocked for it
/// alone. `addresses` are those that it had.
pub fn remove_container(
    owned: &Owned,
    id: &ContainerId,
    links: &[String],
    addresses: &[IpAddr],
) -> FirewallResult<()> {
    if let Some(strange) = links.iter().find(|link| !(owned.link)(id, link)) {
        return Err(FirewallError::Refused(format!("'{strange}' is not a link of container {id}")));
    }
    let owner = owned.owner.as_str();
    retried(|generation| {
        let mut batch = Batch::new().only_at(generation);
        let table = policy_name(owner);
        if exists(&table)? {
            drop_container(&mut batch, owner, id, addresses.to_vec())?;
        }
        let mut sets = vec![(table, filter::LINKS), (block_rules::table_name(owner), filter::LINKS)];
        sets.push((TableName::bridge(owner), ports::ROUTED));
        let counts = |t: TableName| [(t.clone(), ports::SENT), (t, ports::RECEIVED)];
        sets.extend(traffic_names(owner).into_iter().flat_map(counts));
        for (table, set) in sets {
            for link in links {
                let key = Element::link(link).key;
                if nft::element(&table, set, &key)?.is_some() {
                    batch.delete_elements(&table, set, &[Element::new(key)]);
                }
            }
        }
        Ok(batch)
    })
}

/// Makes a container's links known: before its first start, and whenever they have changed. Of those
/// that are known already nothing changes.
pub fn add_links(owned: &Owned, id: &ContainerId, links: &[LinkPlan]) -> FirewallResult<()> {
    owned.check_links(id, links)?;
    let owner = owned.owner.as_str();
    retried(|generation| {
        if !is_in_place(owner)? {
            return Err(FirewallError::NotInPlace);
        }
        let mut batch = Batch::new().only_at(generation);
        add_link_elements(&mut batch, owner, links)?;
        Ok(batch)
    })
}

fn add_link_elements(batch: &mut Batch, owner: &str, links: &[LinkPlan]) -> FirewallResult<()> {
    let [of_ports, of_links] = traffic_names(owner);
    for link in links {
        let element = [Element::link(&link.link)];
        let traffic = if link.bridge.is_some() { &of_ports } else { &of_links };
        batch.add_elements(traffic, ports::SENT, &element);
        batch.add_elements(traffic, ports::RECEIVED, &element);
        match &link.bridge {
            None => {
                batch.add_elements(&policy_name(owner), filter::LINKS, &element);
                batch.add_elements(&block_rules::table_name(owner), filter::LINKS, &element);
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
    let element = Element::link(&link.link);
    let found = nft::element(&table, ports::ROUTED, &element.key)?;
    let wanted = ports::routing_chain(bridge);
    let routed = nft::rules(&table)?.iter().any(|rule| rule.chain == wanted);
    match found {
        Some(f) if routed && f.chain.as_deref() == Some(wanted.as_str()) => return Ok(()),
        Some(_) => batch.delete_elements(&table, ports::ROUTED, std::slice::from_ref(&element)),
        None => {}
    }
    if routed {
        batch.add_elements(&table, ports::ROUTED, &[element.to(ports::to_routing(bridge))]);
    }
    Ok(())
}

/// What has passed the owner's links.
pub fn traffic(owner: &str) -> FirewallResult<BTreeMap<String, Traffic>> {
    let mut all: BTreeMap<String, Traffic> = BTreeMap::new();
    for table in traffic_names(owner) {
        for (set, sent) in [(ports::SENT, true), (ports::RECEIVED, false)] {
            for found in nft::elements(&table, set)?.unwrap_or_default() {
                let name: Vec<u8> = found.key.iter().copied().take_while(|byte| *byte != 0).collect();
                let traffic = all.entry(String::from_utf8_lossy(&name).into_owned()).or_default();
                let count = found.count.unwrap_or_default();
                match sent {
                    true => (traffic.sent_packets, traffic.sent_bytes) = (count.packets, count.bytes),
                    false => {
                        (traffic.received_packets, traffic.received_bytes) = (count.packets, count.bytes)
                    }
                }
            }
        }
    }
    Ok(all)
}

/// What the owner's rules and defaults have decided.
pub fn rule_counts(owner: &str) -> FirewallResult<Vec<RuleCount>> {
    let mut all: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for rule in nft::rules(&policy_name(owner))? {
        if let (Some(comment), Some(count)) = (rule.comment, rule.count) {
            let sum = all.entry((rule.chain, comment)).or_default();
            *sum = (sum.0 + count.packets, sum.1 + count.bytes);
        }
    }
    let one = |((chain, rule), (packets, bytes))| RuleCount { chain, rule, packets, bytes };
    Ok(all.into_iter().map(one).collect())
}

/// Whether the owner's tables are there. It costs microseconds and says nothing of what they hold.
pub fn is_in_place(owner: &str) -> FirewallResult<bool> {
    for name in all_names(owner) {
        if !exists(&name)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the kernel has as many rules in every chain as the plan asks for, and the same guests'
/// addresses: what a look at all of it can tell without a program.
pub fn matches(owned: &Owned, plan: &Plan) -> FirewallResult<bool> {
    let owner = owned.owner.as_str();
    if !is_in_place(owner)? {
        return Ok(false);
    }
    let tables =
        [policy_table(owner, plan, &owned.strangers), ports::routing_table(owner, plan, &macs(plan))];
    for table in tables {
        let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
        for chain in table.chains.iter().filter(|chain| !chain.rules.is_empty()) {
            wanted.insert(chain.name.clone(), chain.rules.len());
        }
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for rule in nft::rules(&table.name)? {
            *found.entry(rule.chain).or_default() += 1;
        }
        if wanted != found {
            return Ok(false);
        }
        for set in &table.sets {
            let own = table.elements.iter().filter(|(name, _)| *name == set.name).flat_map(|(_, all)| all);
            let wanted: BTreeSet<&[u8]> = own.map(|e| e.key.as_slice()).collect();
            let Some(found) = nft::elements(&table.name, &set.name)? else { return Ok(false) };
            if wanted != found.iter().map(|f| f.key.as_slice()).collect() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Puts the plan in place where it is not. Returns whether anything had to be done; blocks are to be
/// told again then, for they may be gone too.
pub fn repair(owned: &Owned, plan: &Plan) -> FirewallResult<bool> {
    owned.check(plan)?;
    if matches(owned, plan)? {
        return Ok(false);
    }
    apply_all(owned, plan)?;
    Ok(true)
}

/// Removes everything of the owner's.
pub fn remove_all(owner: &str) -> FirewallResult<()> {
    let mut batch = Batch::new();
    all_names(owner).iter().for_each(|name| batch.remove(name));
    Ok(batch.commit()?)
}

fn exists(table: &TableName) -> FirewallResult<bool> {
    let family = match table.family {
        Family::Inet => nftables::types::NfFamily::INet,
        Family::Bridge => nftables::types::NfFamily::Bridge,
    };
    Ok(nft::table_exists(family, &table.name)?)
}

/// Commits what `make` has found to be necessary, and finds out again where the kernel's rules have
/// changed in between, or an element has gone by itself.
fn retried(mut make: impl FnMut(u32) -> FirewallResult<Batch>) -> FirewallResult<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        let made = make(nft::generation()?)?;
        match made.commit() {
            Err(e)
                if (e.is_stale() && tries < TRIES)
                    || (e.errno() == Some(libc::ENOENT) && tries < TRIES_GONE) =>
            {
                tracing::debug!(tries, "the kernel's rules have changed meanwhile");
            }
            other => return Ok(other?),
        }
    }
}
