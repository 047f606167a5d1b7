//! The firewall: a policy in the database, put into the kernel by the broker whenever either changes.

mod about;
mod ask;
mod behind;
mod blocks;
mod confirm;
mod copy;
mod edit;
mod hooks;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use ask::{Asked, RuleRow, check, export, forwards, rules, trace, traffic};
use behind::locked;
pub use behind::{Note, catch_up, expect};
pub use blocks::{BlockRow, BlockWish, block, blocks, unblock};
pub use confirm::{Applied, apply, confirm, roll_back_due};
pub use copy::restore;
pub use edit::{
    Position, add_forward, add_rule, add_to_set, create_group, create_set, delete_group, delete_set,
    join_group, leave_group, remove_forward, remove_from_set, remove_rule, set_defaults,
};
pub use hooks::repair;
pub(super) use hooks::{apply as apply_all, changed, forget, rename};

use super::context::App;
use super::error::{AppError, AppResult};
use super::launch::now;
use crate::host::broker::BrokerError;
use crate::model::container::{Container, Phase};
use crate::model::firewall::block::KernelBlock;
use crate::model::firewall::operator::{SshConnection, shut_out};
use crate::model::firewall::{Block, Change, Facts, Member, Plan, Policy, duration};
use crate::model::name::{ContainerId, Name};
use crate::model::nic::Nic;

/// What the operator said besides the change itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caution {
    /// The connection over which the operator works here.
    pub ssh: Option<SshConnection>,
    /// Not to ask whether that would be cut.
    pub force: bool,
}

/// Without what is being deleted: the kernel may have forgotten it, and nobody would have it do so again.
fn facts(app: &App) -> AppResult<Facts> {
    facts_with(app, None)
}

/// The same with one container that is.
fn facts_with(app: &App, deleted: Option<&ContainerId>) -> AppResult<Facts> {
    let mut containers = app.store.containers()?;
    containers.retain(|c| c.phase != Phase::Deleting || Some(&c.id) == deleted);
    let containers = containers.into_iter().map(|container| member(app, container)).collect();
    Ok(Facts { networks: app.store.networks()?, containers })
}

fn member(app: &App, container: Container) -> Member {
    let link = |nic: &Nic| (app.instance.host_link(&container.id, nic.slot), nic.clone());
    Member { nics: container.nics.iter().map(link).collect(), id: container.id, name: container.name }
}

/// Has packets between neighbours meet the blocks that are about them.
fn routed(mut plan: Plan, blocks: &[Block]) -> Plan {
    let each = blocks.iter().map(|block| (block.address, block.container.as_ref().map(Name::as_str)));
    plan.route_for_blocks(each);
    plan
}

/// What the kernel is to have.
fn wanted(app: &App) -> AppResult<Plan> {
    let blocks = app.store.blocks(now())?;
    Ok(routed(Plan::of_stored(&app.store.policy()?, &facts(app)?), &blocks))
}

/// Changes the policy as `edit` says, all of it or nothing.
fn change<T>(
    app: &mut App,
    caution: &Caution,
    edit: impl FnOnce(&mut Policy) -> AppResult<T>,
) -> AppResult<T> {
    let _lock = locked(app)?;
    check_confirmed(app)?;
    let old = app.store.policy()?;
    let mut new = old.clone();
    let done = edit(&mut new)?;
    install(app, &old, &new.tidied(), caution, None)?;
    Ok(done)
}

/// The same where `edit` changes only what is said of one container: no more is looked at than concerns
/// it, however many others there are.
fn change_about<T>(
    app: &mut App,
    caution: &Caution,
    container: &str,
    edit: impl FnOnce(&mut Policy) -> AppResult<T>,
) -> AppResult<T> {
    let _lock = locked(app)?;
    check_confirmed(app)?;
    let old = app.store.policy_about(container)?;
    let mut new = old.clone();
    let done = edit(&mut new)?;
    let new = new.tidied();
    if about::install(app, &old, &new, caution, container)? {
        return Ok(done);
    }
    let old = app.store.policy()?;
    let mut all = old.clone();
    all.forget(container);
    all.join(new.parts().remove(container).unwrap_or_default());
    install(app, &old, &all, caution, None)?;
    Ok(done)
}

fn check_confirmed(app: &App) -> AppResult<()> {
    let Some(pending) = app.store.pending_policy()? else { return Ok(()) };
    let left = pending.deadline.saturating_sub(now()).max(0).unsigned_abs();
    Err(AppError::Unconfirmed(duration::text(left)))
}

/// Stores the new policy, to be confirmed before `deadline` if there is one, and puts it in place.
fn install(
    app: &mut App,
    old: &Policy,
    new: &Policy,
    caution: &Caution,
    deadline: Option<i64>,
) -> AppResult<()> {
    check_forwards(app, old, new)?;
    let (facts, blocks) = (facts(app)?, app.store.blocks(now())?);
    let after = routed(Plan::of(new, &facts)?, &blocks);
    let before = routed(Plan::of_stored(old, &facts), &blocks);
    check_way_in(caution, (&before, old), (&after, new), &blocks)?;
    match deadline {
        Some(deadline) => app.store.try_policy(new, deadline)?,
        None => app.store.set_policy(new)?,
    }
    if let Err(e) = push(app, &before, &after) {
        // The kernel has made nothing of it, or all.
        app.store.set_policy(old)?;
        return Err(e);
    }
    copy::keep(app, old, if deadline.is_some() { old } else { new });
    Ok(())
}

/// The operator is not to be shut out by what does not shut out yet.
fn check_way_in(
    caution: &Caution,
    (before, old): (&Plan, &Policy),
    (after, new): (&Plan, &Policy),
    blocks: &[Block],
) -> AppResult<()> {
    if let Some(ssh) = caution.ssh.as_ref().filter(|_| !caution.force)
        && let Some(why) = shut_out(ssh, after, new, blocks)
        && shut_out(ssh, before, old, blocks).is_none()
    {
        return Err(AppError::ShutOut(why));
    }
    Ok(())
}

/// Refuses forwards to a private owner, who would have ports of an own network forwarded that nobody
/// reaches.
fn check_forwards(app: &App, old: &Policy, new: &Policy) -> AppResult<()> {
    match app.instance.is_private() && new.forwards.iter().any(|forward| !old.forwards.contains(forward)) {
        true => Err(AppError::Refused(
            "ports of the host cannot be forwarded to your containers without nagaya-hostd on it".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Brings the kernel from one plan to another.
fn push(app: &mut App, before: &Plan, after: &Plan) -> AppResult<()> {
    match Change::between(before, after) {
        Some(change) if change.is_empty() => Ok(()),
        Some(change) if in_place(app)? => {
            let told = app.broker.change_firewall(&change);
            heard(app, told)
        }
        _ => put(app, after, false),
    }
}

/// Puts a whole plan in place, with the blocks if they have to be told again.
fn put(app: &mut App, plan: &Plan, if_needed: bool) -> AppResult<()> {
    let told = app.broker.apply_firewall(plan, if_needed);
    let (anew, dropping) = heard(app, told)?;
    for place in dropping {
        tracing::warn!("{place} drops guests' traffic: see 'nagaya doctor'");
    }
    if anew && app.store.has_blocks()? {
        let blocks = app.store.blocks(now())?;
        // The next time their table is there, and nobody would tell them.
        tell_blocks(app, &blocks, &[]).inspect_err(|_| drop(behind::expect(app)))?;
    }
    Ok(())
}

/// Has the kernel block and unblock. The firewall is in place.
fn tell_blocks(app: &mut App, add: &[Block], remove: &[Block]) -> AppResult<()> {
    let facts = facts(app)?;
    let members: Vec<(ContainerId, Vec<IpAddr>)> = addressed(&facts, add);
    let id = |name: &Name| facts.containers.iter().find(|m| m.name == *name).map(|m| m.id.number());
    let now = now();
    let kernel = |block: &Block| {
        let container = match &block.container {
            None => None,
            Some(name) => Some(id(name)?),
        };
        // Those that end this very second are not worth a rule for good.
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
fn in_place(app: &mut App) -> AppResult<bool> {
    let told = app.broker.firewall_in_place();
    heard(app, told)
}

/// What the broker answers. One that is gone, or failed, may have told the kernel or not.
fn heard<T>(app: &App, answer: Result<T, BrokerError>) -> AppResult<T> {
    if let Err(BrokerError::Unreachable(_) | BrokerError::Failed(_)) = &answer {
        drop(behind::expect(app));
    }
    Ok(answer?)
}

/// Containers for which alone something is blocked, with the addresses at which the host sees them.
fn addressed(facts: &Facts, blocks: &[Block]) -> Vec<(ContainerId, Vec<IpAddr>)> {
    let alone: BTreeSet<&Name> = blocks.iter().filter_map(|block| block.container.as_ref()).collect();
    if alone.is_empty() {
        return Vec::new();
    }
    let plan = Plan::of_stored(&Policy::default(), facts);
    let own = plan.containers.into_iter().filter(|container| alone.contains(&container.name));
    own.map(|container| (container.id, container.addresses)).collect()
}
