//! File work in the pool, done as root of the storage ids.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::pool::PoolName;
use crate::sys::error_text;
use crate::sys::fs::erase;
use crate::sys::process::failed::Subject;
use crate::sys::process::interrupt;
use crate::sys::process::report::{Running, Tell, Unwatched, Watch};
use crate::sys::process::storage_ns;
use crate::sys::process::storage_ns::Job;
use crate::sys::{Context, SysError, SysResult};

/// Work in the pool that is under way. Dropping it ends the work wherever it is.
#[must_use]
pub struct Working<T>(Running<Result<T, (String, Option<i32>)>>);

impl<T: serde::de::DeserializeOwned> Working<T> {
    /// Waits for its end.
    pub fn finish(self) -> AppResult<T> {
        self.0.finish()?.map_err(|(text, errno)| AppError::Sys(SysError::from_worker(&text, errno)))
    }
}

/// Runs `body` as root of the storage ids, with the directory of the pool `name`.
pub fn work<T>(app: &mut App, name: &PoolName, body: impl FnOnce(&OwnedFd) -> SysResult<T>) -> AppResult<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    begin_work(app, name, body)?.finish()
}

/// The same for work that copies trees.
pub fn copying<T>(app: &mut App, name: &PoolName, body: impl FnOnce(&OwnedFd) -> SysResult<T>) -> AppResult<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    copying_from(app, name, &[], &mut Unwatched, |pool, _| body(pool))
}

/// The same, followed by `watch`, who is told how many bytes are done; the work is given `kept`, too.
pub fn copying_from<T>(
    app: &mut App,
    name: &PoolName,
    kept: &[BorrowedFd<'_>],
    watch: &mut dyn Watch,
    body: impl FnOnce(&OwnedFd, Tell<'_>) -> SysResult<T>,
) -> AppResult<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let (namespace, pool) = app.storage(name)?;
    let job = Job { namespace, root: pool, kept };
    let body = |tell: Tell<'_>| body(pool, tell).map_err(|e| (error_text(&e), e.errno()));
    match storage_ns::copy_with(&job, body, watch) {
        Ok(done) => done.map_err(|(text, errno)| AppError::Sys(SysError::from_worker(&text, errno))),
        Err(_) if interrupt::pending() => Err(AppError::Interrupted),
        Err(e) => Err(e.into()),
    }
}

/// As `work`, while the caller does something else.
pub fn begin_work<T>(
    app: &mut App,
    name: &PoolName,
    body: impl FnOnce(&OwnedFd) -> SysResult<T>,
) -> AppResult<Working<T>>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    begin(app, name, false, body)
}

/// The same; `copies`: it copies what files have besides their content.
pub fn begin<T>(
    app: &mut App,
    name: &PoolName,
    copies: bool,
    body: impl FnOnce(&OwnedFd) -> SysResult<T>,
) -> AppResult<Working<T>>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let (namespace, pool) = app.storage(name)?;
    let body = || body(pool).map_err(|e| (error_text(&e), e.errno()));
    let begun = match copies {
        true => storage_ns::start_copying(namespace, pool, body),
        false => storage_ns::start(namespace, pool, body),
    };
    Ok(Working(begun?))
}

/// Opens a directory below the pool by its path relative to it.
pub fn open(pool: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(pool, path, flags, Mode::empty())
}

/// The same, for listing and making entries: only root of the storage ids can.
pub fn open_readable(pool: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(pool, path, flags, Mode::empty())
}

/// The same, for a tree that must be there.
pub fn open_tree(pool: &OwnedFd, path: &str) -> SysResult<OwnedFd> {
    open_readable(pool, path).cannot(|| format!("open {path} in the pool"))
}

/// Makes a directory that others than its owner may pass through, if it is not there.
pub fn make_dir(pool: &OwnedFd, path: &str, mode: u32) -> SysResult<()> {
    match rustix::fs::mkdirat(pool, path, Mode::from_raw_mode(mode)) {
        Ok(()) => rustix::fs::chmodat(pool, path, Mode::from_raw_mode(mode), AtFlags::empty())
            .cannot(|| format!("set the mode of {path} in the pool")),
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(SysError::new(format!("make {path} in the pool"), e)),
    }
}

/// Whether there is something at `path` below the pool.
pub fn exists(pool: &OwnedFd, path: &str) -> SysResult<bool> {
    match rustix::fs::statat(pool, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(SysError::new(format!("look at {path} in the pool"), e)),
    }
}

/// Deletes the tree at `path` below the pool; it is no error if there is none.
pub fn delete_tree(pool: &OwnedFd, path: &str) -> SysResult<()> {
    let dir = match open(pool, path) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(SysError::new(format!("open {path} in the pool"), e)),
    };
    let mut subject = Subject::empty();
    erase::empty_dir(dir.as_fd(), &mut subject)
        .map_err(|e| SysError::new(format!("{} of {path} in the pool", e.what), e.errno))?;
    match rustix::fs::unlinkat(pool, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(SysError::new(format!("delete {path} in the pool"), e)),
    }
}

/// Makes the directories that `path` is in, below the pool.
pub fn make_parents(pool: &OwnedFd, path: &str) -> SysResult<()> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    ends.into_iter().try_for_each(|at| make_dir(pool, &path[..at], 0o711))
}
