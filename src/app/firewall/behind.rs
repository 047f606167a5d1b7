//! A firewall in the kernel that may be behind what is stored: a command was killed, or its broker,
//! between the one and the other. The next command puts it right.

use super::super::context::App;
use super::super::error::AppResult;
use super::super::launch::now;
use super::super::{lock, network};
use super::{copy, in_place, put, tell_blocks, wanted};
use crate::sys::error_text;
use crate::sys::lock::Lock;

/// That the firewall may be behind what is stored. It stays when this is dropped, as where a command is
/// killed, and is then for the next to see to.
#[must_use]
pub struct Note(Option<Lock>);

impl Note {
    /// The kernel was told all that this command has stored.
    pub fn take_back(mut self) {
        drop(self.0.take());
    }

    /// This note beside what was stored. Where storing failed, the kernel has nothing to follow, and the note is
    /// taken back.
    pub fn of<T, E>(self, stored: Result<T, E>) -> Result<(Self, T), E> {
        match stored {
            Ok(stored) => Ok((self, stored)),
            Err(e) => {
                self.take_back();
                Err(e)
            }
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.leave();
        }
    }
}

/// Says so before something is stored that the firewall is to follow, where its lock is not held
/// throughout or an error does not undo it, and where nobody knows whether the kernel was told.
pub fn expect(app: &App) -> Note {
    let noted = lock::note_firewall(&app.instance);
    Note(noted.inspect_err(|e| tracing::warn!("{}", error_text(e))).ok())
}

/// The firewall's lock. What a killed command has left behind is told first, lest who tells only parts of
/// it, or looks whether all is there, takes it for done.
pub(super) fn locked(app: &mut App) -> AppResult<Lock> {
    let lock = lock::firewall(&app.instance)?;
    settle(app).unwrap_or_else(|e| tracing::warn!("the firewall is behind what is stored of it: {e}"));
    Ok(lock)
}

/// Where a command that was at it was killed: makes the kernel's rules and the copy what is stored.
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
