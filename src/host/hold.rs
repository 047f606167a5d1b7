//! One broker at a time works on a container. A command that was killed leaves a broker that
//! finishes what it has begun; the next command's must not find the container half made.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::program;
use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::sys::{Context, SysError, SysResult};

/// Longer than a start and the clearing away after it take.
const PATIENCE: Duration = Duration::from_secs(100);
const GLANCE: Duration = Duration::from_millis(2);

/// Held until dropped.
pub struct Hold {
    _file: OwnedFd,
    path: std::path::PathBuf,
    instance: Instance,
}

/// Waits for other brokers.
pub fn take(instance: &Instance, id: &ContainerId) -> SysResult<Hold> {
    of_name(instance, &instance.scope_unit(id))
}

/// For what concerns all that an owner has: one broker at a time works on the owner's firewall, or
/// finds out whether one container more may run.
pub fn of_owner(instance: &Instance, what: &str) -> SysResult<Hold> {
    of_name(instance, &format!("{}.{what}", instance.nft_table()))
}

fn of_name(instance: &Instance, name: &str) -> SysResult<Hold> {
    let dir = dir(instance);
    let path = dir.join(name);
    let what = || format!("lock {}", path.display());
    let end = Instant::now() + PATIENCE;
    loop {
        let file = open(&dir, &path).cannot(what)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Whoever had it may have deleted it meanwhile, and another may hold a new one.
            Ok(()) if is_at(&file, &path) => {
                return Ok(Hold { _file: file, path, instance: instance.clone() });
            }
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(GLANCE),
            Err(Errno::WOULDBLOCK) => return Err(SysError::new(what(), std::io::ErrorKind::TimedOut)),
            Err(e) => return Err(SysError::new(what(), e)),
        }
    }
}

/// Removes the directory of locks, if nobody holds one. A broker that was killed leaves its file.
pub fn forget(instance: &Instance) {
    let dir = dir(instance);
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let free = open(&dir, &entry.path())
            .is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if free {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

fn dir(instance: &Instance) -> std::path::PathBuf {
    let run = if instance.is_private() { instance.run_dir() } else { instance.hostd_run_dir() };
    run.join("holds")
}

fn open(dir: &std::path::Path, path: &std::path::Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let try_open = || rustix::fs::open(path, flags, Mode::from_raw_mode(0o600));
    match try_open() {
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(dir)?;
            Ok(try_open()?)
        }
        other => Ok(other?),
    }
}

fn is_at(file: &OwnedFd, path: &std::path::Path) -> bool {
    match (rustix::fs::fstat(file), rustix::fs::lstat(path)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        // The command that it belonged to was killed, and the instance has been removed meanwhile.
        if !self.instance.state_dir().exists() {
            forget(&self.instance);
            program::forget(&self.instance);
            let _ = std::fs::remove_dir(self.instance.hostd_run_dir());
        }
    }
}
