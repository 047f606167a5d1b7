//! What is checked of the trees that a caller passes.

use std::os::fd::OwnedFd;

use rustix::fs::FileType;

use crate::model::ids::{IDS_PER_RANGE, IdRange};
use crate::sys::error_text;
use crate::sys::fs::mountinfo::Mounts;

/// Looking at a file, and opening it again, must not wait for a program of the caller's.
pub fn answering<'a>(mut files: impl Iterator<Item = &'a OwnedFd>) -> Result<(), String> {
    let mounts = Mounts::read().map_err(|e| error_text(&e))?;
    match files.any(|fd| mounts.may_hang(fd)) {
        true => Err("files and trees must be on a file system of this host, and not on FUSE".to_owned()),
        false => Ok(()),
    }
}

/// A tree that may be passed: a directory that belongs to the first of the storage ids.
pub fn tree(fd: &OwnedFd, storage: IdRange) -> Result<(), String> {
    directory(fd, |uid| uid == storage.base())
}

/// A volume: a guest's root may have given it to any user of the guest's.
pub fn volume(fd: &OwnedFd, storage: IdRange) -> Result<(), String> {
    directory(fd, |uid| (storage.base()..storage.base() + IDS_PER_RANGE).contains(&uid))
}

fn directory(fd: &OwnedFd, is_owner: impl Fn(u32) -> bool) -> Result<(), String> {
    let stat = rustix::fs::fstat(fd).map_err(|e| format!("cannot be looked at: {e}"))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match is_dir && is_owner(stat.st_uid) {
        true => Ok(()),
        false => Err("is not a directory that your storage ids own".to_owned()),
    }
}
