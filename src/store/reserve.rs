//! Room kept for the database on a disk that guests can fill. Without it no command would work any more on
//! a full disk, not even the one that deletes what fills it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// More than the `-shm` and the longest `-wal` take together.
pub(super) const SIZE: u64 = 1 << 20;
/// The room is kept in multiples of this.
const STEP: u64 = 64 << 10;

/// Frees the room if the disk has hardly any other.
pub(super) fn give_up_if_full(database: &Path) {
    let path = reserve(database);
    let scarce = statvfs(&path).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < SIZE);
    if scarce && let Err(e) = fs::remove_file(&path) {
        tracing::debug!("cannot give up {}: {e}", path.display());
    }
}

/// Keeps the room, or as much of it as the disk has. Without it everything works until the disk is full, so
/// a failure is ignored.
pub(super) fn keep(database: &Path) {
    let path = reserve(database);
    if fs::metadata(&path).is_ok_and(|file| file.len() >= SIZE) {
        return;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let Ok(file) = file else { return };
    let sizes = (1..=SIZE / STEP).rev().map(|steps| steps * STEP);
    if !sizes.into_iter().any(|size| fallocate(&file, FallocateFlags::empty(), 0, size).is_ok()) {
        let _ = fs::remove_file(&path);
    }
}

fn reserve(database: &Path) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(".reserve");
    PathBuf::from(name)
}
