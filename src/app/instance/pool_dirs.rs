//! Where an owner's pools are: one that is always there, and others in directories that the owner names.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::layout;
use crate::app::error::{AppError, AppResult};
use crate::model::instance::Instance;
use crate::model::pool::{Pool, PoolName};
use crate::model::suggest;
use crate::store::Store;
use crate::sys::fs::mount;

/// The names of all, the one that is always there first.
pub fn names(store: &Store) -> AppResult<Vec<PoolName>> {
    let others = store.pools()?.into_iter().map(|pool| pool.name);
    Ok(std::iter::once(PoolName::default_one()).chain(others).collect())
}

/// The pool of that name, which is not the one that is always there.
pub fn find(store: &Store, name: &PoolName) -> AppResult<Pool> {
    if let Some(found) = store.pool(name)? {
        return Ok(found);
    }
    let all = names(store)?;
    let nearest = suggest::nearest(name.as_str(), all.iter().map(PoolName::as_str)).map(str::to_owned);
    Err(AppError::NoPool { name: name.clone(), nearest })
}

/// The directory that is the pool.
pub fn path(instance: &Instance, store: &Store, name: &PoolName) -> AppResult<PathBuf> {
    match name.is_default_one() {
        true => Ok(instance.state_dir().join("pool")),
        false => Ok(layout::pool_in(instance, &find(store, name)?.directory)),
    }
}

/// Opens it, for path lookups only: its content belongs to the storage ids.
pub fn open(instance: &Instance, store: &Store, name: &PoolName) -> AppResult<OwnedFd> {
    let path = path(instance, store, name)?;
    mount::open_dir(&path.to_string_lossy()).map_err(|error| match name.is_default_one() {
        true => error.into(),
        false => AppError::PoolUnavailable { name: name.clone(), source: error },
    })
}
