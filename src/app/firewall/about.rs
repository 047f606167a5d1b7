//! Changes of one container's part of the policy, at a cost that does not grow with the number of other
//! containers.

use super::caution::{Caution, check_way_in};
use super::copy;
use super::facts::member;
use super::kernel::{heard, in_place};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::model::firewall::{Change, Facts, Plan, Policy};
use crate::model::name::Name;
use crate::sys::kernel::clock::now;

/// Stores the new policy of one container and puts it in place, as `super::install` does for all. Both
/// policies contain nothing about other containers. Returns false if it takes more than the one container
/// to decide: then nothing was done.
pub fn install(
    app: &mut App,
    old: &Policy,
    new: &Policy,
    caution: &Caution,
    container: &str,
) -> AppResult<bool> {
    // Whether a port is forwarded already depends on all containers.
    if old.forwards != new.forwards {
        return Ok(false);
    }
    let Some(facts) = facts(app, container)? else { return Ok(false) };
    Plan::of(&alone(new), &facts)?;
    let Some((before, after)) = plans(app, &facts, old, new)? else { return Ok(false) };
    let blocks = match &caution.ssh {
        Some(_) if !caution.force => app.store.blocks(now())?,
        _ => Vec::new(),
    };
    check_way_in(caution, (&before, old), (&after, new), &blocks)?;
    let Some(change) = Change::between(&before, &after) else { return Ok(false) };
    if !change.is_empty() && !in_place(app)? {
        return Ok(false);
    }
    app.store.set_policy_about(container, new)?;
    if !change.is_empty()
        && let Err(e) = tell(app, &change)
    {
        // The kernel has done all of it or nothing.
        app.store.set_policy_about(container, old)?;
        return Err(e);
    }
    copy::keep(app, old, new);
    Ok(true)
}

fn tell(app: &mut App, change: &Change) -> AppResult<()> {
    let told = app.broker.change_firewall(change);
    heard(app, told)
}

/// The container, if there is one of this name, and all networks.
pub fn facts(app: &App, container: &str) -> AppResult<Option<Facts>> {
    let found = Name::new(container).ok().map(|name| app.store.container(&name)).transpose()?.flatten();
    let Some(found) = found else { return Ok(None) };
    Ok(Some(Facts { networks: app.store.networks()?, containers: vec![member(app, found)] }))
}

fn alone(policy: &Policy) -> Policy {
    Policy { forwards: Vec::new(), ..policy.clone() }
}

/// The plans of both policies for the one container of `facts`. None if that takes more than the facts of
/// this container.
pub fn plans(app: &App, facts: &Facts, old: &Policy, new: &Policy) -> AppResult<Option<(Plan, Plan)>> {
    let mut before = Plan::of_stored(&alone(old), facts);
    let mut after = Plan::of_stored(&alone(new), facts);
    // The policies of other containers can route the ports of this container's networks too.
    let Some(container) = facts.containers.first() else { return Ok(None) };
    let others = app.store.networks_with_rules(container.name.as_str())?;
    let links = after.containers.iter().flat_map(|container| container.links.iter());
    let bridges: Vec<String> = links.filter_map(|link| link.bridge.clone()).collect();
    let mut is_known = true;
    for plan in [&mut before, &mut after] {
        for network in plan.networks.iter_mut().filter(|network| bridges.contains(&network.bridge)) {
            network.routed |= others.contains(&network.name);
            is_known &= network.routed;
        }
    }
    // And so may blocks.
    Ok((is_known || !app.store.has_blocks()?).then_some((before, after)))
}
