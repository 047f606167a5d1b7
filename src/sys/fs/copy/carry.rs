//! Files with several names. When a directory that was written to becomes a layer, a write to one name of a file in it
//! would part that name from the others: overlayfs copies up a name at a time. Such files are therefore carried along.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::node;
use super::walk::{DEPTH, reopened};
use crate::sys::fs::listing::entries;
use crate::sys::{Context, SysResult};

/// The part of a tree that leads to regular files with several names.
#[derive(Default)]
struct Linked {
    files: Vec<CString>,
    dirs: Vec<(CString, Linked)>,
}

/// Copies the regular files of `layer` that have several names into the empty directory `upper`, all their names, so
/// that together they look the same. Returns how many names there are.
pub fn carry_links(layer: &OwnedFd, upper: &OwnedFd) -> SysResult<()> {
    let source = reopened(layer)?;
    let linked = linked(&source, 0).cannot(|| "look for files with several names")?;
    let mut copy = Carrying { root: upper, first: HashMap::new(), path: Vec::new() };
    copy.directory(&linked, &source, &reopened(upper)?).cannot(|| "carry files with several names along")
}

fn linked(dir: &OwnedFd, depth: usize) -> rustix::io::Result<Linked> {
    let mut found = Linked::default();
    for entry in entries(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if node::is_regular(&stat) && stat.st_nlink > 1 {
            found.files.push(name.to_owned());
        } else if node::is_dir(&stat) && depth < DEPTH {
            let below = linked(&node::open_dir(dir, name)?, depth + 1)?;
            if !below.files.is_empty() || !below.dirs.is_empty() {
                found.dirs.push((name.to_owned(), below));
            }
        }
    }
    Ok(found)
}

struct Carrying<'a> {
    root: &'a OwnedFd,
    /// The first name of each file in the copy, by its number in the layer.
    first: HashMap<u64, CString>,
    path: Vec<u8>,
}

impl Carrying<'_> {
    fn directory(&mut self, linked: &Linked, source: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
        let length = self.path.len();
        for name in &linked.files {
            self.path.extend_from_slice(name.to_bytes());
            self.file(name, source, target)?;
            self.path.truncate(length);
        }
        for (name, below) in &linked.dirs {
            rustix::fs::mkdirat(target, &**name, Mode::from_raw_mode(0o700))?;
            let (from, to) = (node::open_dir(source, name)?, node::open_dir(target, name)?);
            self.path.extend_from_slice(name.to_bytes());
            self.path.push(b'/');
            self.directory(below, &from, &to)?;
            self.path.truncate(length);
            node::attributes(&from, &to, &rustix::fs::fstat(&from)?, false)?;
        }
        Ok(())
    }

    fn file(&mut self, name: &CString, source: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
        let stat = rustix::fs::statat(source, &**name, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some(first) = self.first.get(&stat.st_ino) {
            match rustix::fs::linkat(self.root, &**first, target, &**name, AtFlags::empty()) {
                Err(Errno::NAMETOOLONG | Errno::MLINK) => {}
                other => return other,
            }
        }
        node::regular((source.as_fd(), name), (target.as_fd(), name), &stat, false, &mut |_| {})?;
        if let Ok(path) = CString::new(self.path.clone()) {
            self.first.entry(stat.st_ino).or_insert(path);
        }
        Ok(())
    }
}
