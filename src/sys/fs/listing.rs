//! What is in a directory.

use std::os::fd::AsFd;

use rustix::fs::{Dir, DirEntry};

/// The entries of a directory that is open for reading, without the directory itself and the one that it is in. They
/// are read from the beginning, whatever was read before.
pub fn entries(dir: impl AsFd) -> rustix::io::Result<impl Iterator<Item = rustix::io::Result<DirEntry>>> {
    let is_other = |entry: &rustix::io::Result<DirEntry>| {
        !entry.as_ref().is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
    };
    Ok(Dir::read_from(dir)?.filter(is_other))
}
