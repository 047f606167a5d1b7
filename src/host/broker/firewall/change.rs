//! Changes of a firewall that is in place, piece by piece.

use std::net::IpAddr;

use super::bounds::MOST_ADDRESSES;
use super::check::Owned;
use super::error::{FirewallError, FirewallResult};
use super::look::is_in_place;
use super::names::{policy_name, traffic_names};
use super::retry::retried;
use super::{blocks, links};
use crate::model::firewall::Change;
use crate::model::firewall::plan::{ContainerPlan, NetworkPlan};
use crate::model::firewall::policy::Direction;
use crate::model::name::ContainerId;
use crate::render::nft::links::LINKS;
use crate::render::nft::table::{Chain, Element, TableName, address_of};
use crate::render::nft::{blocks as block_rules, filter, nat, owners as owner_rules, ports};
use crate::sys::net::nft::{self, Batch};

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

/// Groups and sets go last, when no rule refers to them any more.
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
    let names: Vec<_> = elements.iter().map(|e| (table.clone(), map.to_owned(), e.key.clone())).collect();
    for (element, found) in elements.iter().zip(nft::elements_named(&names)?) {
        let chain = found.and_then(|found| found.chain);
        if chain.is_some_and(|chain| chains.contains(&chain)) {
            batch.delete_elements(table, map, &[Element::new(element.key.clone())]);
        }
    }
    Ok(())
}

fn change_network(batch: &mut Batch, table: &TableName, network: &NetworkPlan) -> FirewallResult<()> {
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
        // Also addresses that the caller does not name, or there would be more and more of them.
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

/// Works without chains too: a chain that is added first can always be deleted.
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
        let mut sets = vec![(table, LINKS), (block_rules::table_name(owner), LINKS)];
        sets.push((TableName::bridge(owner), ports::ROUTED));
        let together = owner_rules::table_name(&owned.instance);
        let own_set = owner_rules::own_set(owner).name;
        let of_owners = [own_set, owner_rules::ALL.to_owned(), owner_rules::OWNERS.to_owned()];
        sets.extend(of_owners.iter().map(|set| (together.clone(), set.as_str())));
        let counts = |t: TableName| [(t.clone(), ports::SENT), (t, ports::RECEIVED)];
        sets.extend(traffic_names(owner).into_iter().flat_map(counts));
        let of_set = |(table, set): &(TableName, &str)| -> Vec<nft::ElementName> {
            links.iter().map(|link| (table.clone(), (*set).to_owned(), Element::link(link).key)).collect()
        };
        let names: Vec<_> = sets.iter().flat_map(of_set).collect();
        let found = nft::elements_named(&names)?;
        for ((table, set, key), _) in names.into_iter().zip(found).filter(|(_, found)| found.is_some()) {
            batch.delete_elements(&table, &set, &[Element::new(key)]);
        }
        Ok(batch)
    })
}
