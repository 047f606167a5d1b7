//! What a container has of its own in the pool: the directory that its overlay writes to. It is sealed, put aside,
//! taken back or merged with what is below it. Each of these can be undone for as long as the container has not run.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Stat};

use super::worker::{delete_tree, exists, make_dir, open_tree};
use super::{trash, worker};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::instance::layout;
use crate::app::instance::layout::POOL_LAYERS;
use crate::model::container::Container;
use crate::model::layer::LayerId;
use crate::model::name::ContainerId;
use crate::model::pool::PoolName;
use crate::sys::fs::{copy, listing};
use crate::sys::process::report::Watch;
use crate::sys::{Context, SysResult};

/// The mode of a root directory that nobody has changed.
const ROOT_MODE: u32 = 0o755;
const WORK_MODE: u32 = 0o700;

fn rename(pool: &OwnedFd, from: &str, to: &str) -> SysResult<()> {
    rustix::fs::renameat(pool, from, pool, to).cannot(|| format!("rename {from} to {to} in the pool"))
}

/// A directory to write to, and the one that overlayfs works in. Its root is as that of `like`, the topmost layer, and
/// files with several names are copied from there: each layer has all of those, so that they stay one file.
pub(super) fn make_upper(pool: &OwnedFd, data: &str, like: Option<&str>) -> SysResult<()> {
    make_dir(pool, &format!("{data}/work"), WORK_MODE)?;
    // Under another name until it is whole: a killed worker leaves the one that is whole or none, see `restore_uppers`.
    let next = format!("{data}/next");
    delete_tree(pool, &next)?;
    // The overlay's root shows the owner and mode of this directory.
    make_dir(pool, &next, ROOT_MODE)?;
    if let Some(like) = like {
        let (like, next) = (open_tree(pool, like)?, open_tree(pool, &next)?);
        copy::carry_links(&like, &next)?;
        copy::attributes(&like, &next)?;
    }
    rename(pool, &next, &format!("{data}/upper"))
}

/// Gives containers a directory to write to where they have none: a command was killed while it made another, and the
/// database that would tell of that is lost. What was put aside comes back; otherwise it is empty, and its root is as
/// that of the container's topmost layer, which is named beside it.
pub fn restore_uppers(
    app: &mut App,
    pool: &PoolName,
    containers: &[(ContainerId, Option<LayerId>)],
) -> AppResult<()> {
    worker::copying(app, pool, |pool| {
        for (id, top) in containers {
            let data = layout::data_in_pool(id);
            let (upper, former) = (format!("{data}/upper"), format!("{data}/former"));
            match (exists(pool, &data)?, exists(pool, &upper)?) {
                (true, false) if exists(pool, &former)? => rename(pool, &former, &upper)?,
                (true, false) => make_upper(pool, &data, top.as_ref().map(layout::layer_in_pool).as_deref())?,
                _ => {}
            }
        }
        Ok(())
    })
}

/// Nobody needs what overlayfs has worked with; whiteouts of the layer may be other names of what is in it.
fn renew_work(pool: &OwnedFd, data: &str) -> SysResult<()> {
    let work = format!("{data}/work");
    delete_tree(pool, &work)?;
    make_dir(pool, &work, WORK_MODE)
}

/// Makes what the container has written a layer, and gives it an empty directory to write to. Where it `goes_on` from
/// there, files with several names are copied into that, and its root looks the same. False if the container has
/// written nothing: nothing is changed then.
pub fn seal(
    app: &mut App,
    container: &Container,
    layer: &LayerId,
    below: Option<&LayerId>,
    goes_on: bool,
) -> AppResult<bool> {
    let (data, layer) = (layout::data_in_pool(&container.id), layout::layer_in_pool(layer));
    let below = below.map(layout::layer_in_pool);
    worker::copying(app, &container.pool, |pool| {
        let upper = format!("{data}/upper");
        if is_untouched(pool, &upper, below.as_deref())? {
            return Ok(false);
        }
        make_dir(pool, POOL_LAYERS, 0o711)?;
        rename(pool, &upper, &layer)?;
        delete_tree(pool, &format!("{data}/work"))?;
        make_upper(pool, &data, Some(&*layer).filter(|_| goes_on))?;
        Ok(true)
    })
}

/// Takes back what was sealed, if it was.
pub fn unseal(app: &mut App, container: &Container, layer: &LayerId) -> AppResult<()> {
    let (data, layer) = (layout::data_in_pool(&container.id), layout::layer_in_pool(layer));
    worker::work(app, &container.pool, |pool| {
        if exists(pool, &layer)? {
            trash::discard(pool, &format!("{data}/upper"))?;
            rename(pool, &layer, &format!("{data}/upper"))?;
        }
        renew_work(pool, &data)
    })
}

/// Whether the directory has no entry, and is as what it stands on.
fn is_untouched(pool: &OwnedFd, upper: &str, below: Option<&str>) -> SysResult<bool> {
    let what = || format!("look at {upper} in the pool");
    let dir = open_tree(pool, upper)?;
    let is_empty = listing::entries(&dir).cannot(what)?.next().is_none();
    let stat = rustix::fs::fstat(&dir).cannot(what)?;
    let looks = |stat: &Stat| (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    let wanted = match below {
        Some(below) => looks(&rustix::fs::statat(pool, below, AtFlags::SYMLINK_NOFOLLOW).cannot(what)?),
        None => (ROOT_MODE, 0, 0),
    };
    Ok(is_empty && looks(&stat) == wanted)
}

/// Puts what the container has written aside, and gives it an empty directory to write to, for a root whose topmost
/// layer is `top`.
pub fn put_aside(app: &mut App, container: &Container, top: Option<&LayerId>) -> AppResult<()> {
    let (data, top) = (layout::data_in_pool(&container.id), top.map(layout::layer_in_pool));
    worker::copying(app, &container.pool, |pool| {
        let (upper, former) = (format!("{data}/upper"), format!("{data}/former"));
        // Of an operation that has ended.
        trash::discard(pool, &former)?;
        rename(pool, &upper, &former)?;
        delete_tree(pool, &format!("{data}/work"))?;
        make_upper(pool, &data, top.as_deref())
    })
}

/// Merges what the container has written with the layers below it, the lowest of which is first, into what it has of
/// its own. `watch` learns how many bytes are done.
pub fn merge(
    app: &mut App,
    container: &Container,
    layers: &[LayerId],
    watch: &mut dyn Watch,
) -> AppResult<()> {
    let data = layout::data_in_pool(&container.id);
    let layers: Vec<String> = layers.iter().rev().map(layout::layer_in_pool).collect();
    worker::copying_from(app, &container.pool, &[], watch, |pool, tell| {
        let (upper, merged) = (format!("{data}/upper"), format!("{data}/merged"));
        trash::discard(pool, &merged)?;
        make_dir(pool, &merged, 0o700)?;
        let trees = std::iter::once(&upper).chain(&layers).map(|path| open_tree(pool, path));
        let trees = trees.collect::<SysResult<Vec<_>>>()?;
        copy::copy(&trees, &open_tree(pool, &merged)?, copy::Marks::Kept, tell)?;
        let former = format!("{data}/former");
        trash::discard(pool, &former)?;
        rename(pool, &upper, &former)?;
        rename(pool, &merged, &upper)?;
        renew_work(pool, &data)
    })
}

/// Takes back what was put aside, if it was.
pub fn take_back(app: &mut App, container: &Container) -> AppResult<()> {
    let data = layout::data_in_pool(&container.id);
    worker::work(app, &container.pool, |pool| {
        let (upper, former) = (format!("{data}/upper"), format!("{data}/former"));
        // At once, not in the background: the disk may be full.
        delete_tree(pool, &format!("{data}/merged"))?;
        if exists(pool, &former)? {
            trash::discard(pool, &upper)?;
            rename(pool, &former, &upper)?;
        }
        renew_work(pool, &data)
    })
}

/// Discards what was put aside.
pub fn drop_former(app: &mut App, container: &Container) -> AppResult<()> {
    let data = layout::data_in_pool(&container.id);
    worker::work(app, &container.pool, |pool| trash::discard(pool, &format!("{data}/former")))?;
    trash::empty_in_background(app)
}
