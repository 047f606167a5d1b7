//! Locks that die with their holder, in the run directory.

use std::path::PathBuf;
use std::time::Duration;

use super::context::App;
use super::error::{AppError, AppResult};
use super::layout;
use crate::model::container::Container;
use crate::model::instance::Instance;
use crate::model::name::{ContainerId, Name};
use crate::sys::lock::{self, Lock, LockError};
use crate::sys::{Context, SysError, error_text};

/// How long a command waits for another one that works on the same container, or on the firewall.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for one that clears the pool away, which may hold large trees.
const POOL: Duration = Duration::from_secs(600);
/// The same for one that builds the template that is wanted.
const BUILD: Duration = Duration::from_secs(2 * 3600);
/// Who has it is about to store what the firewall is to be, and to tell the kernel. One that a killed
/// command has left says that the kernel may not have heard of it.
const FIREWALL: &str = "firewall";
/// The same, where the lock was not held throughout or the broker was killed.
const BEHIND: &str = "firewall-behind";

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
    // Whoever removes what was left behind may have it for a moment.
    lock::exclusive(&dir(instance)?, id.as_str(), Duration::from_secs(5))
}

/// The lock of one container's operations.
///
/// # Errors
/// `Busy` when another command has had it for a minute.
pub fn container(instance: &Instance, id: &ContainerId, name: &Name) -> AppResult<Lock> {
    match lock::exclusive(&dir(instance)?, id.as_str(), PATIENCE) {
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
    lock::sweep(&layout::locks(instance), &[FIREWALL, BEHIND]);
}

/// Held, shared with others, by whoever works in the pool's temporary directory.
pub fn pool_work(instance: &Instance) -> Result<Lock, LockError> {
    lock::shared(&dir(instance)?, "pool", POOL)
}

/// The pool for oneself: whatever lies in its temporary directory then is abandoned.
pub fn try_whole_pool(instance: &Instance) -> Result<Option<Lock>, LockError> {
    lock::try_exclusive(&dir(instance)?, "pool")
}

/// Serialises changes of the firewall: what is stored last is what is applied last.
pub fn firewall(instance: &Instance) -> Result<Lock, LockError> {
    let lock = lock::exclusive(&dir(instance)?, FIREWALL, PATIENCE)?;
    if lock.was_left()? {
        // With this one's end the file goes; what it says does not.
        expect_firewall(instance);
    }
    Ok(lock)
}

/// Notes that the firewall may stay behind what is stored, until `forget_firewall`.
pub fn expect_firewall(instance: &Instance) {
    let path = layout::locks(instance).join(BEHIND);
    let noted = dir(instance)
        .map_err(SysError::from)
        .and_then(|_| std::fs::File::create(&path).map(drop).cannot(|| format!("make {}", path.display())));
    if let Err(e) = noted {
        tracing::warn!("{}", error_text(&e));
    }
}

pub fn forget_firewall(instance: &Instance) {
    let _ = std::fs::remove_file(layout::locks(instance).join(BEHIND));
}

/// The firewall's lock, where a command that had it was killed, or its being behind was noted; none
/// also while somebody has it.
pub fn firewall_left_behind(instance: &Instance) -> Result<Option<Lock>, LockError> {
    let dir = layout::locks(instance);
    match [FIREWALL, BEHIND].iter().any(|name| dir.join(name).exists()) {
        true => lock::try_exclusive(&dir, FIREWALL),
        false => Ok(None),
    }
}

/// Serialises the builds of one template: the second to come finds it built. `name` is a checked
/// template name.
pub fn template(instance: &Instance, name: &str) -> Result<Lock, LockError> {
    lock::exclusive(&dir(instance)?, format!("template-{}", name.replace('/', "%")), BUILD)
}
