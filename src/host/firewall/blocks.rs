//! Blocked addresses in the kernel.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::{FirewallError, FirewallResult, Owned, retried};
use crate::model::firewall::block::{Hits, KernelBlock};
use crate::model::firewall::plan::ContainerPlan;
use crate::model::firewall::policy::Direction;
use crate::model::name::ContainerId;
use crate::render::nft::blocks::{self as rules, BlockSet};
use crate::render::nft::table::{Chain, Element, TableName};
use crate::sys::nft::{self, Batch};

/// Blocks of one owner at once.
const MOST: usize = 1_000_000;
/// Up to so many, the kernel is asked for each by itself whether it has it.
const FEW: usize = 1000;

/// What is to be blocked and what no longer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockOrder {
    /// Those that are there already hold anew, as long as it says here.
    pub add: Vec<KernelBlock>,
    /// That one is not there, or no longer, is fine.
    pub remove: Vec<KernelBlock>,
    /// The addresses of all containers for which alone something is added.
    pub members: Vec<(ContainerId, Vec<IpAddr>)>,
}

/// Carries the order out in one transaction, however large it is.
///
/// # Errors
/// `NotInPlace` where the owner's tables are not there.
pub fn block(owned: &Owned, order: &BlockOrder) -> FirewallResult<()> {
    check(owned, order)?;
    let table = rules::table_name(&owned.owner);
    retried(|generation| {
        if !nft::has_table(&table)? {
            return Err(FirewallError::NotInPlace);
        }
        let mut batch = Batch::new().only_at(generation);
        let before = sets(&table)?;
        let after: BTreeSet<_> = before.union(&rules::sets_of(&order.add)).cloned().collect();
        let (known, new): (Vec<_>, Vec<_>) = after.iter().partition(|set| before.contains(set));
        for set in &new {
            batch.add_set(&table, &set.set());
        }
        let touched: BTreeSet<_> = new.iter().map(|set| set.container.clone()).collect();
        let all: Vec<BlockSet> = after.iter().cloned().collect();
        for container in &touched {
            put_rules(&mut batch, &table, container.as_ref(), &all);
        }
        let alone: BTreeSet<_> = after.iter().filter_map(|set| set.container.as_ref()).collect();
        for (id, addresses) in order.members.iter().filter(|(id, _)| alone.contains(id)) {
            address(&mut batch, &table, id, addresses)?;
        }
        let add: BTreeMap<_, _> = order.add.iter().map(|b| ((b.address, b.container), *b)).collect();
        for set in known {
            let of_set = |block: &&KernelBlock| BlockSet::of(block) == *set;
            let gone = order.add.iter().chain(&order.remove).filter(of_set);
            let gone = held(&table, set, gone)?;
            batch.delete_elements(&table, &set.name(), &gone);
        }
        let mut by_set: BTreeMap<String, Vec<Element>> = BTreeMap::new();
        for block in add.values() {
            by_set.entry(BlockSet::of(block).name()).or_default().push(rules::element(block));
        }
        for (set, elements) in &by_set {
            batch.add_elements(&table, set, elements);
        }
        Ok(batch)
    })
}

fn check(owned: &Owned, order: &BlockOrder) -> FirewallResult<()> {
    let refused = |what: String| Err(FirewallError::Refused(what));
    if order.add.len() > MOST || order.remove.len() > MOST {
        return refused(format!("more than {MOST} blocks at once"));
    }
    let all = || order.add.iter().chain(&order.remove);
    if let Some(block) = all().find(|block| block.address.prefix() == 0) {
        return refused(format!("{} is everybody", block.address));
    }
    if let Some(block) = all().find(|block| block.address.network() != block.address.ip()) {
        return refused(format!("{} has bits behind its prefix", block.address));
    }
    let members: BTreeSet<&ContainerId> = order.members.iter().map(|(id, _)| id).collect();
    let alone = order.add.iter().filter_map(KernelBlock::id).find(|id| !members.contains(id));
    if let Some(id) = alone {
        return refused(format!("the addresses of container {id} are not said"));
    }
    let mut seen = BTreeSet::new();
    for ip in order.members.iter().flat_map(|(_, addresses)| addresses) {
        owned.check_guest(*ip)?;
        if !seen.insert(*ip) {
            return refused(format!("two containers have the address {ip}"));
        }
    }
    Ok(())
}

fn sets(table: &TableName) -> FirewallResult<BTreeSet<BlockSet>> {
    Ok(nft::sets(table)?.iter().filter_map(|name| BlockSet::parse(name)).collect())
}

/// Those of `blocks` that the set holds, each once.
fn held<'a>(
    table: &TableName,
    set: &BlockSet,
    blocks: impl Iterator<Item = &'a KernelBlock>,
) -> FirewallResult<Vec<Element>> {
    let keys: BTreeSet<Vec<u8>> = blocks.map(|block| rules::element(block).key).collect();
    let name = set.name();
    let mut found = Vec::new();
    if keys.len() <= FEW {
        for key in keys {
            if nft::element(table, &name, &key)?.is_some() {
                found.push(Element::new(key));
            }
        }
        return Ok(found);
    }
    let there: HashSet<Vec<u8>> =
        nft::elements(table, &name)?.unwrap_or_default().into_iter().map(|f| f.key).collect();
    Ok(keys.into_iter().filter(|key| there.contains(key)).map(Element::new).collect())
}

fn put_rules(batch: &mut Batch, table: &TableName, container: Option<&ContainerId>, sets: &[BlockSet]) {
    for direction in Direction::BOTH {
        let chain = Chain::new(
            rules::side_chain(container, direction),
            rules::side_rules(container, direction, sets),
        );
        batch.put_chain(table, &chain);
    }
}

/// Has a container's packets, known by these addresses, pass what is blocked for it alone.
fn address(
    batch: &mut Batch,
    table: &TableName,
    id: &ContainerId,
    addresses: &[IpAddr],
) -> FirewallResult<()> {
    let wanted = rules::own_elements(id, addresses);
    for direction in Direction::BOTH {
        let chain = rules::side_chain(Some(id), direction);
        for v4 in [true, false] {
            let map = rules::own_map(direction, v4);
            let found = nft::elements(table, map)?.unwrap_or_default();
            let own = found.iter().filter(|f| f.chain.as_deref() == Some(chain.as_str()));
            let gone: Vec<_> = own.map(|f| Element::new(f.key.clone())).collect();
            batch.delete_elements(table, map, &gone);
        }
    }
    wanted.iter().for_each(|(map, elements)| batch.add_elements(table, map, elements));
    Ok(())
}

/// The same for one whose addresses have changed, if anything is blocked for it alone.
pub(super) fn readdress(batch: &mut Batch, owner: &str, container: &ContainerPlan) -> FirewallResult<()> {
    let table = rules::table_name(owner);
    match sets(&table)?.iter().any(|set| set.container.as_ref() == Some(&container.id)) {
        true => address(batch, &table, &container.id, &container.addresses),
        false => Ok(()),
    }
}

/// Takes everything back that is blocked for one container alone.
pub(super) fn forget(batch: &mut Batch, owner: &str, id: &ContainerId) -> FirewallResult<()> {
    let table = rules::table_name(owner);
    let own: Vec<_> = sets(&table)?.into_iter().filter(|set| set.container.as_ref() == Some(id)).collect();
    if own.is_empty() {
        return Ok(());
    }
    address(batch, &table, id, &[])?;
    for direction in Direction::BOTH {
        batch.delete_chain(&table, &rules::side_chain(Some(id), direction));
    }
    own.iter().for_each(|set| batch.delete_set(&table, &set.name()));
    Ok(())
}

/// What the owner's blocks have kept off, of those that have kept off anything.
pub fn block_hits(owner: &str) -> FirewallResult<Vec<Hits>> {
    let table = rules::table_name(owner);
    let mut hits = Vec::new();
    for set in sets(&table)? {
        for found in nft::elements(&table, &set.name())?.unwrap_or_default() {
            let count = found.count.unwrap_or_default();
            if let (1.., Some(address)) = (count.packets, network(&found.key, set.prefix)) {
                let container = set.container.clone();
                hits.push(Hits { address, container, packets: count.packets, bytes: count.bytes });
            }
        }
    }
    Ok(hits)
}

fn network(key: &[u8], prefix: u8) -> Option<IpNetwork> {
    let ip = match key.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(key).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(key).ok()?)),
    };
    IpNetwork::new(ip, prefix).ok()
}
