//! What the rest of the program tells the firewall: containers that start, change, are renamed or go,
//! and networks that come and go.

use std::net::IpAddr;

use super::behind::locked;
use super::facts::{facts, facts_with, member, routed, wanted};
use super::kernel::{heard, in_place, push, put};
use super::{about, copy, note};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::host::client::BrokerError;
use crate::model::container::Container;
use crate::model::firewall::{Change, Plan, Policy};
use crate::model::name::Name;
use crate::model::nic::Nic;
use crate::sys::kernel::clock::now;

/// Puts the whole firewall in place, after networks have come, gone or changed.
pub fn apply(app: &mut App) -> AppResult<()> {
    let _lock = locked(app)?;
    let old = app.store.policy()?;
    let mut policy = old.clone();
    let networks = app.store.networks()?;
    policy.networks.retain(|name, _| networks.iter().any(|network| network.name == *name));
    if policy != old {
        app.store.amend_policy(&policy)?;
        copy::keep(app, &old, &policy);
    }
    let plan = wanted(app)?;
    put(app, &plan, false)
}

/// The same where anything of it is missing.
pub fn repair(app: &mut App) -> AppResult<()> {
    let _lock = locked(app)?;
    let plan = wanted(app)?;
    put(app, &plan, true)
}

/// A container's interfaces have changed; `before` are those that it had.
pub fn changed(app: &mut App, name: &Name, before: &[Nic]) -> AppResult<()> {
    let _lock = locked(app)?;
    let plan = wanted(app)?;
    let Some(container) = plan.container(name.as_str()) else { return Ok(()) };
    let former: Vec<IpAddr> = before.iter().flat_map(Nic::addresses).collect();
    let change = Change {
        containers: vec![container.clone()],
        former: vec![(container.id.clone(), former)],
        forwards: Some(plan.forwards.clone()),
        ..Change::default()
    };
    // If the firewall is not in place, the next start puts it there.
    if in_place(app)? {
        if Change::between(&with_nics(app, name, before)?, &plan).is_none() {
            // The change begins or ends routing on a network, which takes the whole plan.
            return put(app, &plan, false);
        }
        let told = app.broker.change_firewall(&change);
        heard(app, told)?;
    }
    Ok(())
}

/// The plan for the time when a container had these interfaces.
fn with_nics(app: &App, name: &Name, nics: &[Nic]) -> AppResult<Plan> {
    let (mut facts, blocks) = (facts(app)?, app.store.blocks(now())?);
    if let Some(found) = app.store.container(name)? {
        let former = member(app, Container { nics: nics.to_vec(), ..found });
        facts.containers.iter_mut().filter(|member| member.name == *name).for_each(|m| *m = former.clone());
    }
    Ok(routed(Plan::of_stored(&app.store.policy()?, &facts), &blocks))
}

/// Gives a container another name, and what the policy says of it with it.
pub fn rename(app: &mut App, container: &Container, to: &Name) -> AppResult<()> {
    let _lock = locked(app)?;
    let (old, from) = (app.store.policy()?, &container.name);
    // The container has the new name even if the kernel cannot be told.
    let (note, ()) = note::expect(app).of(app.store.rename(&container.id, to))?;
    let new = app.store.policy()?;
    if new == old {
        note.take_back();
        return Ok(());
    }
    copy::keep(app, &old, &new);
    let facts = facts(app)?;
    let mut former = facts.clone();
    for member in former.containers.iter_mut().filter(|member| member.name == *to) {
        member.name = from.clone();
    }
    let blocks = app.store.blocks(now())?;
    let before = routed(Plan::of_stored(&old, &former), &blocks);
    let after = routed(Plan::of_stored(&new, &facts), &blocks);
    push(app, &before, &after)?;
    note.take_back();
    Ok(())
}

/// Removes a container that is being deleted; the database still has it.
pub fn forget(app: &mut App, container: &Container) -> AppResult<()> {
    let _lock = locked(app)?;
    let name = container.name.as_str();
    let old = app.store.policy_about(name)?;
    let mut new = old.clone();
    new.forget(name);
    if new != old {
        let about = about::facts(app, name)?;
        let about = about.map(|facts| about::plans(app, &facts, &old, &new)).transpose()?.flatten();
        let (before, mut after) = match about {
            Some(plans) if new.forwards == old.forwards => plans,
            _ => {
                let (facts, blocks) = (facts_with(app, Some(&container.id))?, app.store.blocks(now())?);
                let all = app.store.policy()?;
                let mut rest = all.clone();
                rest.forget(name);
                let plan = |policy: &Policy| routed(Plan::of_stored(policy, &facts), &blocks);
                (plan(&all), plan(&rest))
            }
        };
        let (note, ()) = note::expect(app).of(app.store.set_policy_about(name, &new))?;
        copy::keep(app, &old, &new);
        // Neighbours' packets stay routed until the next plan, although no rule needs that any more:
        // otherwise the whole firewall would have to be made anew.
        for (before, after) in before.networks.iter().zip(&mut after.networks) {
            after.routed = before.routed;
        }
        let change = Change::between(&before, &after).filter(|change| !change.is_empty());
        if let Some(change) = change
            && in_place(app)?
        {
            let told = app.broker.change_firewall(&change);
            heard(app, told)?;
        }
        note.take_back();
    }
    // A killed command may have done only that.
    copy::drop(app, name);
    // What is left in the kernel is harmless.
    let addresses: Vec<IpAddr> = container.nics.iter().flat_map(Nic::addresses).collect();
    if !container.nics.is_empty()
        && let Err(e) = app.broker.forget_container(container.id.as_str(), &addresses)
    {
        // With another broker it may yet be done.
        if matches!(e, BrokerError::Unreachable(_)) {
            return Err(e.into());
        }
        tracing::warn!("the firewall still knows container '{}': {e}", container.name);
    }
    Ok(())
}
