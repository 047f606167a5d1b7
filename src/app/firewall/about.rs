//! Changes of what is said of one container, at a cost that does not grow with the number of others.

use super::super::context::App;
use super::super::error::AppResult;
use super::super::launch::now;
use super::{Caution, check_way_in, copy, heard, in_place, member};
use crate::model::firewall::{Change, Facts, Plan, Policy};
use crate::model::name::Name;

/// Stores the new policy of one container and puts it in place, as `super::install` does for all. Both
/// policies say nothing of other containers. Returns whether it could be done so: if not, nothing was
/// done, and everything has to be looked at.
pub fn install(
    app: &mut App,
    old: &Policy,
    new: &Policy,
    caution: &Caution,
    container: &str,
) -> AppResult<bool> {
    // Whether ports are forwarded already is for all to say.
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
        // The kernel has made nothing of it, or all.
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

/// What of both policies concerns the one container of `facts`; None where that takes more than what is
/// known of it.
pub fn plans(app: &App, facts: &Facts, old: &Policy, new: &Policy) -> AppResult<Option<(Plan, Plan)>> {
    let mut before = Plan::of_stored(&alone(old), facts);
    let mut after = Plan::of_stored(&alone(new), facts);
    // Others have the ports of their networks led through the host too.
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
