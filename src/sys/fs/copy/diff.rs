//! How trees in layers differ from those that stand on fewer of the same.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use super::walk::{DEPTH, reopened};
use super::{marks, node};
use crate::sys::fs::listing::entries;
use crate::sys::{Context, SysResult};

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Change {
    Added,
    Changed,
    Deleted,
}

/// A path, and what has become of it.
pub type Changed = (Vec<u8>, Change);

/// The most entries that are told.
pub const MOST: usize = 100_000;

/// What `above`, the topmost layer of which is first, makes different from `below`, likewise: paths with what has become
/// of them, sorted. An entry that was written and is as before counts as changed. False: there are more than
/// [`MOST`].
pub fn diff(above: &[OwnedFd], below: &[OwnedFd]) -> SysResult<(Vec<Changed>, bool)> {
    let open = |layers: &[OwnedFd]| layers.iter().map(reopened).collect::<SysResult<Vec<_>>>();
    let mut walk = Walk { found: Vec::new(), path: Vec::new() };
    walk.directory(&open(above)?, &open(below)?, 0).cannot(|| "compare the layers")?;
    walk.found.sort();
    let is_whole = walk.found.len() <= MOST;
    walk.found.truncate(MOST);
    Ok((walk.found, is_whole))
}

struct Walk {
    found: Vec<Changed>,
    path: Vec<u8>,
}

type Result<T> = rustix::io::Result<T>;

impl Walk {
    fn directory(&mut self, above: &[OwnedFd], below: &[OwnedFd], depth: usize) -> Result<()> {
        if depth > DEPTH || self.found.len() > MOST {
            return Ok(());
        }
        let mut names = BTreeSet::new();
        for dir in above {
            names_in(dir, &mut names)?;
        }
        // Directories that hide what is below them are the last in `above`.
        let is_hidden = above.last().is_some_and(|dir| marks::is_opaque(dir).unwrap_or(false));
        if is_hidden {
            for dir in below {
                names_in(dir, &mut names)?;
            }
        }
        let length = self.path.len();
        for name in names {
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            self.entry(&name, above, below, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, name: &CStr, above: &[OwnedFd], below: &[OwnedFd], depth: usize) -> Result<()> {
        let now = topmost(above, name)?;
        let before = topmost(below, name)?.filter(|(_, stat)| !marks::is_whiteout(stat));
        let (place, stat) = match now {
            Some(found) => found,
            // Hidden by the directory above it.
            None => {
                self.note(Change::Deleted);
                return Ok(());
            }
        };
        if marks::is_whiteout(&stat) {
            if before.is_some() {
                self.note(Change::Deleted);
            }
            return Ok(());
        }
        let is_new = before.is_none();
        if !node::is_dir(&stat) {
            self.note(if is_new { Change::Added } else { Change::Changed });
            return Ok(());
        }
        let was_dir = before.as_ref().is_some_and(|(_, stat)| node::is_dir(stat));
        match &before {
            None => self.note(Change::Added),
            Some((_, old)) if !was_dir || looks(old) != looks(&stat) => self.note(Change::Changed),
            Some(_) => {}
        }
        let above = merged(&above[place..], name)?;
        let below = match before {
            Some((place, _)) if was_dir => merged(&below[place..], name)?,
            _ => Vec::new(),
        };
        self.directory(&above, &below, depth + 1)
    }

    fn note(&mut self, change: Change) {
        self.found.push((self.path.clone(), change));
    }
}

/// Owner and mode: what is changed in a directory besides its entries.
fn looks(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode, stat.st_uid, stat.st_gid)
}

fn names_in(dir: &OwnedFd, names: &mut BTreeSet<CString>) -> Result<()> {
    for entry in entries(dir)? {
        names.insert(entry?.file_name().to_owned());
    }
    Ok(())
}

/// The first of the directories that has an entry of that name, and what it is.
fn topmost(dirs: &[OwnedFd], name: &CStr) -> Result<Option<(usize, Stat)>> {
    for (place, dir) in dirs.iter().enumerate() {
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => return Ok(Some((place, stat))),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

/// The directories of that name, as far down as they are seen.
fn merged(dirs: &[OwnedFd], name: &CStr) -> Result<Vec<OwnedFd>> {
    let mut merged = Vec::new();
    for dir in dirs {
        match node::open_dir(dir, name) {
            Ok(dir) => {
                let is_opaque = marks::is_opaque(&dir)?;
                merged.push(dir);
                if is_opaque {
                    break;
                }
            }
            Err(Errno::NOENT) => {}
            // Something else of that name hides what is below.
            Err(Errno::NOTDIR | Errno::LOOP) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(merged)
}
