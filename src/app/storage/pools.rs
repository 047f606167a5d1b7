//! Which pools an instance has.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::app::error::AppResult;
use crate::app::instance::{App, pool_dirs};
use crate::model::pool::{Pool, PoolName};

/// The names of all, the one that is always there first.
pub fn names(app: &App) -> AppResult<Vec<PoolName>> {
    pool_dirs::names(&app.store)
}

/// The same of those whose disks are mounted.
pub fn present(app: &App) -> AppResult<Vec<PoolName>> {
    Ok(names(app)?.into_iter().filter(|name| open(app, name).is_ok()).collect())
}

/// The pool of that name, which is not the one that is always there.
pub fn find(app: &App, name: &PoolName) -> AppResult<Pool> {
    pool_dirs::find(&app.store, name)
}

/// The directory that is the pool.
pub fn path(app: &App, name: &PoolName) -> AppResult<PathBuf> {
    pool_dirs::path(&app.instance, &app.store, name)
}

/// Opens it, for path lookups only: its content belongs to the storage ids.
pub fn open(app: &App, name: &PoolName) -> AppResult<OwnedFd> {
    pool_dirs::open(&app.instance, &app.store, name)
}
