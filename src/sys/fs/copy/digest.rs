//! The digest of a tree: of all that a copy of it keeps.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, DirEntry, FileType, Mode, OFlags};
use sha2::{Digest, Sha256};

use super::node;
use super::walk::{DEPTH, reopened};
use crate::sys::fs::listing::entries;
use crate::sys::{Context, SysError, SysResult};

/// Of a tree that nobody changes: SHA-256 as hexadecimal digits, and the length of all its files.
pub fn digest(tree: &OwnedFd) -> SysResult<(String, u64)> {
    let mut walk = Walk { hasher: Sha256::new(), first: HashMap::new(), path: Vec::new(), bytes: 0 };
    walk.directory(&reopened(tree)?, 0)?;
    let digits = walk.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digits, walk.bytes))
}

struct Walk {
    hasher: Sha256,
    /// The first path of files with several names.
    first: HashMap<u64, Vec<u8>>,
    path: Vec<u8>,
    bytes: u64,
}

impl Walk {
    fn directory(&mut self, dir: &OwnedFd, depth: usize) -> SysResult<()> {
        let failed = |errno| SysError::new("read a tree for its digest", errno);
        if depth > DEPTH {
            return Err(failed(rustix::io::Errno::NAMETOOLONG));
        }
        self.field(&node::described(&rustix::fs::fstat(dir).map_err(failed)?));
        self.field(&node::all_xattrs(dir).map_err(failed)?);
        let name = |entry: rustix::io::Result<DirEntry>| Ok(entry?.file_name().to_owned());
        let names = entries(dir).and_then(|all| all.map(name).collect::<rustix::io::Result<Vec<_>>>());
        let mut names = names.map_err(failed)?;
        names.sort();
        let length = self.path.len();
        for name in &names {
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            let stat = rustix::fs::statat(dir, &**name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            let path = self.path.clone();
            self.field(&path);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let below = node::open_dir(dir, name).map_err(failed)?;
                    self.directory(&below, depth + 1)?;
                }
                FileType::RegularFile => {
                    let first =
                        (stat.st_nlink > 1).then(|| self.first.entry(stat.st_ino).or_insert(path.clone()));
                    match first.cloned().filter(|first| *first != path) {
                        // Its content has been read.
                        Some(first) => self.field(&first),
                        None => {
                            self.field(&node::described(&stat));
                            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                            let file =
                                rustix::fs::openat(dir, &**name, flags, Mode::empty()).map_err(failed)?;
                            self.field(&node::all_xattrs(&file).map_err(failed)?);
                            self.content(&file).cannot(|| "read a file for its digest")?;
                        }
                    }
                }
                FileType::Symlink => {
                    self.field(&node::described(&stat));
                    let target = rustix::fs::readlinkat(dir, &**name, Vec::new()).map_err(failed)?;
                    self.field(target.to_bytes());
                }
                _ => self.field(&node::described(&stat)),
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    /// With its length before it, so that no two trees give the same bytes.
    fn field(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn content(&mut self, file: &OwnedFd) -> std::io::Result<()> {
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            let count = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer[..]))?;
            if count == 0 {
                return Ok(());
            }
            self.bytes += count as u64;
            self.hasher.update(&buffer[..count]);
        }
    }
}
