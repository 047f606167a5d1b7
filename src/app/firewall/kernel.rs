//! The kernel is told, by way of the broker.

use std::net::IpAddr;

use super::facts::{addressed, facts};
use super::note;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::host::client::BrokerError;
use crate::model::firewall::block::KernelBlock;
use crate::model::firewall::{Block, Change, Plan};
use crate::model::name::{ContainerId, Name};
use crate::sys::kernel::clock::now;

/// Brings the kernel from one plan to another.
pub(super) fn push(app: &mut App, before: &Plan, after: &Plan) -> AppResult<()> {
    match Change::between(before, after) {
        Some(change) if change.is_empty() => Ok(()),
        Some(change) if in_place(app)? => {
            let told = app.broker.change_firewall(&change);
            heard(app, told)
        }
        _ => put(app, after, false),
    }
}

/// Puts a whole plan in place, and the blocks too if they have to be sent again.
pub(super) fn put(app: &mut App, plan: &Plan, if_needed: bool) -> AppResult<()> {
    let told = app.broker.apply_firewall(plan, if_needed);
    let (anew, dropping) = heard(app, told)?;
    for place in dropping {
        tracing::warn!("{place} drops guests' traffic: see 'nagaya doctor'");
    }
    if anew && app.store.has_blocks()? {
        let blocks = app.store.blocks(now())?;
        // The next time the table exists, so without a note nobody would send the blocks.
        tell_blocks(app, &blocks, &[]).inspect_err(|_| drop(note::expect(app)))?;
    }
    Ok(())
}

/// Makes the kernel block and unblock. The firewall is in place.
pub(super) fn tell_blocks(app: &mut App, add: &[Block], remove: &[Block]) -> AppResult<()> {
    let facts = facts(app)?;
    let members: Vec<(ContainerId, Vec<IpAddr>)> = addressed(&facts, add);
    let id = |name: &Name| facts.containers.iter().find(|m| m.name == *name).map(|m| m.id.number());
    let now = now();
    let kernel = |block: &Block| {
        let container = match &block.container {
            None => None,
            Some(name) => Some(id(name)?),
        };
        // A block that ends within this second must not become one without an end.
        let seconds = match block.until {
            None => 0,
            Some(until) => until.saturating_sub(now).max(1).unsigned_abs(),
        };
        Some(KernelBlock { address: block.address, container, seconds })
    };
    let list = |blocks: &[Block]| blocks.iter().filter_map(kernel).collect::<Vec<_>>();
    let told = app.broker.block(&list(add), &list(remove), &members);
    heard(app, told)
}

/// Whether the owner's tables are there.
pub(super) fn in_place(app: &mut App) -> AppResult<bool> {
    let told = app.broker.firewall_in_place();
    heard(app, told)
}

/// The broker's answer. If the broker is gone or failed, nobody knows whether it told the kernel.
pub(super) fn heard<T>(app: &App, answer: Result<T, BrokerError>) -> AppResult<T> {
    if let Err(BrokerError::Unreachable(_) | BrokerError::Failed(_)) = &answer {
        drop(note::expect(app));
    }
    Ok(answer?)
}
