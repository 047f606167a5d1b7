//! What the pool holds: making, naming and deleting the trees of containers and templates.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

pub use super::worker::{Working, open};
use super::worker::{begin_work, delete_tree, make_dir, open_readable, work};
use super::{pools, quota, trash, trees, worker};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::instance::layout;
use crate::app::instance::layout::{
    POOL_CONTAINERS, POOL_LAYERS, POOL_TEMPLATES, POOL_TMP, POOL_TRASH, POOL_VOLUMES,
};
use crate::model::container::Container;
use crate::model::layer::LayerId;
use crate::model::pool::PoolName;
use crate::model::template::TemplateId;
use crate::sys::fs::listing;
use crate::sys::{Context, SysError, SysResult};

/// Makes the directories of a new container: an empty overlay, whose root is as that of its topmost layer.
pub fn make_container(app: &mut App, container: &Container, top: Option<&LayerId>) -> AppResult<Working<()>> {
    let (data, top) = (layout::data_in_pool(&container.id), top.map(layout::layer_in_pool));
    if quota::is_counted(app, &container.pool)? {
        work(app, &container.pool, |pool| make_data(pool, &data))?;
        quota::begin(app, container)?;
    }
    worker::begin(app, &container.pool, top.is_some(), |pool| {
        make_data(pool, &data)?;
        trees::make_upper(pool, &data, top.as_deref())
    })
}

/// The directory of a container's own.
pub(super) fn make_data(pool: &OwnedFd, data: &str) -> SysResult<()> {
    make_dir(pool, POOL_CONTAINERS, 0o711)?;
    make_dir(pool, data, 0o700)
}

/// Moves all that a container has of its own to the trash.
pub fn delete_container(app: &mut App, container: &Container) -> AppResult<Working<()>> {
    let data = layout::data_in_pool(&container.id);
    begin_work(app, &container.pool, |pool| trash::discard(pool, &data))
}

pub fn delete_template(app: &mut App, id: &TemplateId) -> AppResult<()> {
    let tree = layout::template_in_pool(id);
    work(app, &PoolName::default_one(), |pool| delete_tree(pool, &tree))
}

/// Name of a piece of work's temporary directory, relative to the pool.
pub fn work_dir(work: &str) -> String {
    format!("{POOL_TMP}/{work}")
}

/// Makes the temporary directory of a piece of work, with an empty `tree` and an empty `scratch`.
pub fn begin(app: &mut App, work_id: &str) -> AppResult<()> {
    let dir = work_dir(work_id);
    work(app, &PoolName::default_one(), |pool| {
        make_dir(pool, POOL_TMP, 0o711)?;
        make_dir(pool, &dir, 0o711)?;
        make_dir(pool, &format!("{dir}/tree"), 0o755)?;
        make_dir(pool, &format!("{dir}/scratch"), 0o711)
    })
}

/// Deletes the temporary directory of a piece of work, in whatever pools it has one.
pub fn discard(app: &mut App, work_id: &str) -> AppResult<()> {
    let dir = work_dir(work_id);
    pools::present(app)?.iter().try_for_each(|name| work(app, name, |pool| delete_tree(pool, &dir)))
}

/// Makes the unpacked tree of a piece of work the content of template `id`, once all of it is on disk. It
/// replaces a tree that is there but not in the database.
pub fn publish(app: &mut App, work_id: &str, id: &TemplateId) -> AppResult<()> {
    let (from, to) = (format!("{}/tree", work_dir(work_id)), layout::template_in_pool(id));
    work(app, &PoolName::default_one(), |pool| {
        make_dir(pool, POOL_TEMPLATES, 0o711)?;
        let dir = open_readable(pool, &from).cannot(|| "open the unpacked tree")?;
        rustix::fs::syncfs(&dir).cannot(|| "write the template to disk")?;
        delete_tree(pool, &to)?;
        match rustix::fs::renameat(pool, &*from, pool, &*to) {
            // Another command has put the same content there meanwhile.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            other => other.cannot(|| "put the template in place"),
        }
    })
}

/// Names directly below `path` of the pool; empty where it does not exist.
pub fn names(app: &mut App, name: &PoolName, path: &'static str) -> AppResult<Vec<String>> {
    work(app, name, |pool| {
        let dir = match open_readable(pool, path) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(e) => return Err(SysError::new(format!("open {path} in the pool"), e)),
        };
        let entries = listing::entries(&dir).cannot(|| format!("list {path} in the pool"))?;
        Ok(entries.flatten().filter_map(|e| e.file_name().to_str().ok().map(str::to_owned)).collect())
    })
}

/// Deletes all that is in a pool.
pub fn empty(app: &mut App, name: &PoolName) -> AppResult<()> {
    work(app, name, |pool| {
        for path in [POOL_TMP, POOL_CONTAINERS, POOL_LAYERS, POOL_VOLUMES, POOL_TEMPLATES, POOL_TRASH] {
            delete_tree(pool, path)?;
        }
        Ok(())
    })
}

/// Removes the directories of a pool in which nothing is any more. Refused where something is: another command may have
/// put it there just now.
pub fn remove_dirs(app: &mut App, name: &PoolName) -> AppResult<()> {
    work(app, name, |pool| {
        for path in [POOL_TMP, POOL_CONTAINERS, POOL_LAYERS, POOL_VOLUMES, POOL_TRASH] {
            match rustix::fs::unlinkat(pool, path, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(SysError::new(format!("remove {path} from the pool"), e)),
            }
        }
        Ok(())
    })
}

/// Deletes `name` directly below `dir` of a pool.
pub fn delete_in(app: &mut App, pool: &PoolName, dir: &'static str, name: &str) -> AppResult<()> {
    let path = format!("{dir}/{name}");
    work(app, pool, |pool| delete_tree(pool, &path))
}

/// Whether copies of a file in a pool can share its blocks.
pub fn can_reflink(app: &mut App, name: &PoolName) -> AppResult<bool> {
    worker::copying(app, name, |pool| {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = || rustix::fs::openat(pool, ".", flags, Mode::RUSR | Mode::WUSR);
        let (Ok(from), Ok(to)) = (file(), file()) else { return Ok(false) };
        // No file system shares less than a block.
        let block = rustix::fs::fstat(&from).cannot(|| "look at a file")?.st_blksize.max(4096);
        rustix::io::write(&from, &vec![1; block as usize]).cannot(|| "write a file")?;
        Ok(rustix::fs::ioctl_ficlone(&to, &from).is_ok())
    })
}
