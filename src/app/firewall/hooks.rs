//! What the rest of the program tells the firewall: containers that start, change, are renamed or go,
//! and networks that come and go.

use std::net::IpAddr;

use super::super::context::App;
use super::super::error::AppResult;
use super::super::launch::now;
use super::super::lock;
use super::{facts, push, put, routed, wanted};
use crate::model::container::Container;
use crate::model::firewall::{Change, Plan};
use crate::model::name::Name;
use crate::model::nic::Nic;

/// Before a container starts, when its bridges are there: sees to it that the firewall is in place and
/// knows its links.
pub fn ready(app: &mut App, container: &Container) -> AppResult<()> {
    if container.nics.is_empty() {
        return Ok(());
    }
    let plan = wanted(app)?;
    let Some(own) = plan.containers.iter().find(|other| other.id == container.id) else { return Ok(()) };
    let bridges = own.links.iter().filter_map(|link| link.bridge.as_deref());
    let routed: Vec<String> = bridges
        .filter(|bridge| plan.network_of(bridge).is_some_and(|network| network.routed))
        .map(str::to_owned)
        .collect();
    match app.broker.firewall_links(container.id.as_str(), &own.links, &routed)? {
        true => Ok(()),
        false => {
            let _lock = lock::firewall(&app.instance)?;
            let plan = wanted(app)?;
            put(app, &plan)
        }
    }
}

/// Networks have come or gone, or are otherwise than they were.
pub fn refresh(app: &mut App) -> AppResult<()> {
    let _lock = lock::firewall(&app.instance)?;
    let mut policy = app.store.policy()?;
    let networks = app.store.networks()?;
    policy.networks.retain(|name, _| networks.iter().any(|network| network.name == *name));
    app.store.amend_policy(&policy)?;
    if networks.is_empty() {
        return Ok(app.broker.firewall_remove()?);
    }
    let plan = wanted(app)?;
    put(app, &plan)
}

/// A container's interfaces have changed; `before` are those that it had.
pub fn changed(app: &mut App, name: &Name, before: &[Nic]) -> AppResult<()> {
    let _lock = lock::firewall(&app.instance)?;
    let plan = wanted(app)?;
    let Some(container) = plan.container(name.as_str()) else { return Ok(()) };
    let former: Vec<IpAddr> = before.iter().flat_map(Nic::addresses).collect();
    let change = Change {
        containers: vec![container.clone()],
        former: vec![(container.id.clone(), former)],
        forwards: Some(plan.forwards.clone()),
        ..Change::default()
    };
    // Where it is not in place, the next start puts it there.
    app.broker.firewall_change(&change)?;
    Ok(())
}

/// A container goes by another name.
pub fn renamed(app: &mut App, from: &Name, to: &Name) -> AppResult<()> {
    let _lock = lock::firewall(&app.instance)?;
    let old = app.store.policy()?;
    let mut new = old.clone();
    new.rename(from.as_str(), to.as_str());
    if new == old {
        return Ok(());
    }
    app.store.amend_policy(&new)?;
    let facts = facts(app)?;
    let mut former = facts.clone();
    for member in former.containers.iter_mut().filter(|member| member.name == *to) {
        member.name = from.clone();
    }
    let blocks = app.store.blocks(now())?;
    let before = routed(Plan::of_stored(&old, &former), &blocks);
    let after = routed(Plan::of_stored(&new, &facts), &blocks);
    push(app, &before, &after)
}

/// A container is being deleted, and is in the database for the last time.
pub fn forget(app: &mut App, container: &Container) -> AppResult<()> {
    let _lock = lock::firewall(&app.instance)?;
    let old = app.store.policy()?;
    let mut new = old.clone();
    new.forget(container.name.as_str());
    if new != old {
        app.store.amend_policy(&new)?;
        let (facts, blocks) = (facts(app)?, app.store.blocks(now())?);
        let before = routed(Plan::of_stored(&old, &facts), &blocks);
        let after = routed(Plan::of_stored(&new, &facts), &blocks);
        if let Some(change) = Change::between(&before, &after) {
            app.broker.firewall_change(&change)?;
        }
    }
    let with_links = container.nics.iter().filter(|nic| nic.has_host_end());
    let links: Vec<String> = with_links.map(|nic| app.instance.host_link(&container.id, nic.slot)).collect();
    let addresses: Vec<IpAddr> = container.nics.iter().flat_map(Nic::addresses).collect();
    if !links.is_empty() {
        app.broker.firewall_forget(container.id.as_str(), &links, &addresses)?;
    }
    Ok(())
}

/// Puts the firewall in place, if it is not. Returns whether that was necessary.
pub fn repair(app: &mut App) -> AppResult<bool> {
    let _lock = lock::firewall(&app.instance)?;
    if app.store.networks()?.is_empty() {
        return Ok(false);
    }
    let plan = wanted(app)?;
    let repaired = app.broker.firewall_repair(&plan)?;
    if repaired {
        let blocks = app.store.blocks(now())?;
        super::tell_blocks(app, &blocks, &[])?;
    }
    Ok(repaired)
}
