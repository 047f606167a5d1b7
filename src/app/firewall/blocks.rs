//! Blocked addresses: stored, told to the kernel, and counted there.

use std::collections::HashMap;

use ipnetwork::IpNetwork;

use super::behind::locked;
use super::caution::Caution;
use super::facts::{facts, routed};
use super::kernel::{in_place, put, tell_blocks};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::host::client::BrokerError;
use crate::model::firewall::block::{Hits, check_reason};
use crate::model::firewall::operator::shut_out;
use crate::model::firewall::{Block, Plan};
use crate::model::name::{ContainerId, Name};
use crate::sys::kernel::clock::now;

/// What is to be blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockWish {
    pub addresses: Vec<IpNetwork>,
    /// None: for all containers.
    pub container: Option<Name>,
    /// How long; None: until it is taken back.
    pub seconds: Option<u64>,
    pub reason: Option<String>,
}

/// A block with its hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRow {
    pub block: Block,
    pub packets: u64,
    pub bytes: u64,
}

/// Blocks all of these addresses, and replaces existing blocks of them.
pub fn block(app: &mut App, caution: &Caution, wish: &BlockWish) -> AppResult<()> {
    if let Some(reason) = &wish.reason {
        check_reason(reason)?;
    }
    let id = wish.container.as_ref().map(|name| app.find(name)).transpose()?.map(|container| container.id);
    let _lock = locked(app)?;
    let created_at = now();
    let until = wish.seconds.map(|seconds| created_at.saturating_add_unsigned(seconds));
    let one = |address: &IpNetwork| Block {
        address: *address,
        container: wish.container.clone(),
        until,
        reason: wish.reason.clone(),
        created_at,
    };
    let new: Vec<Block> = wish.addresses.iter().map(one).collect();
    let before = app.store.blocks(created_at)?;
    check_way_in(app, caution, &before, &new)?;
    let keys = keys(&wish.addresses, id.as_ref());
    app.store.add_blocks(&keys, until, wish.reason.as_deref(), created_at)?;
    if let Err(e) = told(app, &before, &new) {
        // Nobody knows whether a broker that is gone has done it; the next command does it again.
        if !matches!(e, AppError::Broker(BrokerError::Unreachable(_))) {
            restore(app, &keys, &before)?;
        }
        return Err(e);
    }
    Ok(())
}

fn keys(addresses: &[IpNetwork], id: Option<&ContainerId>) -> Vec<(IpNetwork, Option<ContainerId>)> {
    addresses.iter().map(|address| (*address, id.cloned())).collect()
}

/// The stored blocks must be those that hold.
fn restore(app: &mut App, keys: &[(IpNetwork, Option<ContainerId>)], before: &[Block]) -> AppResult<()> {
    app.store.remove_blocks(keys)?;
    let containers = app.store.containers()?;
    let id = |name: &Name| containers.iter().find(|c| c.name == *name).map(|c| c.id.clone());
    for block in before {
        let container = block.container.as_ref().and_then(id);
        let key = (block.address, container);
        if keys.contains(&key) {
            app.store.add_blocks(&[key], block.until, block.reason.as_deref(), block.created_at)?;
        }
    }
    Ok(())
}

fn check_way_in(app: &App, caution: &Caution, before: &[Block], new: &[Block]) -> AppResult<()> {
    let Some(ssh) = caution.ssh.as_ref().filter(|_| !caution.force) else { return Ok(()) };
    let policy = app.store.policy()?;
    let plan = Plan::of_stored(&policy, &facts(app)?);
    match shut_out(ssh, &plan, &policy, new) {
        Some(why) if shut_out(ssh, &plan, &policy, before).is_none() => Err(AppError::ShutOut(why)),
        _ => Ok(()),
    }
}

/// First routes packets between neighbours, if they have to meet these blocks.
fn told(app: &mut App, before: &[Block], new: &[Block]) -> AppResult<()> {
    let stored = Plan::of_stored(&app.store.policy()?, &facts(app)?);
    let was = routed(stored.clone(), before);
    let is = routed(was.clone(), new);
    if was != is {
        put(app, &is, false)?;
    }
    match in_place(app)? {
        true => tell_blocks(app, new, &[]),
        // That tells the kernel everything that is stored.
        false => put(app, &is, false),
    }
}

/// Removes the blocks of these addresses; returns how many there were.
pub fn unblock(app: &mut App, addresses: &[IpNetwork], container: Option<&Name>) -> AppResult<usize> {
    let id = container.map(|name| app.find(name)).transpose()?.map(|container| container.id);
    let _lock = locked(app)?;
    let block = |address: &IpNetwork| Block {
        address: *address,
        container: container.cloned(),
        until: None,
        reason: None,
        created_at: 0,
    };
    let all: Vec<Block> = addresses.iter().map(block).collect();
    if in_place(app)? {
        tell_blocks(app, &[], &all)?;
    }
    // This comes last: if this command dies before, the kernel is told the stored blocks again, and none is
    // lost.
    Ok(app.store.remove_blocks(&keys(addresses, id.as_ref()))?)
}

/// The blocks that hold, by address.
pub fn blocks(app: &mut App) -> AppResult<Vec<BlockRow>> {
    let blocks = app.store.blocks(now())?;
    if blocks.is_empty() {
        return Ok(Vec::new());
    }
    let containers = app.store.containers()?;
    let name = |id: &ContainerId| containers.iter().find(|c| c.id == *id).map(|c| c.name.clone());
    let hits: Vec<Hits> = app.broker.block_hits()?;
    let counted: HashMap<(IpNetwork, Option<Name>), (u64, u64)> = hits
        .into_iter()
        .map(|hit| ((hit.address, hit.container.as_ref().and_then(name)), (hit.packets, hit.bytes)))
        .collect();
    let row = |block: Block| {
        let key = (block.address, block.container.clone());
        let (packets, bytes) = counted.get(&key).copied().unwrap_or_default();
        BlockRow { block, packets, bytes }
    };
    Ok(blocks.into_iter().map(row).collect())
}
