//! Volumes: directories of a pool's own that containers have as disks, and that outlive them. The guests' roots own them.

use std::os::fd::OwnedFd;

use rustix::fs::RenameFlags;

use super::worker::{self, make_dir};
use super::{contents, pools, quota, trash};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::layout::POOL_VOLUMES;
use crate::app::instance::{App, layout, lock};
use crate::app::operations;
use crate::host::api::requests::Setting;
use crate::model::device::{Device, DiskSource};
use crate::model::operation::{Operation, OperationKind};
use crate::model::pool::{PoolName, Volume, VolumeName, VolumeSettings};
use crate::model::suggest;
use crate::sys::fs::quota::Amount;
use crate::sys::fs::usage;
use crate::sys::kernel::clock::now;
use crate::sys::{Context, error_text};

/// As the guests' roots find it at first.
const MODE: u32 = 0o755;

/// The volume of that name.
pub fn find(app: &App, pool: &PoolName, name: &VolumeName) -> AppResult<Volume> {
    if let Some(found) = app.store.volume(pool, name)? {
        return Ok(found);
    }
    if !pool.is_default_one() {
        pools::find(app, pool)?;
    }
    let all = app.store.volumes(Some(pool))?;
    let nearest = suggest::nearest(name.as_str(), all.iter().map(|volume| volume.name.as_str()));
    let nearest = nearest.map(str::to_owned);
    Err(AppError::NoVolume { pool: pool.clone(), name: name.clone(), nearest })
}

/// What has a volume as a disk: containers by their names, profiles as `profile NAME`.
pub fn users(app: &App, volume: &Volume) -> AppResult<Vec<String>> {
    let is_it = |device: &Device| names(device) == Some((&volume.pool, volume.name.as_str()));
    let containers = app.store.containers()?.into_iter();
    let containers = containers.filter(|container| container.devices.iter().any(is_it));
    let profiles = app.store.profiles()?.into_iter();
    let profiles = profiles.filter(|profile| profile.devices().iter().any(is_it));
    let names = containers.map(|container| container.name.to_string());
    Ok(names.chain(profiles.map(|profile| format!("profile {}", profile.name))).collect())
}

/// The volume that a device is, by its pool and its name.
pub fn names(device: &Device) -> Option<(&PoolName, &str)> {
    match device.disk()?.source() {
        DiskSource::Volume(pool, volume) => Some((pool, volume)),
        _ => None,
    }
}

/// Refuses a device whose volume there is not.
pub fn check(app: &App, device: &Device) -> AppResult<()> {
    let Some((pool, name)) = names(device) else { return Ok(()) };
    let name = VolumeName::new(name).map_err(|e| AppError::Refused(e.to_string()))?;
    find(app, pool, &name).map(drop)
}

/// A volume, and what has it as a disk.
pub struct Described {
    pub volume: Volume,
    pub users: Vec<String>,
}

/// Those of a pool, or of all.
pub fn list(app: &App, pool: Option<&PoolName>) -> AppResult<Vec<Described>> {
    if let Some(pool) = pool.filter(|pool| !pool.is_default_one()) {
        pools::find(app, pool)?;
    }
    let described = |volume| Ok(Described { users: users(app, &volume)?, volume });
    app.store.volumes(pool)?.into_iter().map(described).collect()
}

/// One of them, with the bytes on the disk and the files that are in it; none where its pool is not there.
pub fn show(app: &mut App, pool: &PoolName, name: &VolumeName) -> AppResult<(Described, Option<(u64, u64)>)> {
    let volume = find(app, pool, name)?;
    let users = users(app, &volume)?;
    let path = layout::volume_in_pool(volume.name.as_str());
    let taken = match app.pool(pool) {
        Err(AppError::PoolUnavailable { .. }) => None,
        Err(e) => return Err(e),
        Ok(_) => {
            let used = worker::work(app, pool, |pool| match worker::exists(pool, &path)? {
                true => usage::of_tree(&worker::open_tree(pool, &path)?).map(Some),
                false => Ok(None),
            })?;
            used.map(|used| (used.bytes, used.files))
        }
    };
    Ok((Described { volume, users }, taken))
}

/// Makes an empty volume.
pub fn create(app: &mut App, pool: &PoolName, name: &VolumeName, settings: VolumeSettings) -> AppResult<()> {
    settings.check()?;
    app.pool(pool)?;
    quota::check_amount(app, pool, amount(&settings))?;
    let _lock = lock::pool_work(&app.instance)?;
    let volume = Volume { pool: pool.clone(), name: name.clone(), settings, created_at: now() };
    let operation = operations::of_pool(app, OperationKind::VolumeCreate, &told(&volume))?;
    // Before the directory is made: if the command is killed, the next one finishes it.
    let made = app.store.add_volume(&volume).map_err(AppError::from).and_then(|()| {
        let made = make(app, &volume);
        if made.is_err() {
            discard(app, &volume).unwrap_or_else(|e| tracing::warn!("{}", error_text(&e)));
            app.store.delete_volume(pool, name)?;
        }
        made
    });
    app.store.end_operation(&operation, made.as_ref().err().map(ToString::to_string).as_deref())?;
    made
}

/// Safe to do twice.
fn make(app: &mut App, volume: &Volume) -> AppResult<()> {
    let path = layout::volume_in_pool(volume.name.as_str());
    worker::work(app, &volume.pool, |pool| {
        make_dir(pool, POOL_VOLUMES, 0o711)?;
        make_dir(pool, &path, MODE)
    })?;
    match quota::is_counted(app, &volume.pool)? {
        true => quota::set_volume(app, volume, amount(&volume.settings), Setting::Begins),
        false => Ok(()),
    }
}

/// Finishes what a killed command has begun. The caller has the whole pool locked.
pub fn settle(app: &mut App, operation: &Operation) -> AppResult<()> {
    let parts = operation.subject.split_once('/');
    let Some((Ok(pool), Ok(name))) = parts.map(|(pool, name)| (PoolName::new(pool), VolumeName::new(name)))
    else {
        return Ok(());
    };
    let Some(volume) = app.store.volume(&pool, &name)? else { return Ok(()) };
    match operation.kind {
        OperationKind::VolumeCreate => make(app, &volume),
        _ if !users(app, &volume)?.is_empty() => Ok(()),
        _ => discard(app, &volume).and_then(|()| Ok(app.store.delete_volume(&pool, &name)?)),
    }
}

fn discard(app: &mut App, volume: &Volume) -> AppResult<()> {
    let path = layout::volume_in_pool(volume.name.as_str());
    worker::work(app, &volume.pool, |pool| trash::discard(pool, &path))?;
    trash::empty_in_background(app)
}

/// Sets keys of a volume, and what is said of it; its limit holds at once.
pub fn set(
    app: &mut App,
    pool: &PoolName,
    name: &VolumeName,
    pairs: &[(String, String)],
    unset: &[String],
    description: Option<String>,
) -> AppResult<()> {
    let former = find(app, pool, name)?;
    let mut settings = former.settings.changed(pairs, unset)?;
    settings.description = description.unwrap_or(settings.description);
    settings.check()?;
    let most = amount(&settings);
    if most != amount(&former.settings) {
        quota::check_amount(app, pool, most)?;
        quota::set_volume(app, &former, most, Setting::IfItFits)?;
    }
    Ok(app.store.put_volume(&Volume { settings, ..former })?)
}

/// Gives a volume that nothing has as a disk another name.
pub fn rename(app: &mut App, pool: &PoolName, name: &VolumeName, to: &VolumeName) -> AppResult<()> {
    let volume = find(app, pool, name)?;
    refuse_used(app, &volume)?;
    let [from, new] = [name, to].map(|name| layout::volume_in_pool(name.as_str()));
    app.store.rename_volume(&volume, to)?;
    let renamed = worker::work(app, pool, |dir: &OwnedFd| {
        rustix::fs::renameat_with(dir, &*from, dir, &*new, RenameFlags::NOREPLACE)
            .cannot(|| format!("rename {from} to {new} in the pool"))
    });
    if renamed.is_err() {
        app.store.rename_volume(&Volume { name: to.clone(), ..volume }, name)?;
    }
    renamed
}

/// Deletes a volume that nothing has as a disk, with all that is in it.
pub fn delete(app: &mut App, pool: &PoolName, name: &VolumeName) -> AppResult<()> {
    let volume = find(app, pool, name)?;
    refuse_used(app, &volume)?;
    app.pool(pool)?;
    let _lock = lock::pool_work(&app.instance)?;
    let operation = operations::of_pool(app, OperationKind::VolumeDelete, &told(&volume))?;
    // Its files first: if the command is killed, the next one finishes it.
    let deleted = discard(app, &volume).and_then(|()| Ok(app.store.delete_volume(pool, name)?));
    app.store.end_operation(&operation, deleted.as_ref().err().map(ToString::to_string).as_deref())?;
    deleted
}

fn refuse_used(app: &App, volume: &Volume) -> AppResult<()> {
    let users = users(app, volume)?;
    match users.is_empty() {
        true => Ok(()),
        false => Err(AppError::VolumeInUse { pool: volume.pool.clone(), name: volume.name.clone(), users }),
    }
}

fn told(volume: &Volume) -> String {
    format!("{}/{}", volume.pool, volume.name)
}

fn amount(settings: &VolumeSettings) -> Amount {
    Amount { bytes: settings.size.unwrap_or(0), files: settings.inodes.unwrap_or(0) }
}

/// Puts back into a database that is made anew what is in a pool. The limits are those that the kernel keeps.
pub fn find_again(app: &mut App, pool: &PoolName) -> AppResult<Vec<VolumeName>> {
    let mut found = Vec::new();
    for name in contents::names(app, pool, POOL_VOLUMES)? {
        let Ok(name) = VolumeName::new(&name) else { continue };
        if app.store.volume(pool, &name)?.is_none() {
            let settings = quota::of_volume(app, pool, &name)?;
            let volume = Volume { pool: pool.clone(), name: name.clone(), settings, created_at: now() };
            app.store.put_volume(&volume)?;
            found.push(name);
        }
    }
    Ok(found)
}
