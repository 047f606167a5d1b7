//! File work in the pool, done by the storage slice: making, emptying and naming trees.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::context::App;
use super::error::{AppError, AppResult};
use super::layout::{self, POOL_CONTAINERS, POOL_TEMPLATES, POOL_TMP};
use crate::model::name::ContainerId;
use crate::model::template::TemplateId;
use crate::sys::error_text;
use crate::sys::storage_ns::{self, Running};
use crate::sys::{Context, SysError, SysResult, erase, forked};

/// Work in the pool that is under way. Dropped, it is ended wherever it is.
#[must_use]
pub struct Working<T>(Running<T, (String, Option<i32>)>);

impl<T: serde::de::DeserializeOwned> Working<T> {
    /// Waits for its end.
    pub fn finish(self) -> AppResult<T> {
        self.0.finish()?.map_err(|(text, errno)| AppError::Sys(SysError::from_worker(&text, errno)))
    }
}

/// Runs `body` as the storage slice, with the pool's directory.
fn work<T>(app: &mut App, body: impl FnOnce(&OwnedFd) -> SysResult<T>) -> AppResult<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    begin_work(app, body)?.finish()
}

/// The same while the caller does something else.
fn begin_work<T>(app: &mut App, body: impl FnOnce(&OwnedFd) -> SysResult<T>) -> AppResult<Working<T>>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let (namespace, pool) = app.storage()?;
    let begun = storage_ns::start(namespace, pool, || body(pool).map_err(|e| (error_text(&e), e.errno())))?;
    Ok(Working(begun))
}

/// Opens a directory below the pool by its path relative to it.
pub fn open(pool: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(pool, path, flags, Mode::empty())
}

/// The same, to list and to make entries in: for the storage slice only.
pub fn open_readable(pool: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(pool, path, flags, Mode::empty())
}

/// Makes a directory that others than its owner may pass through, if it is not there.
fn make_dir(pool: &OwnedFd, path: &str, mode: u32) -> SysResult<()> {
    match rustix::fs::mkdirat(pool, path, Mode::from_raw_mode(mode)) {
        Ok(()) => rustix::fs::chmodat(pool, path, Mode::from_raw_mode(mode), AtFlags::empty())
            .cannot(|| format!("set the mode of {path} in the pool")),
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(SysError::new(format!("make {path} in the pool"), e)),
    }
}

/// Makes the directories of a new container: an empty overlay.
pub fn make_container(app: &mut App, id: &ContainerId) -> AppResult<Working<()>> {
    let data = layout::data_in_pool(id);
    begin_work(app, |pool| {
        make_dir(pool, POOL_CONTAINERS, 0o711)?;
        make_dir(pool, &data, 0o700)?;
        // The overlay's root shows the owner and mode of `upper`.
        make_dir(pool, &format!("{data}/upper"), 0o755)?;
        make_dir(pool, &format!("{data}/work"), 0o700)
    })
}

/// Deletes the tree at `path` below the pool; none is fine.
fn delete_tree(pool: &OwnedFd, path: &str) -> SysResult<()> {
    let dir = match open(pool, path) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(SysError::new(format!("open {path} in the pool"), e)),
    };
    let mut subject = forked::Subject::empty();
    erase::empty_dir(dir.as_fd(), &mut subject)
        .map_err(|e| SysError::new(format!("{} of {path} in the pool", e.what), e.errno))?;
    match rustix::fs::unlinkat(pool, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(SysError::new(format!("delete {path} in the pool"), e)),
    }
}

pub fn delete_container(app: &mut App, id: &ContainerId) -> AppResult<Working<()>> {
    let data = layout::data_in_pool(id);
    begin_work(app, |pool| delete_tree(pool, &data))
}

pub fn delete_template(app: &mut App, id: &TemplateId) -> AppResult<()> {
    let tree = layout::template_in_pool(id);
    work(app, |pool| delete_tree(pool, &tree))
}

/// Name of a piece of work's temporary directory, relative to the pool.
pub fn work_dir(work: &str) -> String {
    format!("{POOL_TMP}/{work}")
}

/// Makes the temporary directory of a piece of work, with an empty `tree` and an empty `scratch`.
pub fn begin(app: &mut App, work_id: &str) -> AppResult<()> {
    let dir = work_dir(work_id);
    work(app, |pool| {
        make_dir(pool, POOL_TMP, 0o711)?;
        make_dir(pool, &dir, 0o711)?;
        make_dir(pool, &format!("{dir}/tree"), 0o755)?;
        make_dir(pool, &format!("{dir}/scratch"), 0o711)
    })
}

/// Deletes the temporary directory of a piece of work.
pub fn discard(app: &mut App, work_id: &str) -> AppResult<()> {
    let dir = work_dir(work_id);
    work(app, |pool| delete_tree(pool, &dir))
}

/// Makes the unpacked tree of a piece of work the content of template `id`, once all of it is on
/// disk. A tree that stands there without being known to the database is replaced.
pub fn publish(app: &mut App, work_id: &str, id: &TemplateId) -> AppResult<()> {
    let (from, to) = (format!("{}/tree", work_dir(work_id)), layout::template_in_pool(id));
    work(app, |pool| {
        make_dir(pool, POOL_TEMPLATES, 0o711)?;
        let dir = open_readable(pool, &from).cannot(|| "open the unpacked tree")?;
        rustix::fs::syncfs(&dir).cannot(|| "write the template to disk")?;
        delete_tree(pool, &to)?;
        rustix::fs::renameat(pool, &*from, pool, &*to).cannot(|| "put the template in place")
    })
}

/// Names directly below `path` of the pool; empty where it does not exist.
pub fn names(app: &mut App, path: &'static str) -> AppResult<Vec<String>> {
    work(app, |pool| {
        let dir = match open_readable(pool, path) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(e) => return Err(SysError::new(format!("open {path} in the pool"), e)),
        };
        let entries = rustix::fs::Dir::read_from(&dir).cannot(|| format!("list {path} in the pool"))?;
        let names = entries.flatten().filter_map(|e| e.file_name().to_str().ok().map(str::to_owned));
        Ok(names.filter(|n| n != "." && n != "..").collect())
    })
}

/// Deletes all that is in the pool.
pub fn empty(app: &mut App) -> AppResult<()> {
    work(app, |pool| {
        for path in [POOL_TMP, POOL_CONTAINERS, POOL_TEMPLATES] {
            delete_tree(pool, path)?;
        }
        Ok(())
    })
}

/// Deletes `name` directly below `dir` of the pool.
pub fn delete_in(app: &mut App, dir: &'static str, name: &str) -> AppResult<()> {
    let path = format!("{dir}/{name}");
    work(app, |pool| delete_tree(pool, &path))
}
