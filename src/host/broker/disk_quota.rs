//! How much a container may take of the disk: a project of its own on a file system that keeps such quotas. Its number
//! is one of the container's runtime ids, which are nobody else's on this host. Only root may give a tree to a project,
//! and the guest cannot take its own out of it again.

use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::container_lock;
use super::host1::Host1;
use super::spawn::trees;
use crate::host::api::error::{HostError, failed, refused};
use crate::host::api::requests::{Done, ROOM, SetDiskQuota, Setting};
use crate::host::setup::Owner;
use crate::model::config::value::size_text;
use crate::model::ids::{IDS_PER_RANGE, IdRange};
use crate::model::pool::MOST_VOLUMES;
use crate::sys::SysResult;
use crate::sys::fs::quota;
use crate::sys::fs::quota::Amount;

/// Numbers that one container's trees can have one after the other. A number is used again once nothing is of it:
/// layers that other containers stand on keep the one that they were written under.
const MOST_PROJECTS: u32 = 64;

impl Host1 {
    pub async fn limit_disk(&self, mut request: SetDiskQuota) -> Result<Done, HostError> {
        let authorised = self.authorised()?;
        let container = match request.container.as_str() {
            "" => None,
            id => Some(Self::check_container(id)?),
        };
        let numbers = match &container {
            Some(_) => of_container(self.check_id_range(&authorised.owner, request.first_id)?),
            None => of_volumes(authorised.owner.storage),
        };
        let tree = request.descriptors.take("data")?;
        request.descriptors.end()?;
        if self.instance.is_daemonless() {
            return Err(refused("without nagaya-hostd nobody can set a quota on the disk"));
        }
        let dir = self.data_of(&authorised.owner, &tree, container.is_none())?;
        let _lock = match &container {
            Some(container) => self.turn(container).await?,
            None => container_lock::of_owner(&self.instance, "volumes").map_err(failed)?,
        };
        self.caller.check()?;
        if !quota::is_kept(&dir) {
            return Err(HostError::Lacking("the pool's file system keeps no project quotas".to_owned()));
        }
        let most = Amount { bytes: request.bytes, files: request.files };
        let mut project = quota::project(&dir).map_err(failed)?;
        if project == 0 && request.setting == Setting::Begins {
            project = free_project(&dir, numbers.clone()).map_err(failed)?.ok_or_else(|| {
                refused(match &container {
                    Some(_) => {
                        format!("{MOST_PROJECTS} generations of this container's files are still in use")
                    }
                    None => format!("{MOST_VOLUMES} volumes on this file system are counted already"),
                })
            })?;
            // What somebody had with this number is gone, and so is its limit.
            quota::limit(&dir, project, most).map_err(failed)?;
            quota::begin(&dir, project).map_err(failed)?;
            return Ok(Done {});
        }
        if !numbers.contains(&project) {
            return Err(refused("it was made when its disk's use was not counted yet"));
        }
        let used = quota::used(&dir, project).map_err(failed)?;
        if matches!(request.setting, Setting::Anyway | Setting::WithRoom) {
            let with_room = |most: u64, used: u64, room: u64| match request.setting {
                Setting::WithRoom if most != 0 => most.max(used).saturating_add(room),
                _ => most,
            };
            let bytes = with_room(most.bytes, used.bytes, ROOM.bytes);
            let files = with_room(most.files, used.files, ROOM.files);
            quota::limit(&dir, project, Amount { bytes, files }).map_err(failed)?;
            return Ok(Done {});
        }
        // The kernel would take a limit below that, and let nothing be written any more.
        if request.bytes != 0 && used.bytes > request.bytes {
            let (has, wanted) = (size_text(used.bytes), size_text(request.bytes));
            return Err(refused(format!("it has {has} on the disk already, more than {wanted}")));
        }
        if request.files != 0 && used.files > request.files {
            return Err(refused(format!("it has {} files already, more than {}", used.files, request.files)));
        }
        quota::limit(&dir, project, most).map_err(failed)?;
        Ok(Done {})
    }

    /// The directory that a container has of its own in the pool, or a volume, open for reading.
    fn data_of(&self, owner: &Owner, tree: &OwnedFd, is_volume: bool) -> Result<OwnedFd, HostError> {
        trees::answering([tree].into_iter()).map_err(refused)?;
        let checked = match is_volume {
            true => trees::volume(tree, owner.storage),
            false => trees::tree(tree, owner.storage),
        };
        checked.map_err(|e| refused(format!("the directory {e}")))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(tree, ".", flags, Mode::empty()).map_err(failed)
    }
}

/// Those of a container.
fn of_container(ids: IdRange) -> Range<u32> {
    ids.base()..ids.base() + MOST_PROJECTS.min(IDS_PER_RANGE)
}

/// Those of an owner's volumes: no container runs with the storage ids.
fn of_volumes(storage: IdRange) -> Range<u32> {
    storage.base()..storage.base() + MOST_VOLUMES as u32
}

/// The first that nothing is of.
fn free_project(dir: &OwnedFd, numbers: Range<u32>) -> SysResult<Option<u32>> {
    for project in numbers {
        if quota::used(dir, project)? == Amount::default() {
            return Ok(Some(project));
        }
    }
    Ok(None)
}
