//! The firewall: a policy in the database, put into the kernel by the broker whenever either changes.

use super::behind::locked;
use super::caution::{Caution, check_way_in};
use super::facts::{facts, routed};
use super::kernel::push;
use super::{about, copy};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::firewall::{Plan, Policy, duration};
use crate::sys::kernel::clock::now;

/// Changes the policy as `edit` says, all of it or nothing.
pub(super) fn change<T>(
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

/// The same for an `edit` that changes only the part about one container: it looks only at what concerns
/// that one, however many others there are.
pub(super) fn change_about<T>(
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
pub(super) fn install(
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
        // The kernel has done all of it or nothing.
        app.store.set_policy(old)?;
        return Err(e);
    }
    copy::keep(app, old, if deadline.is_some() { old } else { new });
    Ok(())
}

/// Refuses forwards to a daemonless owner: they would forward ports of the owner's network namespace, which
/// nobody reaches.
pub(super) fn check_forwards(app: &App, old: &Policy, new: &Policy) -> AppResult<()> {
    match app.instance.is_daemonless() && new.forwards.iter().any(|forward| !old.forwards.contains(forward)) {
        true => Err(AppError::Refused(
            "ports of the host cannot be forwarded to your containers without nagaya-hostd on it".to_owned(),
        )),
        false => Ok(()),
    }
}
