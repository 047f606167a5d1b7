//! Notes that the firewall in the kernel may be behind what is stored, because a command or its broker was
//! killed between the two. The next command puts it right.

use super::copy;
use super::facts::wanted;
use super::kernel::{in_place, put, tell_blocks};
use crate::app::error::AppResult;
use crate::app::instance::{App, lock};
use crate::app::network;
use crate::sys::fs::lock::Lock;
use crate::sys::kernel::clock::now;

/// The firewall's lock. It first tells the kernel what a killed command has left behind: whoever sends only
/// a part, or looks whether everything is there, must be able to rely on the rest.
pub(super) fn locked(app: &mut App) -> AppResult<Lock> {
    let lock = lock::firewall(&app.instance)?;
    settle(app).unwrap_or_else(|e| tracing::warn!("the firewall is behind what is stored of it: {e}"));
    Ok(lock)
}

/// If a command was killed in the middle of a change: makes the kernel's rules and the copy agree with what
/// is stored.
pub fn catch_up(app: &mut App) -> AppResult<()> {
    match lock::firewall_left_behind(&app.instance)? {
        Some(_lock) => settle(app),
        None => Ok(()),
    }
}

/// The same with the lock held.
fn settle(app: &mut App) -> AppResult<()> {
    let notes = lock::left_notes(&app.instance);
    if notes.is_empty() {
        return Ok(());
    }
    let done = all(app);
    if done.is_err() {
        notes.into_iter().for_each(Lock::leave);
    }
    done
}

fn all(app: &mut App) -> AppResult<()> {
    if app.instance.uid_of_user().is_some() {
        network::claim_all(app)?;
    }
    let mut policy = app.store.policy()?;
    let (containers, networks) = (app.store.containers()?, app.store.networks()?);
    let before = policy.clone();
    policy.containers.retain(|name, _| containers.iter().any(|c| c.name.as_str() == name));
    policy.networks.retain(|name, _| networks.iter().any(|network| network.name == *name));
    if policy != before {
        app.store.amend_policy(&policy)?;
    }
    copy::renew(app, &policy)?;
    // If the firewall is not in place, the next start puts it there.
    if in_place(app)? {
        let plan = wanted(app)?;
        put(app, &plan, false)?;
        let blocks = app.store.blocks(now())?;
        tell_blocks(app, &blocks, &[])?;
    }
    tracing::info!("the firewall has caught up with what is stored");
    Ok(())
}
