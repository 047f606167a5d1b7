//! Blocked addresses in the kernel.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::bounds::MOST_ADDRESSES;
use super::check::Owned;
use super::error::{FirewallError, FirewallResult};
use super::retry::tried;
use crate::model::firewall::block::{Hits, KernelBlock};
use crate::model::firewall::plan::ContainerPlan;
use crate::model::firewall::policy::Direction;
use crate::model::name::ContainerId;
use crate::render::nft::blocks::{self as rules, BlockSet};
use crate::render::nft::table::{Chain, Element, TableName, address_of};
use crate::sys::net::nft::{self, Batch, FoundSet};

/// Blocks of one owner.
const MOST: usize = 1_000_000;
/// The same of an ordinary user: so many are looked over within a second.
const MOST_OF_USERS: usize = 32_768;
/// Sets of an ordinary user: one for each prefix length, and those of single containers.
const MOST_SETS_OF_USERS: usize = 512;
/// Up to this number, the kernel is asked for each element by itself.
const FEW: usize = 1000;

/// What is to be blocked and what no longer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockOrder {
    /// Blocks that exist already begin anew, for the time given here.
    pub add: Vec<KernelBlock>,
    /// A block that does not exist is no error.
    pub remove: Vec<KernelBlock>,
    /// The addresses of all containers for which alone something is added.
    pub members: Vec<(ContainerId, Vec<IpAddr>)>,
}

/// Carries the order out in one transaction, however large it is. Nobody else works on this owner's
/// firewall meanwhile; what others change in theirs does not matter here, and does not have it begun
/// again.
///
/// # Errors
/// `NotInPlace` where the owner's tables are not there.
pub fn block(owned: &Owned, order: &BlockOrder) -> FirewallResult<()> {
    check(owned, order)?;
    let table = rules::table_name(&owned.owner);
    let add: BTreeMap<_, _> = order.add.iter().map(|b| ((b.address, b.container), *b)).collect();
    tried(|| {
        if !nft::has_table(&table)? {
            return Err(FirewallError::NotInPlace);
        }
        let mut batch = Batch::new();
        let there = there(&table)?;
        let before: BTreeSet<BlockSet> = there.keys().cloned().collect();
        let after: BTreeSet<_> = before.union(&rules::sets_of(&order.add)).cloned().collect();
        check_room(owned, &table, &there, &after, &add)?;
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
        for set in known {
            let of_set = |block: &&KernelBlock| BlockSet::of(block) == *set;
            drop_blocks(&mut batch, &table, set, order.add.iter().chain(&order.remove).filter(of_set))?;
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

/// Whether the owner may have these blocks besides the existing ones.
fn check_room(
    owned: &Owned,
    table: &TableName,
    there: &BTreeMap<BlockSet, FoundSet>,
    after: &BTreeSet<BlockSet>,
    add: &BTreeMap<(IpNetwork, Option<u32>), KernelBlock>,
) -> FirewallResult<()> {
    let refused = |what: String| Err(FirewallError::Refused(what));
    if owned.bounds.is_some() && after.len() > MOST_SETS_OF_USERS {
        return refused(format!(
            "your blocks are of more than {MOST_SETS_OF_USERS} kinds: prefix lengths, each container's"
        ));
    }
    let most = most(owned);
    let mut count = 0;
    for set in there.values() {
        count += set.held(table)?;
    }
    if count + add.len() <= most {
        return Ok(());
    }
    // Most likely there are too many; but some may exist already, and some may just have expired.
    let mut count = 0;
    let mut again = 0;
    for set in there.keys() {
        let found = nft::elements(table, &set.name())?.unwrap_or_default();
        let keys: HashSet<Vec<u8>> = found.into_iter().map(|found| found.key).collect();
        let of_set = add.values().filter(|block| BlockSet::of(block) == *set);
        again += of_set.filter(|block| keys.contains(&rules::element(block).key)).count();
        count += keys.len();
    }
    match count - again + add.len() > most {
        true => refused(format!(
            "{} blocks are more than the {most} that you can have",
            count - again + add.len()
        )),
        false => Ok(()),
    }
}

fn most(owned: &Owned) -> usize {
    if owned.bounds.is_some() { MOST_OF_USERS } else { MOST }
}

fn check(owned: &Owned, order: &BlockOrder) -> FirewallResult<()> {
    let refused = |what: String| Err(FirewallError::Refused(what));
    let most = most(owned);
    if order.add.len() > most || order.remove.len() > most {
        return refused(format!("more than {most} blocks at once"));
    }
    if let Some(bounds) = owned.bounds.filter(|bounds| order.members.len() > bounds.containers) {
        return refused(format!("more than {} containers", bounds.containers));
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
    if order.members.iter().any(|(_, addresses)| addresses.len() > MOST_ADDRESSES) {
        return refused(format!("a container has more than {MOST_ADDRESSES} addresses"));
    }
    for ip in order.members.iter().flat_map(|(_, addresses)| addresses) {
        owned.check_guest(*ip)?;
        if !seen.insert(*ip) {
            return refused(format!("two containers have the address {ip}"));
        }
    }
    Ok(())
}

fn there(table: &TableName) -> FirewallResult<BTreeMap<BlockSet, FoundSet>> {
    let found = nft::sets(table)?.into_iter();
    Ok(found.filter_map(|found| Some((BlockSet::parse(&found.name)?, found))).collect())
}

fn sets(table: &TableName) -> FirewallResult<BTreeSet<BlockSet>> {
    Ok(there(table)?.into_keys().collect())
}

/// Removes those of `blocks` that the set holds. If there are many, the kernel is not asked which it holds:
/// an element that is added first can always be deleted.
fn drop_blocks<'a>(
    batch: &mut Batch,
    table: &TableName,
    set: &BlockSet,
    blocks: impl Iterator<Item = &'a KernelBlock>,
) -> FirewallResult<()> {
    let keys: BTreeSet<Vec<u8>> = blocks.map(|block| rules::element(block).key).collect();
    let name = set.name();
    let is_few = keys.len() <= FEW;
    let mut gone: Vec<Element> = keys.into_iter().map(Element::new).collect();
    if is_few {
        let names: Vec<_> = gone.iter().map(|e| (table.clone(), name.clone(), e.key.clone())).collect();
        let mut found = nft::elements_named(&names)?.into_iter();
        gone.retain(|_| found.next().flatten().is_some());
    } else {
        batch.add_elements(table, &name, &gone);
    }
    batch.delete_elements(table, &name, &gone);
    Ok(())
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
pub fn readdress(batch: &mut Batch, owner: &str, container: &ContainerPlan) -> FirewallResult<()> {
    let table = rules::table_name(owner);
    match sets(&table)?.iter().any(|set| set.container.as_ref() == Some(&container.id)) {
        true => address(batch, &table, &container.id, &container.addresses),
        false => Ok(()),
    }
}

/// Takes everything back that is blocked for one container alone.
pub fn forget(batch: &mut Batch, owner: &str, id: &ContainerId) -> FirewallResult<()> {
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

/// The hits of those of the owner's blocks that have any.
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
    IpNetwork::new(address_of(key)?, prefix).ok()
}
