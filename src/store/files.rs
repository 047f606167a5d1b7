//! The files that a database consists of, and others beside it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use crate::model::waits;
use crate::sys::fs::lock::{self, Lock};

/// Waits until no other process makes, upgrades or moves the database.
pub fn lock(path: &Path) -> Result<Lock, StoreError> {
    let (dir, lock_path) = (path.parent().unwrap_or(Path::new("/")), beside(path, ".lock"));
    let name = lock_path.file_name().unwrap_or_default();
    lock::exclusive(dir, name, waits::LOCK_NEW_DATABASE).map_err(|source| StoreError::Lock { source })
}

pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

pub fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|source| StoreError::File { doing: "look for", path: path.to_owned(), source })
}

pub fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::File { doing: "remove", path: path.to_owned(), source: err })
        }
        _ => Ok(()),
    }
}

/// Makes what was renamed beside `path` outlast a power cut.
pub fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| StoreError::File {
        doing: "flush directory",
        path: dir.to_owned(),
        source,
    })
}

pub fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    let failed =
        |source: io::Error| StoreError::File { doing: "rename database", path: from.to_owned(), source };
    fs::rename(from, to).map_err(failed)
}
