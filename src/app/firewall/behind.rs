//! A firewall in the kernel that may be behind what is stored: a command was killed, or its broker,
//! between the one and the other. The next command puts it right.

use super::super::context::App;
use super::super::error::AppResult;
use super::super::launch::now;
use super::super::{lock, network};
use super::{copy, in_place, put, tell_blocks, wanted};

/// Says so before something is stored that the firewall is to follow, where its lock is not held
/// throughout. Whoever has told the kernel all of it takes that back.
pub fn expect(app: &App) {
    lock::expect_firewall(&app.instance);
}

/// Takes it back.
pub(super) fn caught_up(app: &App) {
    lock::forget_firewall(&app.instance);
}

/// Where a command that was at it was killed: makes the kernel's rules and the copy what is stored.
pub fn catch_up(app: &mut App) -> AppResult<()> {
    let Some(lock) = lock::firewall_left_behind(&app.instance)? else { return Ok(()) };
    let done = all(app);
    match &done {
        Ok(()) => caught_up(app),
        Err(_) => lock.leave(),
    }
    done
}

fn all(app: &mut App) -> AppResult<()> {
    if app.instance.person().is_some() {
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
    // Where it is not in place, the next start puts it there.
    if in_place(app)? {
        let plan = wanted(app)?;
        put(app, &plan, false)?;
        let blocks = app.store.blocks(now())?;
        tell_blocks(app, &blocks, &[])?;
    }
    tracing::info!("the firewall has caught up with what is stored");
    Ok(())
}
