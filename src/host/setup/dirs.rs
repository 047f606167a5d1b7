//! An instance's directories. Each is made under another name, given away, and only then put in its
//! place: no moment shows one that belongs to root, and none is taken over from somebody else.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::Errno;

use super::error::SetupError;
use super::lock::{self, SetupLock};
use super::owner::{Account, Owner};
use crate::model::instance::Instance;

/// Entered by its owner alone.
const CLOSED: Mode = Mode::RWXU;
/// Passed through by others who know what is in it, listed by its owner alone.
const PASSABLE: Mode = Mode::RWXU.union(Mode::XGRP).union(Mode::XOTH);

/// Root's, for everybody to pass through.
const SHARED: Mode = Mode::from_raw_mode(0o755);

/// The directory that is the pool, in the one that is closed to others.
const POOL: &str = "pool";

/// A directory and the account that it must belong to.
pub struct Place<'a> {
    pub parent: BorrowedFd<'a>,
    pub name: &'a str,
    /// For messages.
    pub path: PathBuf,
    pub owner: Account,
}

/// Makes the state directory and those in it that setup is responsible for.
pub fn ensure_state(
    instance: &Instance,
    owner: &Owner,
    created: &mut Vec<String>,
    lock: &SetupLock,
) -> Result<(), SetupError> {
    let user = Account { uid: owner.uid, gid: owner.gid };
    let storage = Account { uid: owner.storage.base(), gid: owner.storage.base() };
    let path = instance.state_dir();
    let parent = ensure_parent(instance, &path, Some(lock))?;
    let state = Place { parent: parent.as_fd(), name: &base_name(&path), path, owner: user };
    let (state, made) = ensure(&state, CLOSED, Some(lock))?;
    if made {
        created.push(format!("directory {}", instance.state_dir().display()));
    }
    // The service user passes through the pool to the trees that it opens; the state directory is closed to
    // everybody else.
    for (name, owner, mode) in [(POOL, storage, PASSABLE), ("containers", user, CLOSED)] {
        let path = instance.state_dir().join(name);
        let (_, made) = ensure(&Place { parent: state.as_fd(), name, path, owner }, mode, Some(lock))?;
        if made {
            created.push(format!("directory {}", instance.state_dir().join(name).display()));
        }
    }
    Ok(())
}

/// Makes the run directory; true where it was not there. `lock` is that of the caller, if it has it.
pub fn ensure_run(instance: &Instance, owner: Account, lock: Option<&SetupLock>) -> Result<bool, SetupError> {
    let path = instance.run_dir();
    let parent = ensure_parent(instance, &path, lock)?;
    let place = Place { parent: parent.as_fd(), name: &base_name(&path), path, owner };
    ensure(&place, CLOSED, lock).map(|(_, made)| made)
}

/// The last part of a path that we have put together.
pub fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Ordinary users' directories lie in one that root owns and everybody may pass through.
fn ensure_parent(instance: &Instance, path: &Path, lock: Option<&SetupLock>) -> Result<OwnedFd, SetupError> {
    if instance.uid_of_user().is_none() {
        return open_parent(path);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let above = open_parent(parent)?;
    let root = Account { uid: 0, gid: 0 };
    let place =
        Place { parent: above.as_fd(), name: &base_name(parent), path: parent.to_owned(), owner: root };
    ensure(&place, SHARED, lock).map(|(dir, _)| dir)
}

/// The directory above `path`, which only root can write to.
pub fn open_parent(path: &Path) -> Result<OwnedFd, SetupError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(parent, flags, Mode::empty()).map_err(|errno| io("open", parent, errno))
}

/// Opens the directory as it is.
///
/// # Errors
/// When it is a link or a file, or belongs to another account. `None` when nothing is there.
pub fn open_owned(place: &Place<'_>) -> Result<Option<OwnedFd>, SetupError> {
    match open_dir(place.parent, place.name) {
        Ok(dir) => {
            let stat = stat(&dir, &place.path)?;
            let owner = account(&stat);
            if owner != place.owner {
                return Err(SetupError::ForeignDir { path: place.path.clone(), owner, wanted: place.owner });
            }
            Ok(Some(dir))
        }
        Err(Errno::NOENT) => Ok(None),
        // O_NOFOLLOW with O_DIRECTORY says the same of a link as of a file.
        Err(Errno::NOTDIR | Errno::LOOP) => Err(SetupError::NotADirectory { path: place.path.clone() }),
        Err(errno) => Err(io("open", &place.path, errno)),
    }
}

/// Makes a pool in a directory of somebody else's: one that is closed to all but the owner, and in that the one that
/// belongs to the storage ids. What is there must belong to them. The caller may not be root, but root of a user's
/// namespace, and then its owner alone is at work there.
pub fn ensure_pool(place: &Place<'_>, storage: Account) -> Result<(), SetupError> {
    let closed = match open_owned(place)? {
        Some(closed) => closed,
        None => make(place, CLOSED)?,
    };
    let path = place.path.join(POOL);
    let pool = Place { parent: closed.as_fd(), name: POOL, path, owner: storage };
    match open_owned(&pool)? {
        Some(_) => Ok(()),
        None => make(&pool, PASSABLE).map(drop),
    }
}

/// Removes an empty one; no error if there is none.
pub fn remove_pool(parent: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let gone = |removed: Result<(), Errno>| match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    };
    match open_dir(parent, name) {
        Ok(closed) => gone(rustix::fs::unlinkat(&closed, POOL, AtFlags::REMOVEDIR))?,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    }
    gone(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
}

fn ensure(place: &Place<'_>, wanted: Mode, lock: Option<&SetupLock>) -> Result<(OwnedFd, bool), SetupError> {
    if let Some(dir) = open_owned(place)? {
        let mode = Mode::from_raw_mode(stat(&dir, &place.path)?.st_mode);
        if mode & Mode::from_raw_mode(0o7777) != wanted {
            rustix::fs::fchmod(&dir, wanted).map_err(|errno| io("close", &place.path, errno))?;
        }
        return Ok((dir, false));
    }
    // Of several commands that find it missing, as when a host boots, one makes it.
    let _lock = lock.is_none().then(lock::acquire).transpose()?;
    match open_owned(place)? {
        Some(dir) => Ok((dir, false)),
        None => make(place, wanted).map(|dir| (dir, true)),
    }
}

fn make(place: &Place<'_>, mode: Mode) -> Result<OwnedFd, SetupError> {
    let failed = |operation| move |errno| io(operation, &place.path, errno);
    let mut unfinished = OsString::from(".");
    unfinished.push(place.name);
    unfinished.push(".new");
    // What an interrupted setup left is empty; anything else of that name is not ours to delete.
    match rustix::fs::unlinkat(place.parent, &unfinished, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed("clear the way for")(errno)),
    }
    rustix::fs::mkdirat(place.parent, &unfinished, CLOSED).map_err(failed("make"))?;
    let dir = open_dir(place.parent, &unfinished).map_err(failed("open"))?;
    let made = stat(&dir, &place.path)?;
    // The parent may be the service user's, who could have put another directory in its place.
    // Nobody but root can have made one that belongs to root.
    if account(&made) != (Account { uid: 0, gid: 0 }) {
        let owner = account(&made);
        return Err(SetupError::ForeignDir {
            path: place.path.clone(),
            owner,
            wanted: Account { uid: 0, gid: 0 },
        });
    }
    let (uid, gid) = (Uid::from_raw(place.owner.uid), Gid::from_raw(place.owner.gid));
    rustix::fs::fchown(&dir, Some(uid), Some(gid)).map_err(failed("give away"))?;
    rustix::fs::fchmod(&dir, mode).map_err(failed("close"))?;
    rustix::fs::renameat_with(place.parent, &unfinished, place.parent, place.name, RenameFlags::NOREPLACE)
        .map_err(failed("put in place"))?;
    Ok(dir)
}

fn open_dir<P: rustix::path::Arg>(parent: BorrowedFd<'_>, name: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn stat(dir: &OwnedFd, path: &Path) -> Result<Stat, SetupError> {
    rustix::fs::fstat(dir).map_err(|errno| io("look at", path, errno))
}

fn account(stat: &Stat) -> Account {
    Account { uid: stat.st_uid, gid: stat.st_gid }
}

pub fn io(operation: &'static str, path: &Path, errno: Errno) -> SetupError {
    SetupError::Io { operation, path: path.to_owned(), source: errno.into() }
}
