//! Locks, so that one broker at a time works on a container, on an owner's firewall, on a network's names.
//! A command that was killed leaves a broker that finishes what it has begun; the next command's broker
//! must not find things half made.

use std::path::PathBuf;

use super::spawn::program;
use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::model::waits;
use crate::sys::SysResult;
use crate::sys::fs::lock;
use crate::sys::fs::lock::Lock;

/// Held until dropped.
pub struct ContainerLock {
    /// None once it is released.
    lock: Option<Lock>,
    instance: Instance,
}

/// Waits for other brokers.
pub fn take(instance: &Instance, id: &ContainerId) -> SysResult<ContainerLock> {
    named(instance, &instance.scope_unit(id))
}

/// The names of the network with this bridge.
pub fn names(instance: &Instance, bridge: &str) -> SysResult<ContainerLock> {
    named(instance, &format!("names-{bridge}"))
}

/// A lock for everything that one owner has, such as for finding out whether another container may run.
pub fn of_owner(instance: &Instance, what: &str) -> SysResult<ContainerLock> {
    named(instance, &format!("{what}-{}", instance.nft_table()))
}

fn named(instance: &Instance, name: &str) -> SysResult<ContainerLock> {
    let dir = dir(instance);
    lock::closed_dir(&dir)?;
    let lock = lock::exclusive(&dir, name, waits::LOCK_CONTAINER_IN_BROKER)?;
    Ok(ContainerLock { lock: Some(lock), instance: instance.clone() })
}

/// Removes the directory of locks, if nobody holds one. A broker that was killed leaves its file.
pub fn forget(instance: &Instance) {
    let dir = dir(instance);
    lock::sweep(&dir, &[]);
    let _ = std::fs::remove_dir(dir);
}

fn dir(instance: &Instance) -> PathBuf {
    let run = if instance.is_daemonless() { instance.run_dir() } else { instance.hostd_run_dir() };
    run.join("holds")
}

impl Drop for ContainerLock {
    fn drop(&mut self) {
        drop(self.lock.take());
        // The command that it belonged to was killed, and the instance has been removed meanwhile.
        if !self.instance.state_dir().exists() {
            forget(&self.instance);
            program::forget(&self.instance);
            for dir in [self.instance.hostd_run_dir(), self.instance.hostd_state_dir()] {
                let _ = std::fs::remove_dir(dir);
            }
        }
    }
}
