//! Locks that die with their holder: flock(2) on files in the run directory.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::error::{AppError, AppResult};
use super::layout;
use crate::model::instance::Instance;
use crate::model::name::{ContainerId, Name};
use crate::sys::{Context, SysResult};

/// How long a command waits for another one that works on the same container.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lock that is held; dropping it lets go. The file stays: were it deleted, a second process
/// could lock a new file of the same name while a third still waits on the old.
#[must_use]
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn open(dir: &Path, name: &str) -> SysResult<File> {
    let path = dir.join(name);
    let try_open =
        || std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    match try_open() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).cannot(|| format!("make {}", dir.display()))?;
            try_open()
        }
        other => other,
    }
    .cannot(|| format!("open the lock {}", path.display()))
}

fn take(file: File, how: FlockOperation) -> SysResult<Option<Lock>> {
    match rustix::fs::flock(&file, how) {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e).cannot(|| "take a lock"),
    }
}

/// The lock of one container's operations, if nobody has it.
pub fn try_container(instance: &Instance, id: &ContainerId) -> SysResult<Option<Lock>> {
    take(open(&layout::locks(instance), id.as_str())?, FlockOperation::NonBlockingLockExclusive)
}

/// The lock of one container's operations.
///
/// # Errors
/// `Busy` when another command has had it for a minute.
pub fn container(instance: &Instance, id: &ContainerId, name: &Name) -> AppResult<Lock> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(lock) = try_container(instance, id)? {
            return Ok(lock);
        }
        if Instant::now() >= end {
            return Err(AppError::Busy(name.clone()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Forgets the lock file of a container that is no more. Its id is never drawn again.
pub fn forget_container(instance: &Instance, id: &ContainerId) {
    let _ = std::fs::remove_file(layout::locks(instance).join(id.as_str()));
}

/// Held, shared with others, by whoever works in the pool's temporary directory.
pub fn pool_work(instance: &Instance) -> SysResult<Lock> {
    let file = open(&layout::locks(instance), "pool")?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared))
        .cannot(|| "take the pool's lock")?;
    Ok(Lock { _file: file })
}

/// The pool for oneself: whatever lies in its temporary directory then is abandoned.
pub fn try_whole_pool(instance: &Instance) -> SysResult<Option<Lock>> {
    take(open(&layout::locks(instance), "pool")?, FlockOperation::NonBlockingLockExclusive)
}

/// Serialises changes of the firewall: what is stored last is what is applied last.
pub fn firewall(instance: &Instance) -> SysResult<Lock> {
    let file = open(&layout::locks(instance), "firewall")?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
        .cannot(|| "wait for another change of the firewall")?;
    Ok(Lock { _file: file })
}

/// Serialises the builds of one template: the second to come finds it built. `name` is a checked
/// template name.
pub fn template(instance: &Instance, name: &str) -> SysResult<Lock> {
    let file = open(&layout::locks(instance), &format!("template-{}", name.replace('/', "%")))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
        .cannot(|| format!("wait for another build of template '{name}'"))?;
    Ok(Lock { _file: file })
}
