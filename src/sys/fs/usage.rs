//! How much of a disk a tree takes.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::listing::entries;
use crate::sys::{Context, SysResult};

/// Directories in one another that are looked into; what lies deeper is not counted.
const DEPTH: usize = 500;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Of blocks that are allocated; a file with several names counts for each of them in part.
    pub bytes: u64,
    /// Entries: files, directories and all else.
    pub files: u64,
}

/// What is in `dir`, without `dir` itself.
pub fn of_tree(dir: &OwnedFd) -> SysResult<Usage> {
    let mut usage = Usage::default();
    add(dir, &mut usage, 0).cannot(|| "see how large a tree is")?;
    Ok(usage)
}

fn add(dir: &OwnedFd, usage: &mut Usage, depth: usize) -> rustix::io::Result<()> {
    for entry in entries(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        usage.files += 1;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let names = if is_dir { 1 } else { stat.st_nlink.max(1) };
        usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512 / names;
        if is_dir && depth < DEPTH {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(below) = rustix::fs::openat(dir, name, flags, Mode::empty()) else { continue };
            add(&below, usage, depth + 1)?;
        }
    }
    Ok(())
}
