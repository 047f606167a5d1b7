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
    let mut list = List(Vec::new());
    visit(above, below, &mut list)?;
    let List(mut found) = list;
    found.sort();
    let is_whole = found.len() <= MOST;
    found.truncate(MOST);
    Ok((found, is_whole))
}

/// Has `visitor` see what differs, directories before what is in them, and what is in one by name.
pub fn visit(above: &[OwnedFd], below: &[OwnedFd], visitor: &mut dyn Visit) -> SysResult<()> {
    let open = |layers: &[OwnedFd]| layers.iter().map(reopened).collect::<SysResult<Vec<_>>>();
    let mut walk = Walk { visitor, path: Vec::new() };
    walk.directory(&open(above)?, &open(below)?, 0).cannot(|| "compare the layers")
}

/// An entry.
pub enum Found<'a> {
    Gone,
    /// What it is, and the directory that has it.
    Is {
        change: Change,
        dir: &'a OwnedFd,
        name: &'a CStr,
        stat: &'a Stat,
    },
    /// A directory that is as it was; what is in it may differ.
    Passed {
        dir: &'a OwnedFd,
        name: &'a CStr,
        stat: &'a Stat,
    },
    /// A directory in which nothing is looked at: too many lie in one another.
    TooDeep,
}

/// Who sees what differs.
pub trait Visit {
    fn visit(&mut self, path: &[u8], found: Found<'_>) -> Result<()>;

    /// It has seen enough.
    fn is_full(&self) -> bool;
}

struct List(Vec<Changed>);

impl Visit for List {
    fn visit(&mut self, path: &[u8], found: Found<'_>) -> Result<()> {
        match found {
            Found::Gone => self.0.push((path.to_owned(), Change::Deleted)),
            Found::Is { change, .. } => self.0.push((path.to_owned(), change)),
            Found::Passed { .. } | Found::TooDeep => {}
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.0.len() > MOST
    }
}

struct Walk<'a> {
    visitor: &'a mut dyn Visit,
    path: Vec<u8>,
}

type Result<T> = rustix::io::Result<T>;

impl Walk<'_> {
    fn directory(&mut self, above: &[OwnedFd], below: &[OwnedFd], depth: usize) -> Result<()> {
        if self.visitor.is_full() {
            return Ok(());
        }
        if depth > DEPTH {
            return self.visitor.visit(&self.path, Found::TooDeep);
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
            None if before.is_some() => return self.visitor.visit(&self.path, Found::Gone),
            // Somebody has removed it since it was listed.
            None => return Ok(()),
        };
        if marks::is_whiteout(&stat) {
            return if before.is_some() { self.visitor.visit(&self.path, Found::Gone) } else { Ok(()) };
        }
        let change = if before.is_none() { Change::Added } else { Change::Changed };
        let (dir, stat) = (&above[place], &stat);
        if !node::is_dir(stat) {
            return self.visitor.visit(&self.path, Found::Is { change, dir, name, stat });
        }
        let was_dir = before.as_ref().is_some_and(|(_, stat)| node::is_dir(stat));
        let is_as_before = before.as_ref().is_some_and(|(_, old)| was_dir && looks(old) == looks(stat));
        let found = match is_as_before {
            true => Found::Passed { dir, name, stat },
            false => Found::Is { change, dir, name, stat },
        };
        self.visitor.visit(&self.path, found)?;
        let above = merged(&above[place..], name)?;
        let below = match before {
            Some((place, _)) if was_dir => merged(&below[place..], name)?,
            _ => Vec::new(),
        };
        self.directory(&above, &below, depth + 1)
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
