//! Whole policies from files, and policies that are taken back unless somebody confirms them.

use super::behind::locked;
use super::caution::Caution;
use super::copy;
use super::facts::{facts, routed};
use super::kernel::push;
use super::policy::install;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::firewall::difference::difference;
use crate::model::firewall::{Plan, Policy, duration};
use crate::sys::kernel::clock::now;

/// The result of applying a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub lines: Vec<String>,
}

/// Replaces the policy by `new`. With a deadline, the previous policy comes back then, unless `new` is
/// confirmed.
pub fn apply(app: &mut App, new: Policy, caution: &Caution, deadline: Option<i64>) -> AppResult<Applied> {
    let _lock = locked(app)?;
    if let Some(pending) = app.store.pending_policy()? {
        let left = pending.deadline.saturating_sub(now()).max(0).unsigned_abs();
        return Err(AppError::Unconfirmed(duration::text(left)));
    }
    let (old, new) = (app.store.policy()?, new.tidied());
    install(app, &old, &new, caution, deadline)?;
    Ok(Applied { lines: difference(&old, &new) })
}

/// Confirms the policy that waits for it.
pub fn confirm(app: &mut App) -> AppResult<()> {
    let _lock = locked(app)?;
    match app.store.confirm_policy()? {
        true => {
            copy::keep(app, &Policy::default(), &app.store.policy()?);
            Ok(())
        }
        false => Err(AppError::Refused("no policy waits to be confirmed".to_owned())),
    }
}

/// Goes back to the policy before one that nobody has confirmed in time. Tells whether it did.
pub fn roll_back_due(app: &mut App) -> AppResult<bool> {
    let due = |app: &App| -> AppResult<bool> {
        Ok(app.store.pending_policy()?.is_some_and(|pending| pending.deadline <= now()))
    };
    if !due(app)? {
        return Ok(false);
    }
    let _lock = locked(app)?;
    // Somebody else may have been quicker.
    if !due(app)? {
        return Ok(false);
    }
    let tried = app.store.policy()?;
    let Some(previous) = app.store.pending_policy()?.map(|pending| pending.previous) else {
        return Ok(false);
    };
    let (facts, blocks) = (facts(app)?, app.store.blocks(now())?);
    let before = routed(Plan::of_stored(&tried, &facts), &blocks);
    let after = routed(Plan::of_stored(&previous, &facts), &blocks);
    // It is stored last: if this command dies in between, the next one goes back.
    push(app, &before, &after)?;
    app.store.take_policy_back()?;
    Ok(true)
}
