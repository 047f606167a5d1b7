//! The walk through trees in layers that copies them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, Stat};
use rustix::io::Errno;

use super::seen::{Known, Seen, Totals};
use super::{marks, node};
use crate::sys::fs::{erase, listing};
use crate::sys::process::failed::Subject;
use crate::sys::{Context, SysError, SysResult};

/// Directories that may lie in one another. Each takes a descriptor for each layer, and some of the stack.
pub const DEPTH: usize = 500;
/// How much of a path is told in an error, in bytes.
const SHOWN: usize = 200;

/// What becomes of the marks by which a layer hides what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// The copy is a layer: it hides the same.
    Kept,
    /// The copy is a whole tree: what is hidden is left out.
    Applied,
}

/// Copies the trees in `layers`, the topmost of which is first, as one into the empty directory `target`. `told`
/// learns how many bytes are done.
pub fn copy(
    layers: &[OwnedFd],
    target: &OwnedFd,
    marks: Marks,
    told: &mut dyn FnMut(u64),
) -> SysResult<Totals> {
    let mut walk = Walk::new(target.as_fd(), marks, told);
    let dirs = layers.iter().enumerate().map(|(number, dir)| reopened(dir).map(|dir| (number, dir)));
    let dirs = dirs.collect::<SysResult<Vec<_>>>()?;
    walk.directory(&dirs, &reopened(target)?, 0)?;
    Ok(walk.totals)
}

/// Gives a directory the owner, mode, attributes and times of another one.
pub fn attributes(source: &OwnedFd, target: &OwnedFd) -> SysResult<()> {
    let (source, target) = (reopened(source)?, reopened(target)?);
    rustix::fs::fstat(&source)
        .and_then(|stat| node::attributes(&source, &target, &stat, false))
        .cannot(|| "copy the owner and mode of a tree")
}

/// The directory, to be listed, with a position of its own.
pub fn reopened(dir: &OwnedFd) -> SysResult<OwnedFd> {
    node::open_dir(dir, c".").cannot(|| "open a tree")
}

/// An entry of the topmost directory that has its name.
struct Entry {
    /// Which of the directories that is.
    place: usize,
    stat: Stat,
}

pub struct Walk<'a> {
    target: BorrowedFd<'a>,
    marks: Marks,
    told: &'a mut dyn FnMut(u64),
    pub totals: Totals,
    /// Where an inode with several names has been copied to, by layer and number.
    links: HashMap<(usize, u64), CString>,
    /// Where in the tree this is.
    path: Vec<u8>,
    /// What was copied in an earlier round, of a tree that changes.
    pub seen: Option<&'a mut Seen>,
}

impl<'a> Walk<'a> {
    pub fn new(target: BorrowedFd<'a>, marks: Marks, told: &'a mut dyn FnMut(u64)) -> Self {
        let (totals, links, path) = (Totals::default(), HashMap::new(), Vec::new());
        Self { target, marks, told, totals, links, path, seen: None }
    }

    /// Makes `target` what the directories of one path are together; the topmost is first.
    pub fn directory(&mut self, dirs: &[(usize, OwnedFd)], target: &OwnedFd, depth: usize) -> SysResult<()> {
        if depth > DEPTH {
            return Err(SysError::new(
                format!("copy '{}'", self.shown()),
                std::io::Error::other(format!("more than {DEPTH} directories lie in one another")),
            ));
        }
        let stat = rustix::fs::fstat(&dirs[0].1).cannot(|| format!("look at '{}'", self.shown()))?;
        let entries = self.entries(dirs)?;
        let length = self.path.len();
        for (name, entry) in &entries {
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            let done = self.entry(dirs, target, name, entry, depth);
            self.path.truncate(length);
            done?;
        }
        if self.seen.is_some() {
            self.remove_others(target, &entries)?;
        }
        node::attributes(&dirs[0].1, target, &stat, self.seen.is_some())
            .cannot(|| format!("copy the owner and mode of '{}'", self.shown()))
    }

    /// What the directories have, each name once.
    fn entries(&self, dirs: &[(usize, OwnedFd)]) -> SysResult<BTreeMap<CString, Entry>> {
        let mut all = BTreeMap::new();
        for (place, (_, dir)) in dirs.iter().enumerate() {
            for entry in listing::entries(dir).cannot(|| format!("list '{}'", self.shown()))? {
                let entry = entry.cannot(|| format!("list '{}'", self.shown()))?;
                let name = entry.file_name();
                if all.contains_key(name) {
                    continue;
                }
                match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => drop(all.insert(name.to_owned(), Entry { place, stat })),
                    Err(Errno::NOENT) if self.may_change() => {}
                    Err(errno) => return Err(self.failed("look at", name, errno)),
                }
            }
        }
        Ok(all)
    }

    fn entry(
        &mut self,
        dirs: &[(usize, OwnedFd)],
        target: &OwnedFd,
        name: &CStr,
        entry: &Entry,
        depth: usize,
    ) -> SysResult<()> {
        let stat = &entry.stat;
        if marks::is_whiteout(stat) && self.marks == Marks::Applied {
            return Ok(());
        }
        if node::is_dir(stat) {
            return self.subdirectory(&dirs[entry.place..], target, name, depth);
        }
        let (layer, dir) = &dirs[entry.place];
        if self.is_as_seen(stat) {
            self.note_link(*layer, stat);
            return Ok(());
        }
        if self.seen.is_some() {
            remove(target, name).map_err(|errno| self.failed("replace", name, errno))?;
        }
        match self.copy(*layer, (dir.as_fd(), name), (target.as_fd(), name), stat) {
            Ok(()) => {
                self.totals.files += 1;
                self.note_seen(stat);
                Ok(())
            }
            Err(errno) if self.may_change() && is_change(errno) => {
                remove(target, name).map_err(|errno| self.failed("remove", name, errno))
            }
            Err(errno) => Err(self.failed("copy", name, errno)),
        }
    }

    fn copy(
        &mut self,
        layer: usize,
        from: (BorrowedFd<'_>, &CStr),
        to: (BorrowedFd<'_>, &CStr),
        stat: &Stat,
    ) -> rustix::io::Result<()> {
        if marks::is_whiteout(stat) {
            return marks::make_whiteout(to.0, to.1);
        }
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&(layer, stat.st_ino))
        {
            match rustix::fs::linkat(self.target, &**first, to.0, to.1, AtFlags::empty()) {
                // A path too long to be named, or a file with as many links as can be: a file of its own.
                Err(Errno::NAMETOOLONG | Errno::MLINK) => {}
                other => return other,
            }
        }
        if node::is_regular(stat) {
            let (told, totals, settles) = (&mut *self.told, &mut self.totals, self.seen.is_some());
            node::regular(from, to, stat, settles, &mut |count| {
                totals.bytes += count;
                told(totals.bytes);
            })?;
        } else {
            node::special(from, to, stat)?;
        }
        self.note_link(layer, stat);
        Ok(())
    }

    /// A directory, together with those of its name in the layers below, as far down as they are seen.
    fn subdirectory(
        &mut self,
        dirs: &[(usize, OwnedFd)],
        target: &OwnedFd,
        name: &CStr,
        depth: usize,
    ) -> SysResult<()> {
        let mut merged = Vec::new();
        let mut is_opaque = false;
        for (number, (layer, parent)) in dirs.iter().enumerate() {
            let dir = match node::open_dir(parent, name) {
                Ok(dir) => dir,
                // It is not in this layer.
                Err(Errno::NOENT) if number > 0 => continue,
                // Something else of that name hides what is below.
                Err(Errno::NOTDIR | Errno::LOOP) if number > 0 => {
                    is_opaque = true;
                    break;
                }
                Err(errno) if self.may_change() && is_change(errno) => return Ok(()),
                Err(errno) => return Err(self.failed("open", name, errno)),
            };
            is_opaque = marks::is_opaque(&dir).map_err(|errno| self.failed("look at", name, errno))?;
            merged.push((*layer, dir));
            if is_opaque {
                break;
            }
        }
        let made = match rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) if self.seen.is_some() => Ok(()),
            other => other,
        };
        made.map_err(|errno| self.failed("make", name, errno))?;
        let copy = match node::open_dir(target, name) {
            // It was a file in an earlier round.
            Err(Errno::NOTDIR | Errno::LOOP) if self.seen.is_some() => remove(target, name)
                .and_then(|()| rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700)))
                .and_then(|()| node::open_dir(target, name)),
            other => other,
        };
        let copy = copy.map_err(|errno| self.failed("open", name, errno))?;
        if is_opaque && self.marks == Marks::Kept {
            marks::make_opaque(&copy).map_err(|errno| self.failed("mark", name, errno))?;
        }
        self.totals.files += 1;
        self.directory(&merged, &copy, depth + 1)
    }

    /// Remembers the first name of an inode that has several.
    fn note_link(&mut self, layer: usize, stat: &Stat) {
        if stat.st_nlink > 1
            && !marks::is_whiteout(stat)
            && let Ok(path) = CString::new(self.path.get(1..).unwrap_or_default())
        {
            self.links.entry((layer, stat.st_ino)).or_insert(path);
        }
    }

    /// Whether somebody may be changing the tree.
    fn may_change(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| !seen.is_last)
    }

    fn failed(&self, doing: &str, name: &CStr, errno: Errno) -> SysError {
        let path = self.shown();
        let name = String::from_utf8_lossy(name.to_bytes());
        let what = if path.ends_with(&*name) { path } else { format!("{path}/{name}") };
        SysError::new(format!("{doing} '{what}' of the tree"), errno)
    }

    /// The path, or its end.
    fn shown(&self) -> String {
        let end = &self.path[self.path.len().saturating_sub(SHOWN)..];
        match String::from_utf8_lossy(end) {
            text if text.is_empty() => "/".to_owned(),
            text => text.escape_debug().to_string(),
        }
    }
}

/// What somebody who changes a tree can make of a name between two looks at it: it is gone, or is of another kind, for
/// which a call or an attribute is none. Where it is not that, the last round fails with the same.
fn is_change(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::LOOP
            | Errno::STALE
            | Errno::NXIO
            | Errno::INVAL
            | Errno::PERM
            | Errno::OPNOTSUPP
    )
}

impl Walk<'_> {
    /// Whether an earlier round has copied the entry as it is.
    fn is_as_seen(&self, stat: &Stat) -> bool {
        let Some(seen) = &self.seen else { return false };
        let known = seen.files.get(&self.path);
        // Its times are compared, and not how long ago that was.
        known.is_some_and(|known| Known::of(stat, i128::MAX).as_ref() == Some(known))
    }

    /// Notes that the entry was copied as it was when `stat` was read.
    fn note_seen(&mut self, stat: &Stat) {
        let Some(seen) = &mut self.seen else { return };
        match Known::of(stat, seen.now) {
            Some(known) => drop(seen.files.insert(self.path.clone(), known)),
            None => drop(seen.files.remove(&self.path)),
        }
    }

    /// Removes what the directory has no more.
    fn remove_others(&self, target: &OwnedFd, entries: &BTreeMap<CString, Entry>) -> SysResult<()> {
        let what = || format!("list the copy of '{}'", self.shown());
        let mut others = Vec::new();
        for entry in listing::entries(target).cannot(what)? {
            let entry = entry.cannot(what)?;
            let name = entry.file_name();
            if !entries.contains_key(name) {
                others.push(name.to_owned());
            }
        }
        others
            .iter()
            .try_for_each(|name| remove(target, name).map_err(|errno| self.failed("remove", name, errno)))
    }
}

/// Removes an entry of the copy, whatever it is; no error if it is not there.
fn remove(target: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(target, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    let dir = node::open_dir(target, name)?;
    erase::empty_dir(dir.as_fd(), &mut Subject::empty()).map_err(|failed| failed.errno)?;
    rustix::fs::unlinkat(target, name, AtFlags::REMOVEDIR)
}
