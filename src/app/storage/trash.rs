//! What nobody needs any more: it is moved out of the way at once, and deleted in the background.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{pools, worker};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::instance::layout::POOL_TRASH;
use crate::model::pool::PoolName;
use crate::sys::fs::{erase, listing};
use crate::sys::kernel::random::random;
use crate::sys::process::failed::Subject;
use crate::sys::process::storage_ns;
use crate::sys::{Context, SysError, SysResult};

/// Moves the tree at `path` below the pool there; no error if there is none. For a worker.
pub(super) fn discard(pool: &OwnedFd, path: &str) -> SysResult<()> {
    loop {
        match worker::make_dir(pool, POOL_TRASH, 0o700) {
            // Not even a directory can be made: it goes at once, and what it took is free.
            Err(e) if is_full(&e) => return worker::delete_tree(pool, path),
            made => made?,
        }
        let name = format!("{POOL_TRASH}/{:016x}", random()?);
        match rustix::fs::renameat(pool, path, pool, &*name) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) if worker::exists(pool, path)? => {
                // The trash has just been found empty, and removed.
            }
            Err(Errno::NOENT) => {
                let _ = rustix::fs::unlinkat(pool, POOL_TRASH, AtFlags::REMOVEDIR);
                return Ok(());
            }
            Err(e) => return Err(SysError::new(format!("move {path} in the pool to the trash"), e)),
        }
    }
}

fn is_full(error: &SysError) -> bool {
    let errno = error.errno().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT))
}

/// Whether something in this pool waits to be deleted. One system call.
fn is_waiting(app: &mut App, name: &PoolName) -> bool {
    app.pool(name).is_ok_and(|pool| worker::exists(pool, POOL_TRASH).unwrap_or(false))
}

/// Has a process delete what waits, unless one is at it. It goes on after this command; where it is killed, the
/// next command starts another one.
pub fn empty_in_background(app: &mut App) -> AppResult<()> {
    for name in pools::names(app)? {
        if is_waiting(app, &name) {
            let (namespace, pool) = app.storage(&name)?;
            storage_ns::leave(namespace, pool, || empty(pool, true))?;
        }
    }
    Ok(())
}

/// Deletes what waits in a pool before it returns, or waits for whoever is at it.
pub fn empty_now(app: &mut App, name: &PoolName) -> AppResult<()> {
    match is_waiting(app, name) {
        true => worker::work(app, name, |pool| empty(pool, false)),
        false => Ok(()),
    }
}

/// `in_background`: it is left to whoever is at it.
fn empty(pool: &OwnedFd, in_background: bool) -> SysResult<()> {
    loop {
        let dir = match worker::open_readable(pool, POOL_TRASH) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.cannot(|| "open the pool's trash")?,
        };
        // Until this process ends or the directory is another one.
        let how = match in_background {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::LockExclusive,
        };
        match rustix::fs::flock(&dir, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(e) => return Err(SysError::new("lock the pool's trash", e)),
        }
        // Whoever had the lock before may have removed it.
        if rustix::fs::fstat(&dir).cannot(|| "look at the pool's trash")?.st_nlink == 0 {
            continue;
        }
        for entry in listing::entries(&dir).cannot(|| "list the pool's trash")?.flatten() {
            let name = entry.file_name();
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(tree) = rustix::fs::openat(&dir, name, flags, Mode::empty()) else { continue };
            erase::empty_dir(tree.as_fd(), &mut Subject::empty())?;
            let _ = rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR);
        }
        match rustix::fs::unlinkat(pool, POOL_TRASH, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // There is more since.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(SysError::new("remove the pool's trash", e)),
        }
    }
}
