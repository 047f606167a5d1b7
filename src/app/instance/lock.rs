//! Locks that die with their holder, in the run directory.

use std::path::PathBuf;

use super::App;
use super::layout;
use crate::app::error::{AppError, AppResult};
use crate::model::container::Container;
use crate::model::instance::Instance;
use crate::model::name::{ContainerId, Name};
use crate::model::waits;
use crate::sys::error_text;
use crate::sys::fs::lock;
use crate::sys::fs::lock::{Lock, LockError};

/// Its holder is about to store a change of the firewall and to tell the kernel. A lock file that a killed
/// command has left means that the kernel may not have been told.
const FIREWALL: &str = "firewall";
/// The prefix of notes that mean the same, for changes without that lock or with a broker that was killed.
/// A note belongs to the command that has it locked; if none has, that command has ended.
const BEHIND: &str = "firewall-behind";

const PROFILES: &str = "profiles";

fn dir(instance: &Instance) -> Result<PathBuf, LockError> {
    let dir = layout::locks(instance);
    lock::closed_dir(&dir)?;
    Ok(dir)
}

/// The lock of one container's operations, if nobody has it.
pub fn try_container(instance: &Instance, id: &ContainerId) -> Result<Option<Lock>, LockError> {
    lock::try_exclusive(&dir(instance)?, id.as_str())
}

/// The same of a container that is to be made.
pub fn new_container(instance: &Instance, id: &ContainerId) -> Result<Lock, LockError> {
    // A command that removes left-over locks may hold it for a moment.
    lock::exclusive(&dir(instance)?, id.as_str(), waits::LOCK_NEW_CONTAINER)
}

/// The lock of one container's operations.
///
/// # Errors
/// `Busy` when another command has had it for a minute.
pub fn container(instance: &Instance, id: &ContainerId, name: &Name) -> AppResult<Lock> {
    match lock::exclusive(&dir(instance)?, id.as_str(), waits::LOCK_CONTAINER) {
        Err(LockError::Held { holder, .. }) => Err(AppError::Busy { name: name.clone(), holder }),
        other => Ok(other?),
    }
}

/// The container of that name, as it is once its lock is this command's.
pub fn found(app: &App, name: &Name) -> AppResult<(Container, Lock)> {
    let id = app.find(name)?.id;
    let lock = container(&app.instance, &id, name)?;
    // Another command may have changed or deleted it before.
    Ok((app.find(name)?, lock))
}

/// Removes what commands that were killed have left among the locks.
pub fn sweep(instance: &Instance) {
    lock::sweep(&layout::locks(instance), &[FIREWALL]);
}

/// A shared lock of commands that work in the pool's temporary directory.
pub fn pool_work(instance: &Instance) -> Result<Lock, LockError> {
    lock::shared(&dir(instance)?, "pool", waits::LOCK_POOL)
}

/// The exclusive lock of the pool: with it, everything in the pool's temporary directory is abandoned.
pub fn try_whole_pool(instance: &Instance) -> Result<Option<Lock>, LockError> {
    lock::try_exclusive(&dir(instance)?, "pool")
}

/// Serialises changes of the firewall: what is stored last is what is applied last.
pub fn firewall(instance: &Instance) -> Result<Lock, LockError> {
    let lock = lock::exclusive(&dir(instance)?, FIREWALL, waits::LOCK_CONTAINER)?;
    keep_note(instance, &lock)?;
    Ok(lock)
}

/// The same, if a killed command may have left something behind and nobody has the lock.
pub fn firewall_left_behind(instance: &Instance) -> Result<Option<Lock>, LockError> {
    let dir = layout::locks(instance);
    if !notes(instance).is_empty() || dir.join(FIREWALL).exists() {
        let lock = lock::try_exclusive(&dir, FIREWALL)?;
        lock.iter().try_for_each(|lock| keep_note(instance, lock))?;
        return Ok(lock);
    }
    Ok(None)
}

/// Taking a lock that a killed command has left removes its file; this note keeps what the file meant.
fn keep_note(instance: &Instance, lock: &Lock) -> Result<(), LockError> {
    if lock.was_left()? {
        note_firewall(instance)?.leave();
    }
    Ok(())
}

/// Notes that the firewall may stay behind what is stored, until the note is dropped.
pub fn note_firewall(instance: &Instance) -> Result<Lock, LockError> {
    let (dir, process) = (dir(instance)?, std::process::id());
    let mut number = 0;
    loop {
        if let Some(note) = lock::try_exclusive(&dir, format!("{BEHIND}-{process}-{number}"))? {
            if !note.was_left()? {
                return Ok(note);
            }
            // An earlier process of this number was killed.
            note.leave();
        }
        number += 1;
    }
}

/// The notes whose commands have ended. The holder of the firewall's lock takes them, and drops them when
/// the kernel was told everything.
pub fn left_notes(instance: &Instance) -> Vec<Lock> {
    let dir = layout::locks(instance);
    let take = |name| {
        lock::try_exclusive(&dir, name).unwrap_or_else(|e| {
            tracing::warn!("{}", error_text(&e));
            None
        })
    };
    notes(instance).into_iter().filter_map(take).collect()
}

fn notes(instance: &Instance) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(layout::locks(instance)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names.filter(|name| name.as_encoded_bytes().starts_with(BEHIND.as_bytes())).collect()
}

/// Serialises changes of profiles: what is stored last is what containers get last.
pub fn profiles(instance: &Instance) -> Result<Lock, LockError> {
    lock::exclusive(&dir(instance)?, PROFILES, waits::LOCK_CONTAINER)
}

/// The same, if nobody has it.
pub fn try_profiles(instance: &Instance) -> Result<Option<Lock>, LockError> {
    lock::try_exclusive(&dir(instance)?, PROFILES)
}

/// Serialises the builds of one template: the second to come finds it built. `name` is a checked
/// template name.
pub fn template(instance: &Instance, name: &str) -> Result<Lock, LockError> {
    lock::exclusive(
        &dir(instance)?,
        format!("template-{}", name.replace('/', "%")),
        waits::LOCK_TEMPLATE_BUILD,
    )
}
