//! Owners' firewalls: plans, which the broker's callers send and which are therefore checked again,
//! put into the kernel. One owner has the tables
//!
//! - `inet OWNER`: policy and translated addresses,
//! - `inet OWNER-blocks`: blocked addresses,
//! - `bridge OWNER`: what leads packets between neighbours through the host,
//! - `bridge OWNER-traffic` and `inet OWNER-traffic`: counts of what passed each link,
//!
//! and a part in `inet INSTANCE-owners`, by which owners are kept from one another.

mod blocks;
mod bounds;
mod check;
mod forwards;
mod links;
mod look;
mod owners;
#[cfg(test)]
mod packet_tests;

use std::net::IpAddr;

pub use blocks::{BlockOrder, block, block_hits};
pub use bounds::{Bounds, MOST_ADDRESSES};
pub use check::{Owned, Ports};
pub use forwards::leads_to;
pub use links::add_links;
pub use look::{is_in_place, matches, rule_counts, traffic};

pub use crate::model::firewall::traffic::{RuleCount, Traffic};

use crate::model::firewall::plan::{ContainerPlan, Plan};
use crate::model::firewall::policy::Direction;
use crate::model::firewall::{Change, plan};
use crate::model::name::ContainerId;
use crate::render::nft::blocks as block_rules;
use crate::render::nft::nat;
use crate::render::nft::owners as owner_rules;
use crate::render::nft::policy_table;
use crate::render::nft::ports;
use crate::render::nft::table::{Chain, Element, TableName, address_of};
use crate::render::nft::{filter, phrases};
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
/// Returns whether the table of blocks was made anew, so that they have to be told again.
pub fn apply_all(owned: &Owned, plan: &Plan) -> FirewallResult<bool> {
    owned.check(plan)?;
    let owner = owned.owner.as_str();
    let mut anew = false;
    retried(|generation| {
        let mut batch = Batch::new().only_at(generation);
        owners::join(&mut batch, owned, plan)?;
        batch.replace(&policy_table(owner, plan));
        batch.replace(&ports::routing_table(owner, plan, &links::macs(plan)));
        links::prune(&mut batch, owned, &links::names(&plan.containers), true)?;
        for table in ports::traffic_tables(owner, plan) {
            match nft::has_table(&table.name)? {
                false => batch.add(&table),
                true => {
                    table.elements.iter().for_each(|(set, all)| batch.add_elements(&table.name, set, all))
                }
            }
        }
        let blocks = block_rules::table(owner, plan);
        anew = !nft::has_table(&blocks.name)?;
        match !anew {
            false => batch.add(&blocks),
            true => {
                for (set, elements) in &blocks.elements {
                    batch.flush_set(&blocks.name, set);
                    batch.add_elements(&blocks.name, set, elements);
                }
            }
        }
        Ok(batch)
    })?;
    Ok(anew)
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
        if !is_in_place(&owned.instance, owner)? {
            return Err(FirewallError::NotInPlace);
        }
        if let Some(bounds) = owned.bounds {
            bounds.check_kept(owner, change)?;
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
        links::prune(&mut batch, owned, &links::names(&change.containers), false)?;
        let former = |id: &ContainerId| {
            change.former.iter().filter(|(of, _)| of == id).flat_map(|(_, ips)| ips.clone()).collect()
        };
        for container in &change.containers {
            change_container(&mut batch, owned, container, former(&container.id))?;
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
    owned: &Owned,
    container: &ContainerPlan,
    mut addresses: Vec<IpAddr>,
) -> FirewallResult<()> {
    let owner = owned.owner.as_str();
    let table = policy_name(owner);
    addresses
        .extend(container.addresses.iter().filter(|ip| !addresses.contains(ip)).copied().collect::<Vec<_>>());
    if owned.bounds.is_some() {
        // Also those that the caller does not speak of, or there would be ever more.
        addresses = known_addresses(&table, &container.id, addresses)?;
    }
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
    links::add_elements(batch, owned, &container.links)?;
    blocks::readdress(batch, owner, container)
}

/// `addresses`, and all others by which the kernel knows the container.
fn known_addresses(
    table: &TableName,
    id: &ContainerId,
    mut addresses: Vec<IpAddr>,
) -> FirewallResult<Vec<IpAddr>> {
    for direction in Direction::BOTH {
        let chain = filter::container_chain(id, direction);
        for v4 in [true, false] {
            let found = nft::elements(table, filter::address_map(direction, v4))?.unwrap_or_default();
            let own = found.iter().filter(|found| found.chain.as_deref() == Some(chain.as_str()));
            for ip in own.filter_map(|found| address_of(&found.key)) {
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
            }
        }
    }
    Ok(addresses)
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
    if addresses.len() > MOST_ADDRESSES {
        return Err(FirewallError::Refused(format!("a container has at most {MOST_ADDRESSES} addresses")));
    }
    let owner = owned.owner.as_str();
    retried(|generation| {
        let mut batch = Batch::new().only_at(generation);
        let table = policy_name(owner);
        if nft::has_table(&table)? {
            drop_container(&mut batch, owner, id, addresses.to_vec())?;
        }
        let mut sets = vec![(table, phrases::LINKS), (block_rules::table_name(owner), phrases::LINKS)];
        sets.push((TableName::bridge(owner), ports::ROUTED));
        let together = owner_rules::table_name(&owned.instance);
        let own_set = owner_rules::own_set(owner).name;
        let of_owners = [own_set, owner_rules::ALL.to_owned(), owner_rules::OWNERS.to_owned()];
        sets.extend(of_owners.iter().map(|set| (together.clone(), set.as_str())));
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

/// Puts the plan in place where it is not. Returns whether that had to be done.
pub fn repair(owned: &Owned, plan: &Plan) -> FirewallResult<bool> {
    owned.check(plan)?;
    if matches(owned, plan)? {
        return Ok(false);
    }
    apply_all(owned, plan)?;
    Ok(true)
}

/// Removes everything of the owner's.
pub fn remove_all(instance: &str, owner: &str) -> FirewallResult<()> {
    retried(|generation| {
        let mut batch = Batch::new().only_at(generation);
        all_names(owner).iter().for_each(|name| batch.remove(name));
        owners::leave(&mut batch, instance, owner)?;
        Ok(batch)
    })
}

/// Commits what `make` has found to be necessary, and finds out again where the kernel's rules have
/// changed in between, or an element has gone by itself.
fn retried(mut make: impl FnMut(u32) -> FirewallResult<Batch>) -> FirewallResult<()> {
    tried(|| make(nft::generation()?))
}

/// The same where what was looked at is nobody else's, so that the batch holds at any generation.
fn tried(mut make: impl FnMut() -> FirewallResult<Batch>) -> FirewallResult<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match make()?.commit() {
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
