//! How much of the disk a container may take, kept by the kernel where the pool's file system can: what it has of its own
//! counts from its beginning, whether it has a limit or not, so that it can be given one at any time.

use std::os::fd::OwnedFd;

use super::{pools, worker};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, layout};
use crate::host::api::requests::{ROOM, Setting};
use crate::model::container::Container;
use crate::model::device::Device;
use crate::model::pool::{PoolName, Volume, VolumeName, VolumeSettings};
use crate::sys::fs::mountinfo::Mounts;
use crate::sys::fs::quota;
use crate::sys::fs::quota::{Amount, Taken};
use crate::sys::{Context, SysResult, error_text};

/// What a container's directories may take at most.
pub fn wanted(container: &Container) -> Amount {
    let devices = container.all_devices().into_iter();
    devices.map(|(device, _)| of_device(device)).find(|most| *most != Amount::default()).unwrap_or_default()
}

/// 0 is no limit.
fn of_device(device: &Device) -> Amount {
    match device.disk().filter(|_| device.is_root()) {
        Some(root) => Amount { bytes: root.size.unwrap_or(0), files: root.inodes.unwrap_or(0) },
        None => Amount::default(),
    }
}

/// Has what is made in a container's new, empty directory count.
pub fn begin(app: &mut App, container: &Container) -> AppResult<()> {
    set(app, container, wanted(container), Setting::Begins)
}

/// Whether a pool's file system counts what containers take, and somebody here may have it do so. A system call.
pub fn is_counted(app: &mut App, pool: &PoolName) -> AppResult<bool> {
    Ok(!app.instance.is_daemonless() && quota::is_kept(app.pool(pool)?))
}

/// Gives a container another limit; it may be running.
pub fn change(app: &mut App, container: &Container, most: Amount) -> AppResult<()> {
    if !is_counted(app, &container.pool)? {
        return match most == Amount::default() {
            true => Ok(()),
            false => Err(impossible(app, &container.pool)),
        };
    }
    set(app, container, most, Setting::IfItFits)
}

/// Gives a container the limit that it should have, after a profile of it has changed.
pub fn follow(app: &mut App, container: &Container) -> AppResult<()> {
    let most = wanted(container);
    match change(app, container, most) {
        // One that is not counted has none.
        Err(_) if most == Amount::default() => Ok(()),
        other => other,
    }
}

fn set(app: &mut App, container: &Container, most: Amount, how: Setting) -> AppResult<()> {
    let data = open(app, container)?;
    Ok(app.broker.set_disk_quota(container, most, how, data)?)
}

/// Gives a container that is at its limit some room: without it, overlayfs would mount its root read-only at a start, and
/// a snapshot could not be restored. Returns whether it did. A failure is left to whatever needs the room.
pub fn make_room(app: &mut App, container: &Container) -> bool {
    let most = wanted(container);
    let Some(taken) = taken(app, container) else { return false };
    let lacks = |taken: u64, most: u64, room: u64| most > 0 && taken.saturating_add(room) > most;
    if !lacks(taken.bytes, most.bytes, ROOM.bytes) && !lacks(taken.files, most.files, ROOM.files) {
        return false;
    }
    set(app, container, most, Setting::WithRoom).is_ok()
}

/// Takes it back: where the guest has used it meanwhile, it can write no more until it has deleted as much. If a command
/// is killed before that, the container may take that much more until its limit is set again.
pub fn take_room_back(app: &mut App, container: &Container, room: bool) {
    if room && let Err(e) = set(app, container, wanted(container), Setting::Anyway) {
        tracing::warn!("{}", error_text(&e));
    }
}

fn open(app: &mut App, container: &Container) -> AppResult<OwnedFd> {
    let path = layout::data_in_pool(&container.id);
    Ok(worker::open(app.pool(&container.pool)?, &path).cannot(|| format!("open {path} in the pool"))?)
}

/// Refuses limits that nobody could keep in this pool.
pub fn check(app: &App, pool: &PoolName, device: &Device) -> AppResult<()> {
    check_amount(app, pool, of_device(device))
}

/// The same of an amount.
pub fn check_amount(app: &App, pool: &PoolName, most: Amount) -> AppResult<()> {
    let is_kept = || -> AppResult<bool> {
        Ok(!app.instance.is_daemonless() && quota::is_kept(pools::open(app, pool)?))
    };
    match most == Amount::default() || is_kept()? {
        true => Ok(()),
        false => Err(impossible(app, pool)),
    }
}

/// Bounds what may be in a volume.
pub fn set_volume(app: &mut App, volume: &Volume, most: Amount, how: Setting) -> AppResult<()> {
    if most == Amount::default() && !is_counted(app, &volume.pool)? {
        return Ok(());
    }
    let path = layout::volume_in_pool(volume.name.as_str());
    let dir = worker::open(app.pool(&volume.pool)?, &path).cannot(|| format!("open {path} in the pool"))?;
    Ok(app.broker.set_volume_quota(most, how, dir)?)
}

/// The limits that the kernel keeps of a volume: where there are some, it tells of a file system of that size.
pub fn of_volume(app: &mut App, pool: &PoolName, name: &VolumeName) -> AppResult<VolumeSettings> {
    let path = layout::volume_in_pool(name.as_str());
    let dir = app.pool(pool)?;
    let what = || format!("ask how large {path} may be");
    let whole = rustix::fs::fstatvfs(dir).cannot(what)?;
    let volume = worker::open(dir, &path).cannot(what)?;
    let volume = rustix::fs::fstatvfs(&volume).cannot(what)?;
    let differs = |whole: u64, own: u64| (whole != own).then_some(own);
    Ok(VolumeSettings {
        size: differs(whole.f_blocks, volume.f_blocks).map(|blocks| blocks * volume.f_frsize),
        inodes: differs(whole.f_files, volume.f_files),
        description: String::new(),
    })
}

/// Refuses limits that nobody could keep in any pool.
pub fn check_anywhere(app: &App, device: &Device) -> AppResult<()> {
    let mut first = Ok(());
    for pool in pools::names(app)? {
        match (check(app, &pool, device), &first) {
            (Ok(()), _) => return Ok(()),
            (refused, Ok(())) => first = refused,
            (Err(_), Err(_)) => {}
        }
    }
    first
}

fn impossible(app: &App, pool: &PoolName) -> AppError {
    if app.instance.is_daemonless() {
        return AppError::advised(
            "without nagaya-hostd nobody can set a quota on the disk".to_owned(),
            "ask the administrator for nagaya-hostd; docs/rootless.md says how".to_owned(),
        );
    }
    let path = pools::path(app, pool);
    let mounts = Mounts::read().ok().zip(pools::open(app, pool).ok());
    let kind = mounts.as_ref().and_then(|(mounts, pool)| mounts.kind_of(pool));
    let fix = match kind {
        Some("ext4") => {
            "unmount it, give it project quotas with 'tune2fs -O project,quota -Q prjquota DEVICE', and mount it with \
             the option prjquota"
        }
        Some("xfs") => {
            "mount it with the option prjquota; for the root file system, boot with rootflags=prjquota"
        }
        _ => "put the pool on ext4 or XFS, mounted with the option prjquota",
    };
    AppError::advised(
        format!(
            "space on the disk cannot be bounded: {} with the pool in {} keeps no project quotas",
            kind.map_or("the file system".to_owned(), |kind| format!("the {kind} file system")),
            path.map_or_else(|_| pool.to_string(), |path| path.display().to_string())
        ),
        fix.to_owned(),
    )
}

/// None where the container has no limit, or nobody keeps it.
pub fn taken(app: &mut App, container: &Container) -> Option<Taken> {
    let most = wanted(container);
    if most == Amount::default() || !is_counted(app, &container.pool).ok()? {
        return None;
    }
    let read = |dir: OwnedFd| -> SysResult<Taken> {
        let seen = rustix::fs::fstatvfs(&dir).cannot(|| "ask how full a container's disk is")?;
        // Below a project's directory, the kernel tells of the project, as far as it is bounded.
        let of = |most: u64, used: u64| if most == 0 { 0 } else { used };
        Ok(Taken {
            bytes: of(most.bytes, (seen.f_blocks - seen.f_bfree) * seen.f_frsize),
            size: most.bytes,
            files: of(most.files, seen.f_files - seen.f_ffree),
            inodes: most.files,
        })
    };
    open(app, container).ok().and_then(|dir| read(dir).ok())
}
