//! What is done about pools as a whole: they are made, described, changed and deleted.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::StatVfs;

use super::pools::{find, names, open, path};
use super::{contents, layers, quota, trash};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, lock};
use crate::app::operations;
use crate::model::name::Name;
use crate::model::natural;
use crate::model::operation::{Operation, OperationKind};
use crate::model::pool::{Pool, PoolName};
use crate::store::StoreError;
use crate::sys::fs::mountinfo::Mounts;
use crate::sys::{Context, error_text};

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
        let made = make(app, new);
        if made.is_err() {
            app.store.delete_pool(&new.name)?;
        }
        made
    });
    app.store.end_operation(&operation, made.as_ref().err().map(ToString::to_string).as_deref())?;
    made
}

/// Makes its directory, to which the owner must get, and in which nothing may be. Safe to do twice.
fn make(app: &mut App, new: &Pool) -> AppResult<()> {
    app.broker.make_pool(&new.directory)?;
    if let Err(e) = open(app, &new.name) {
        let _ = app.broker.remove_pool(&new.directory);
        return Err(e);
    }
    let checked = refuse_full(app, new);
    if checked.is_err() {
        app.forget_pool(&new.name);
    }
    checked
}

/// Refuses what an earlier installation has left: nobody here knows whose files those are.
fn refuse_full(app: &mut App, new: &Pool) -> AppResult<()> {
    if contents::names(app, &new.name, ".")?.is_empty() {
        return Ok(());
    }
    let path = path(app, &new.name)?;
    Err(AppError::advised(
        format!("there are files in {} that no container here is known to have", path.display()),
        "move the directory away; if the database was lost, 'nagaya repair' finds containers and their pools again"
            .to_owned(),
    ))
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

/// Deletes a pool in which nothing is.
pub fn delete(app: &mut App, name: &PoolName) -> AppResult<()> {
    let pool = deletable(app, name)?;
    let users = app.store.pool_users(name)?;
    if !users.is_empty() {
        return Err(StoreError::PoolInUse { name: name.clone(), users }.into());
    }
    match open(app, name) {
        Ok(_) => {}
        Err(AppError::PoolUnavailable { source, .. }) => {
            return Err(AppError::advised(
                format!("storage pool '{name}' is not there to be deleted: {}", error_text(&source)),
                format!("mount its disk; if that is gone for good: nagaya storage delete {name} --lost"),
            ));
        }
        Err(e) => return Err(e),
    }
    if let Some(volume) = app.store.volumes(Some(name))?.into_iter().next() {
        return Err(StoreError::PoolHasVolumes { pool: name.clone(), volume: volume.name }.into());
    }
    forget(app, &pool)
}

/// Refuses to delete the pool that is always there.
pub fn deletable(app: &App, name: &PoolName) -> AppResult<Pool> {
    match name.is_default_one() {
        false => find(app, name),
        true => Err(AppError::advised(
            "the pool 'default' has the templates, and is always there".to_owned(),
            "'nagaya setup --remove' removes all that nagaya has on this host".to_owned(),
        )),
    }
}

/// Deletes a pool that no container is in any more.
pub fn forget(app: &mut App, pool: &Pool) -> AppResult<()> {
    let _lock = lock::pool_work(&app.instance)?;
    let operation = operations::of_pool(app, OperationKind::StorageDelete, pool.name.as_str())?;
    let deleted = remove(app, pool);
    app.store.end_operation(&operation, deleted.as_ref().err().map(ToString::to_string).as_deref())?;
    deleted
}

/// Finishes what a killed command has begun, or forgets a pool that cannot be made. The caller has the whole pool locked.
pub fn settle(app: &mut App, operation: &Operation) -> AppResult<()> {
    let Ok(name) = PoolName::new(&operation.subject) else { return Ok(()) };
    let Some(pool) = app.store.pool(&name)? else { return Ok(()) };
    // Another command has begun to use it.
    if !app.store.pool_users(&name)?.is_empty() || !app.store.volumes(Some(&name))?.is_empty() {
        return Ok(());
    }
    if operation.kind != OperationKind::StorageCreate {
        return remove(app, &pool);
    }
    if let Err(e) = make(app, &pool) {
        tracing::warn!("cannot make storage pool '{name}', whose command was killed: {}", error_text(&e));
        app.store.delete_pool(&name)?;
    }
    Ok(())
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
        contents::remove_dirs(app, &found.name)?;
        app.broker.remove_pool(&found.directory)?;
    }
    app.forget_pool(&found.name);
    Ok(app.store.delete_pool(&found.name)?)
}
