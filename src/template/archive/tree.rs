//! Writing below one directory and nowhere else: every parent is opened beneath the root without
//! following a link, every object is made exclusively, nothing that exists is opened or followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, chownat,
    fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mkfifoat, openat, openat2, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::error::ExtractError;
use super::limits::Budget;
use super::links;
use super::member::Meta;
use super::xattr::Xattr;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The directory that was written to last: entries come in runs.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories get owner, mode, attributes and time when all is written: until then a mode
    /// cannot lock us out, an ACL is not inherited, and a time is not overwritten.
    directories: BTreeMap<Vec<u8>, Meta>,
    dropped_xattrs: u64,
    pub(super) budget: Budget,
}

impl<'a> Tree<'a> {
    /// Takes over an empty directory.
    pub(super) fn new(root: BorrowedFd<'a>, budget: Budget) -> Result<Self, ExtractError> {
        let failed = |errno| ExtractError::write("prepare the target", b"./", errno);
        let listing = openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed)?;
        for entry in rustix::fs::Dir::read_from(&listing).map_err(failed)? {
            if !matches!(entry.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
                return Err(ExtractError::TargetInUse);
            }
        }
        // What is made inherits neither the set-group-id bit nor another group.
        fchown(&listing, Some(Uid::ROOT), Some(Gid::ROOT)).map_err(failed)?;
        fchmod(&listing, Mode::from_raw_mode(0o700)).map_err(failed)?;
        let mut directories = BTreeMap::new();
        directories.insert(Vec::new(), implied_directory());
        Ok(Self { root, parent: None, directories, dropped_xattrs: 0, budget })
    }

    /// A new, empty file to write to; `finish_file` completes it.
    pub(super) fn create_file(&mut self, path: &[u8]) -> Result<File, ExtractError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.make(path, "create", |parent, name| openat(parent, name, flags, Mode::from_raw_mode(0o600)))
            .map(File::from)
    }

    pub(super) fn finish_file(&mut self, path: &[u8], file: &File, meta: &Meta) -> Result<(), ExtractError> {
        self.apply(path, file.as_fd(), meta)
    }

    pub(super) fn directory(&mut self, path: &[u8], meta: Meta) -> Result<(), ExtractError> {
        if !path.is_empty() && !self.directories.contains_key(path) {
            self.make(path, "create the directory", |parent, name| {
                mkdirat(parent, name, Mode::from_raw_mode(0o700))
            })?;
        }
        self.budget.attributes(&meta.xattrs)?;
        self.directories.insert(path.to_vec(), meta);
        Ok(())
    }

    /// The path by which an entry's object is reached without a symbolic link. The links of the way are
    /// followed as a guest would follow them, with the tree as `/`; the last component never is.
    pub(super) fn settle(&mut self, path: Vec<u8>) -> Result<Vec<u8>, ExtractError> {
        let (parent, name) = split(&path);
        if parent.is_empty() || self.parent.as_ref().is_some_and(|(known, _)| known == parent) {
            return Ok(path);
        }
        match self.open(parent, OFlags::PATH) {
            Ok(fd) => self.parent = Some((parent.to_vec(), fd)),
            // The latter also where the parent itself is a link.
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let mut real = links::resolve(self.root, parent, &mut self.budget, &path)?;
                if !real.is_empty() {
                    real.push(b'/');
                }
                real.extend_from_slice(name);
                self.budget.depth(&real)?;
                return Ok(real);
            }
            // What is missing is made.
            Err(_) => {}
        }
        Ok(path)
    }

    /// The same for the target of hard link `entry`.
    pub(super) fn settle_target(&mut self, entry: &[u8], target: Vec<u8>) -> Result<Vec<u8>, ExtractError> {
        self.settle(target.clone()).map_err(|error| match error {
            ExtractError::BelowLink { .. } => ExtractError::LinkTarget {
                entry: ExtractError::show(entry),
                target: ExtractError::show(&target),
                why: "it does not lie in a directory of the archive",
            },
            other => other,
        })
    }

    pub(super) fn symlink(&mut self, path: &[u8], target: &[u8], meta: &Meta) -> Result<(), ExtractError> {
        let (uid, gid) = ids(meta);
        self.dropped_xattrs += meta.xattrs.len() as u64;
        self.make(path, "create the symbolic link", |parent, name| {
            symlinkat(target, parent, name)?;
            if !uid.is_root() || !gid.is_root() {
                chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            utimensat(parent, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    pub(super) fn fifo(&mut self, path: &[u8], meta: &Meta) -> Result<(), ExtractError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = self.make(path, "create the fifo", |parent, name| {
            mkfifoat(parent, name, Mode::from_raw_mode(0o600))?;
            openat(parent, name, flags, Mode::empty())
        })?;
        self.apply(path, fifo.as_fd(), meta)
    }

    /// A second name for a regular file that this archive brought.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ExtractError> {
        let bad = |why| ExtractError::LinkTarget {
            entry: ExtractError::show(path),
            target: ExtractError::show(target),
            why,
        };
        let (target_parent, target_name) = split(target);
        let target_dir = match self.open(target_parent, OFlags::PATH) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Err(bad("it is not extracted earlier")),
            Err(_) => return Err(bad("it does not lie in a directory of the archive")),
        };
        match statat(&target_dir, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {}
            Ok(_) => return Err(bad("it is not a regular file")),
            Err(_) => return Err(bad("it is not extracted earlier")),
        }
        if path == target {
            return Ok(());
        }
        self.make(path, "create the hard link", |parent, name| {
            linkat(&target_dir, target_name, parent, name, AtFlags::empty())
        })
    }

    /// Removes what an entry that is not carried over would have replaced.
    pub(super) fn discard(&mut self, path: &[u8]) -> Result<(), ExtractError> {
        let (parent_path, name) = split(path);
        match statat(self.parent(parent_path, path)?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => self.remove(path),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(ExtractError::write("replace", path, errno)),
        }
    }

    /// Completes the directories, the deeper ones first. Returns how many attributes could not be set.
    pub(super) fn finish(mut self) -> Result<u64, ExtractError> {
        for (path, meta) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = self
                .open(&path, OFlags::RDONLY)
                .map_err(|errno| ExtractError::write("open the directory", &path, errno))?;
            self.apply(&path, directory.as_fd(), &meta)?;
        }
        Ok(self.dropped_xattrs)
    }

    /// Runs `create` for the last component of `path` in its parent; if something has the name,
    /// that is removed first: the later entry of an archive replaces the earlier one.
    fn make<T>(
        &mut self,
        path: &[u8],
        operation: &'static str,
        create: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, ExtractError> {
        let (parent_path, name) = split(path);
        let failed = |errno| ExtractError::write(operation, path, errno);
        let first = create(self.parent(parent_path, path)?, name);
        if !matches!(first, Err(Errno::EXIST)) {
            return first.map_err(failed);
        }
        self.remove(path)?;
        create(self.parent(parent_path, path)?, name).map_err(failed)
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), ExtractError> {
        let (parent_path, name) = split(path);
        let is_directory = self.directories.contains_key(path);
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(self.parent(parent_path, path)?, name, flags) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                return Err(ExtractError::FullDirectory { entry: ExtractError::show(path) });
            }
            Err(errno) => return Err(ExtractError::write("replace", path, errno)),
        }
        if is_directory {
            self.directories.remove(path);
            // It may be the directory that just went.
            self.parent = None;
        }
        Ok(())
    }

    /// The directory `parent`, made where the archive has no entry for it (yet).
    fn parent(&mut self, parent: &[u8], entry: &[u8]) -> Result<BorrowedFd<'_>, ExtractError> {
        if parent.is_empty() {
            return Ok(self.root);
        }
        if self.parent.as_ref().is_none_or(|(path, _)| path != parent) {
            let fd = match self.open(parent, OFlags::PATH) {
                Err(Errno::NOENT) => {
                    self.make_parents(parent, entry)?;
                    self.open(parent, OFlags::PATH)
                }
                other => other,
            };
            let fd = fd.map_err(|errno| not_below(errno, entry))?;
            self.parent = Some((parent.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("set just above");
        Ok(fd.as_fd())
    }

    fn make_parents(&mut self, parent: &[u8], entry: &[u8]) -> Result<(), ExtractError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let ends = parent.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        let mut above: Option<OwnedFd> = None;
        for end in ends.chain([parent.len()]) {
            let path = &parent[..end];
            let name = split(path).1;
            let dir = above.as_ref().map_or(self.root, AsFd::as_fd);
            match mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {
                    self.budget.entry(path)?;
                    self.directories.insert(path.to_vec(), implied_directory());
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(ExtractError::write("create the directory", path, errno)),
            }
            above = Some(openat(dir, name, flags, Mode::empty()).map_err(|errno| not_below(errno, entry))?);
        }
        Ok(())
    }

    fn open(&self, path: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            match openat2(self.root, path, flags, Mode::empty(), BENEATH) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn apply(&mut self, path: &[u8], fd: BorrowedFd<'_>, meta: &Meta) -> Result<(), ExtractError> {
        let failed = |errno| ExtractError::write("set the owner, mode or time of", path, errno);
        let (uid, gid) = ids(meta);
        if !uid.is_root() || !gid.is_root() {
            fchown(fd, Some(uid), Some(gid)).map_err(failed)?;
        }
        // After the owner: changing that clears set-id bits and capabilities.
        fchmod(fd, Mode::from_raw_mode(meta.mode)).map_err(failed)?;
        for xattr in &meta.xattrs {
            self.set_xattr(path, fd, xattr)?;
        }
        if meta.mtime.is_some() {
            futimens(fd, &times(meta)).map_err(failed)?;
        }
        Ok(())
    }

    /// What the file system, the kind of file or the user namespace does not allow is left out.
    fn set_xattr(&mut self, path: &[u8], fd: BorrowedFd<'_>, xattr: &Xattr) -> Result<(), ExtractError> {
        match fsetxattr(fd, &xattr.name[..], &xattr.value, XattrFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL | Errno::TOOBIG | Errno::RANGE) => {
                self.dropped_xattrs += 1;
                Ok(())
            }
            Err(errno) => Err(ExtractError::write("set an attribute of", path, errno)),
        }
    }
}

/// The path of the parent, and the last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

pub(super) fn not_below(errno: Errno, entry: &[u8]) -> ExtractError {
    match errno {
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
            ExtractError::BelowLink { entry: ExtractError::show(entry) }
        }
        _ => ExtractError::write("open the directory of", entry, errno),
    }
}

fn implied_directory() -> Meta {
    Meta { mode: 0o755, uid: 0, gid: 0, mtime: None, xattrs: Vec::new() }
}

fn ids(meta: &Meta) -> (Uid, Gid) {
    (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid))
}

fn times(meta: &Meta) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access: omit, last_modification: meta.mtime.unwrap_or(omit) }
}
