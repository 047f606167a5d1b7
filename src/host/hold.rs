//! One broker at a time works on a container, on an owner's firewall, on a network's names. A command
//! that was killed leaves a broker that finishes what it has begun; the next command's must not find
//! things half made.

use std::path::PathBuf;
use std::time::Duration;

use super::program;
use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::sys::SysResult;
use crate::sys::lock::{self, Lock};

/// Longer than a start and the clearing away after it take.
const PATIENCE: Duration = Duration::from_secs(100);

/// Held until dropped.
pub struct Hold {
    /// None once it is let go.
    lock: Option<Lock>,
    instance: Instance,
}

/// Waits for other brokers.
pub fn take(instance: &Instance, id: &ContainerId) -> SysResult<Hold> {
    named(instance, &instance.scope_unit(id))
}

/// The names of the network with this bridge.
pub fn names(instance: &Instance, bridge: &str) -> SysResult<Hold> {
    named(instance, &format!("names-{bridge}"))
}

/// For what concerns all that an owner has, such as finding out whether one container more may run.
pub fn of_owner(instance: &Instance, what: &str) -> SysResult<Hold> {
    named(instance, &format!("{what}-{}", instance.nft_table()))
}

fn named(instance: &Instance, name: &str) -> SysResult<Hold> {
    let dir = dir(instance);
    lock::closed_dir(&dir)?;
    let lock = lock::exclusive(&dir, name, PATIENCE)?;
    Ok(Hold { lock: Some(lock), instance: instance.clone() })
}

/// Removes the directory of locks, if nobody holds one. A broker that was killed leaves its file.
pub fn forget(instance: &Instance) {
    let dir = dir(instance);
    lock::sweep(&dir, &[]);
    let _ = std::fs::remove_dir(dir);
}

fn dir(instance: &Instance) -> PathBuf {
    let run = if instance.is_private() { instance.run_dir() } else { instance.hostd_run_dir() };
    run.join("holds")
}

impl Drop for Hold {
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
