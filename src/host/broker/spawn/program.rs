//! The file that monitors are executed from: a copy of this program that containers' ids cannot read.
//!
//! The kernel gives the memory of a process that was executed from an unreadable file to a user
//! namespace in which the file's owner has an id (`would_dump` of fs/exec.c): for these files the
//! broker's own. So no process of a container, its root least of all, may trace a monitor, take
//! descriptors from it, or read its files in /proc; nor those of its children, until they execute
//! a program of the guest's.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::model::instance::Instance;
use crate::sys::fs::atomic_file;
use crate::sys::fs::atomic_file::Lasting;
use crate::sys::{Context, SysError, SysResult};

/// Others may execute it and nothing else.
const MODE: u32 = 0o711;
const PREFIX: &str = "monitor-";

/// The monitors' copy of this program, made if there is none yet, as a path and an `O_PATH` descriptor.
pub fn monitors(instance: &Instance) -> SysResult<(PathBuf, OwnedFd)> {
    let source = File::open("/proc/self/exe").cannot(|| "open this program")?;
    let stat = source.metadata().cannot(|| "look at this program")?;
    let dir = dir(instance);
    let path = dir.join(name(&stat));
    if let Some(found) = look(&path, stat.len()) {
        return Ok((path, found));
    }
    make(&source, &dir, &path)?;
    let found = look(&path, stat.len());
    let found = found.ok_or_else(|| {
        let what = format!("use {}", path.display());
        SysError::new(what, std::io::Error::other("it is not the copy that has just been made"))
    })?;
    remove_but(&dir, &path);
    Ok((path, found))
}

/// Removes every copy. Monitors that run keep what they were executed from.
pub fn forget(instance: &Instance) {
    remove_but(&dir(instance), Path::new(""));
}

/// The directory is for the broker's own user alone. It is on disk, not below /run: there the copy would
/// take up memory for good, and a daemonless owner's directory may not allow execution.
fn dir(instance: &Instance) -> PathBuf {
    if instance.is_daemonless() { instance.state_dir() } else { instance.hostd_state_dir() }
}

/// Changes with whatever replaces the program or writes to it.
fn name(stat: &std::fs::Metadata) -> String {
    let numbers = [stat.dev(), stat.ino(), stat.len(), stat.mtime() as u64, stat.mtime_nsec() as u64];
    let changed = [stat.ctime() as u64, stat.ctime_nsec() as u64];
    let text: Vec<String> = numbers.iter().chain(&changed).map(|n| format!("{n:x}")).collect();
    format!("{PREFIX}{}", text.join("-"))
}

fn look(path: &Path, length: u64) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&fd).ok()?;
    let is_it = stat.st_mode == libc::S_IFREG | MODE
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_size as u64 == length;
    is_it.then_some(fd)
}

/// The copy gets its name once it is whole. Nobody has it open for writing by then: the kernel would
/// refuse to execute it.
fn make(source: &File, dir: &Path, path: &Path) -> SysResult<()> {
    let what = || format!("copy this program to {}", path.display());
    crate::sys::fs::lock::closed_dir(dir).map_err(std::io::Error::other).cannot(what)?;
    let mut source = source;
    let copy = |file: &mut File| std::io::copy(&mut source, file).map(drop);
    atomic_file::replace_filled(path, copy, MODE, Lasting::OnDisk)
}

fn remove_but(dir: &Path, kept: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_copy = name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_copy && entry.path() != kept {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(dir: &Path) -> Instance {
        Instance::default().daemonless("ann", dir.join("state"), dir.join("run"))
    }

    #[test]
    fn a_copy_is_made_once_and_cannot_be_read_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = monitors(&instance(dir.path())).unwrap();
        let made = std::fs::metadata(&path).unwrap();
        assert_eq!(made.mode() & 0o7777, MODE);
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read("/proc/self/exe").unwrap());
        let (again, _) = monitors(&instance(dir.path())).unwrap();
        assert_eq!((again, std::fs::metadata(&path).unwrap().ino()), (path, made.ino()));
    }

    #[test]
    fn what_is_not_the_copy_is_replaced_and_old_copies_go() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = monitors(&instance(dir.path())).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/bin/sh", &path).unwrap();
        let old = path.with_file_name("monitor-old");
        std::fs::write(&old, "").unwrap();
        let (path, _) = monitors(&instance(dir.path())).unwrap();
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
        assert!(!old.exists());
        forget(&instance(dir.path()));
        assert!(!path.exists());
    }
}
