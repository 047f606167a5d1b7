//! The pools of an instance: one that is always there, and others in directories that the owner names.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::StatVfs;

use super::{contents, layers, quota, trash};
use crate::app::containers;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, layout, lock};
use crate::app::operations;
use crate::model::name::Name;
use crate::model::operation::{Operation, OperationKind};
use crate::model::pool::{Pool, PoolName};
use crate::model::{natural, suggest};
use crate::sys::fs::mount;
use crate::sys::fs::mountinfo::Mounts;
use crate::sys::{Context, error_text};

/// The names of all, the one that is always there first.
pub fn names(app: &App) -> AppResult<Vec<PoolName>> {
    let others = app.store.pools()?.into_iter().map(|pool| pool.name);
    Ok(std::iter::once(PoolName::default_one()).chain(others).collect())
}

/// The same of those whose disks are mounted.
pub fn present(app: &App) -> AppResult<Vec<PoolName>> {
    Ok(names(app)?.into_iter().filter(|name| open(app, name).is_ok()).collect())
}

/// The pool of that name, which is not the one that is always there.
pub fn find(app: &App, name: &PoolName) -> AppResult<Pool> {
    if let Some(found) = app.store.pool(name)? {
        return Ok(found);
    }
    let all = names(app)?;
    let nearest = suggest::nearest(name.as_str(), all.iter().map(PoolName::as_str)).map(str::to_owned);
    Err(AppError::NoPool { name: name.clone(), nearest })
}

/// The directory that is the pool.
pub fn path(app: &App, name: &PoolName) -> AppResult<PathBuf> {
    match name.is_default_one() {
        true => Ok(app.instance.state_dir().join("pool")),
        false => Ok(layout::pool_in(&app.instance, &find(app, name)?.directory)),
    }
}

/// Opens it, for path lookups only: its content belongs to the storage ids.
pub fn open(app: &App, name: &PoolName) -> AppResult<OwnedFd> {
    let path = path(app, name)?;
    mount::open_dir(&path.to_string_lossy()).map_err(|error| match name.is_default_one() {
        true => error.into(),
        false => AppError::PoolUnavailable { name: name.clone(), source: error },
    })
}

/// What is known of a pool.
pub struct Described {
    pub name: PoolName,
    pub path: PathBuf,
    pub description: String,
    /// Of the file system that it is on; none where it cannot be opened.
    pub disk: Option<Disk>,
    pub users: Vec<Name>,
}

/// The file system that a pool is on.
pub struct Disk {
    /// Such as `ext4`.
    pub kind: Option<String>,
    /// In bytes.
    pub size: u64,
    pub free: u64,
    /// Files that there can be, and that there can still be; 0 and 0 where the file system does not bound them.
    pub inodes: u64,
    pub free_inodes: u64,
    /// What containers take can be bounded.
    pub quota: bool,
    /// Copies of a file share its blocks until one is changed.
    pub reflink: bool,
}

/// All pools, the one that is always there first.
pub fn list(app: &mut App) -> AppResult<Vec<Described>> {
    let mut names = names(app)?;
    names[1..].sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    names.iter().map(|name| show(app, name)).collect()
}

pub fn show(app: &mut App, name: &PoolName) -> AppResult<Described> {
    let description = match name.is_default_one() {
        true => "Templates, and the containers that are in no other pool".to_owned(),
        false => find(app, name)?.description,
    };
    let path = path(app, name)?;
    let disk = match open(app, name) {
        Ok(dir) => Some(disk(app, name, &dir)?),
        Err(AppError::PoolUnavailable { .. }) => None,
        Err(e) => return Err(e),
    };
    let mut users = app.store.pool_users(name)?;
    users.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    Ok(Described { name: name.clone(), path, description, disk, users })
}

fn disk(app: &mut App, name: &PoolName, dir: &OwnedFd) -> AppResult<Disk> {
    let StatVfs { f_blocks, f_bavail, f_frsize, f_files, f_ffree, .. } =
        rustix::fs::fstatvfs(dir).cannot(|| format!("ask how full pool {name} is"))?;
    let kind = Mounts::read()?.kind_of(dir).map(str::to_owned);
    Ok(Disk {
        kind,
        size: f_blocks * f_frsize,
        free: f_bavail * f_frsize,
        inodes: f_files,
        free_inodes: f_ffree,
        quota: quota::is_counted(app, name)?,
        reflink: contents::can_reflink(app, name)?,
    })
}

/// Makes a pool in a directory that is there.
pub fn create(app: &mut App, new: &Pool) -> AppResult<()> {
    new.check()?;
    let _lock = lock::pool_work(&app.instance)?;
    let operation = operations::of_pool(app, OperationKind::StorageCreate, new.name.as_str())?;
    // Before the directory is made: if the command is killed, the next one finishes it.
    let made = app.store.add_pool(new).map_err(AppError::from).and_then(|()| {
        let made = app.broker.make_pool(&new.directory).map_err(AppError::from);
        let usable = made.and_then(|()| usable(app, new));
        if usable.is_err() {
            app.store.delete_pool(&new.name)?;
        }
        usable
    });
    app.store.end_operation(&operation, made.as_ref().err().map(ToString::to_string).as_deref())?;
    made
}

/// Whether the owner gets to the directory that was made there.
fn usable(app: &mut App, new: &Pool) -> AppResult<()> {
    let checked = open(app, &new.name).map(drop);
    if checked.is_err() {
        let _ = app.broker.remove_pool(&new.directory);
    }
    checked
}

/// What is to be said of a pool.
pub fn set_description(app: &mut App, name: &PoolName, description: String) -> AppResult<()> {
    if name.is_default_one() {
        return Err(AppError::Refused("the pool 'default' is always there as it is".to_owned()));
    }
    let pool = Pool { description, ..find(app, name)? };
    pool.check()?;
    Ok(app.store.set_pool(&pool)?)
}

/// Deletes a pool in which no container is. `lost`: its disk is gone for good, and the containers in it go with it.
pub fn delete(app: &mut App, name: &PoolName, lost: bool) -> AppResult<()> {
    if name.is_default_one() {
        return Err(AppError::advised(
            "the pool 'default' has the templates, and is always there".to_owned(),
            "'nagaya setup --remove' removes all that nagaya has on this host".to_owned(),
        ));
    }
    let pool = find(app, name)?;
    let users = app.store.pool_users(name)?;
    match (open(app, name), lost) {
        (Ok(_), false) if users.is_empty() => {
            if let Some(volume) = app.store.volumes(Some(name))?.into_iter().next() {
                let (pool, volume) = (name.clone(), volume.name);
                return Err(crate::store::StoreError::PoolHasVolumes { pool, volume }.into());
            }
        }
        (_, false) if !users.is_empty() => {
            return Err(crate::store::StoreError::PoolInUse { name: name.clone(), users }.into());
        }
        (Ok(_), true) => {
            return Err(AppError::advised(
                format!("storage pool '{name}' is there: it is not lost"),
                format!("delete its containers, and then: nagaya storage delete {name}"),
            ));
        }
        (Err(AppError::PoolUnavailable { source, .. }), false) => {
            return Err(AppError::advised(
                format!("storage pool '{name}' is not there to be deleted: {}", error_text(&source)),
                format!("mount its disk; if that is gone for good: nagaya storage delete {name} --lost"),
            ));
        }
        (Err(AppError::PoolUnavailable { .. }), true) => app.lose_pool(name),
        (other, _) => drop(other?),
    }
    for user in users {
        containers::delete::delete(app, &user, true)?;
    }
    let _lock = lock::pool_work(&app.instance)?;
    let operation = operations::of_pool(app, OperationKind::StorageDelete, name.as_str())?;
    let deleted = remove(app, &pool);
    app.store.end_operation(&operation, deleted.as_ref().err().map(ToString::to_string).as_deref())?;
    deleted
}

/// Finishes what a killed command has begun, or forgets a pool that cannot be made. The caller has the whole pool locked.
pub fn settle(app: &mut App, operation: &Operation) -> AppResult<()> {
    let Ok(name) = PoolName::new(&operation.subject) else { return Ok(()) };
    let Some(pool) = app.store.pool(&name)? else { return Ok(()) };
    match operation.kind {
        OperationKind::StorageCreate => {
            let made = app.broker.make_pool(&pool.directory).map_err(AppError::from);
            if let Err(e) = made.and_then(|()| usable(app, &pool)) {
                tracing::warn!(
                    "storage pool '{name}', whose command was killed, cannot be made: {}",
                    error_text(&e)
                );
                app.store.delete_pool(&name)?;
            }
            Ok(())
        }
        _ if !app.store.pool_users(&name)?.is_empty() => Ok(()),
        _ => remove(app, &pool),
    }
}

/// Its files first. Safe to do twice.
fn remove(app: &mut App, found: &Pool) -> AppResult<()> {
    if app.has_lost(&found.name) {
        app.store.forget_layers_of(&found.name)?;
        for volume in app.store.volumes(Some(&found.name))? {
            app.store.delete_volume(&volume.pool, &volume.name)?;
        }
        // Where the directory is there, the disk is not: the broker has to know that the pool is not, either.
        if let Err(e) = app.broker.remove_pool(&found.directory) {
            tracing::warn!("{}", error_text(&e));
        }
    } else {
        layers::clean(app)?;
        trash::empty_now(app, &found.name)?;
        contents::empty(app, &found.name)?;
        app.broker.remove_pool(&found.directory)?;
    }
    app.forget_pool(&found.name);
    Ok(app.store.delete_pool(&found.name)?)
}
