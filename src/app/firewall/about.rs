//! Changes of what is said of one container, at a cost that does not grow with the number of others.

use super::super::context::App;
use super::super::error::AppResult;
use super::super::launch::now;
use super::{Caution, check_way_in, copy, member};
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
    let Some((before, after)) = plans(app, old, new, container)? else { return Ok(false) };
    let blocks = match &caution.ssh {
        Some(_) if !caution.force => app.store.blocks(now())?,
        _ => Vec::new(),
    };
    check_way_in(caution, (&before, old), (&after, new), &blocks)?;
    let Some(change) = Change::between(&before, &after) else { return Ok(false) };
    if !change.is_empty() && !app.broker.firewall_in_place()? {
        return Ok(false);
    }
    app.store.set_policy_about(container, new)?;
    if !change.is_empty()
        && let Err(e) = app.broker.change_firewall(&change)
    {
        // The kernel has made nothing of it, or all.
        app.store.set_policy_about(container, old)?;
        return Err(e.into());
    }
    copy::keep(app, old, new);
    Ok(true)
}

/// What of both policies concerns the container; None where that takes more than what is known of it.
pub fn plans(app: &App, old: &Policy, new: &Policy, container: &str) -> AppResult<Option<(Plan, Plan)>> {
    let Some(found) = Name::new(container).ok().map(|name| app.store.container(&name)).transpose()?.flatten()
    else {
        return Ok(None);
    };
    let facts = Facts { networks: app.store.networks()?, containers: vec![member(app, found)] };
    let alone = |policy: &Policy| Policy { forwards: Vec::new(), ..policy.clone() };
    let mut after = Plan::of(&alone(new), &facts)?;
    let mut before = Plan::of_stored(&alone(old), &facts);
    // Others have the ports of their networks led through the host too.
    let others = app.store.networks_with_rules(container)?;
    let mut is_known = true;
    for plan in [&mut before, &mut after] {
        for network in &mut plan.networks {
            network.routed |= others.contains(&network.name);
            is_known &= network.routed;
        }
    }
    // And so may blocks.
    Ok((is_known || !app.store.has_blocks()?).then_some((before, after)))
}
