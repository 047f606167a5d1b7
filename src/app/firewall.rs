//! The firewall of an owner: what it is to be, and that it is so.

use super::context::App;
use super::error::{AppError, AppResult};
use crate::model::container::Container;
use crate::model::firewall::{Facts, Member, Plan, Policy};

/// What there is that a policy can speak of.
pub(super) fn facts(app: &App) -> AppResult<Facts> {
    let member = |container: Container| {
        let nics = container.nics.into_iter();
        let nics = nics.map(|nic| (app.instance.host_link(&container.id, nic.slot), nic)).collect();
        Member { id: container.id, name: container.name, nics }
    };
    let containers = app.store.containers()?.into_iter().map(member).collect();
    Ok(Facts { networks: app.store.networks()?, containers })
}

/// What the kernel is to do.
pub(super) fn plan(app: &App) -> AppResult<Plan> {
    Plan::of(&Policy::default(), &facts(app)?).map_err(|e| AppError::Refused(e.to_string()))
}

/// Puts all of it in place.
pub(super) fn apply(app: &mut App) -> AppResult<()> {
    put(app, false)
}

/// The same where anything of it is missing.
pub(super) fn repair(app: &mut App) -> AppResult<()> {
    put(app, true)
}

fn put(app: &mut App, if_needed: bool) -> AppResult<()> {
    let plan = plan(app)?;
    let (_, dropping) = app.broker.apply_firewall(&plan, if_needed)?;
    for place in dropping {
        tracing::warn!("{place} drops guests' traffic: see 'nagaya doctor'");
    }
    Ok(())
}

/// Forgets a container that is deleted. What is left of it is harmless, and goes with the next whole
/// plan.
pub(super) fn forget(app: &mut App, container: &Container) {
    let addresses: Vec<_> = container.nics.iter().flat_map(|nic| nic.addresses()).collect();
    if container.nics.is_empty() {
        return;
    }
    if let Err(e) = app.broker.forget_container(container.id.as_str(), &addresses) {
        tracing::warn!("the firewall still knows container '{}': {e}", container.name);
    }
}
