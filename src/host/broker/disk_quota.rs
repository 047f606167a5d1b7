//! How much a container may take of the disk: a project of its own on a file system that keeps such quotas. Its number
//! is one of the container's runtime ids, which are nobody else's on this host. Only root may give a tree to a project,
//! and the guest cannot take its own out of it again.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::host1::Host1;
use super::spawn::passed;
use crate::host::api::error::{HostError, failed, refused};
use crate::host::api::requests::{Done, ROOM, SetDiskQuota, Setting};
use crate::host::setup::Owner;
use crate::model::config::value::size_text;
use crate::model::ids::{IDS_PER_RANGE, IdRange};
use crate::sys::SysResult;
use crate::sys::fs::quota;
use crate::sys::fs::quota::Amount;

/// Numbers that one container's trees can have one after the other. A number is used again once nothing is of it:
/// layers that other containers stand on keep the one that they were written under.
const MOST_PROJECTS: u32 = 64;

impl Host1 {
    pub async fn limit_disk(&self, mut request: SetDiskQuota) -> Result<Done, HostError> {
        let container = Self::check_container(&request.container)?;
        let authorised = self.authorised()?;
        let ids = self.check_id_range(&authorised.owner, request.first_id)?;
        let tree = request.descriptors.take("data")?;
        request.descriptors.end()?;
        if self.instance.is_daemonless() {
            return Err(refused("without nagaya-hostd nobody can set a quota on the disk"));
        }
        let dir = self.data_of(&authorised.owner, &tree)?;
        let _lock = self.turn(&container).await?;
        if !quota::is_kept(&dir) {
            return Err(HostError::Lacking("the pool's file system keeps no project quotas".to_owned()));
        }
        let most = Amount { bytes: request.bytes, files: request.files };
        let mut project = quota::project(&dir).map_err(failed)?;
        if project == 0 && request.setting == Setting::Begins {
            project = free_project(&dir, ids).map_err(failed)?.ok_or_else(|| {
                refused(format!("{MOST_PROJECTS} generations of this container's files are still in use"))
            })?;
            // What somebody had with this number is gone, and so is its limit.
            quota::limit(&dir, project, most).map_err(failed)?;
            quota::begin(&dir, project).map_err(failed)?;
            return Ok(Done {});
        }
        if !numbers(ids).contains(&project) {
            return Err(refused("the container was made when its disk's use was not counted yet"));
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
            return Err(refused(format!("the container has {has} on the disk already, more than {wanted}")));
        }
        if request.files != 0 && used.files > request.files {
            return Err(refused(format!(
                "the container has {} files already, more than {}",
                used.files, request.files
            )));
        }
        quota::limit(&dir, project, most).map_err(failed)?;
        Ok(Done {})
    }

    /// The directory that a container has of its own in the pool, open for reading.
    fn data_of(&self, owner: &Owner, tree: &OwnedFd) -> Result<OwnedFd, HostError> {
        passed::answering([tree].into_iter()).map_err(refused)?;
        passed::tree(tree, owner.storage).map_err(|e| refused(format!("the container's directory {e}")))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(tree, ".", flags, Mode::empty()).map_err(failed)
    }
}

/// Those of a container.
fn numbers(ids: IdRange) -> std::ops::Range<u32> {
    ids.base()..ids.base() + MOST_PROJECTS.min(IDS_PER_RANGE)
}

/// The first that nothing is of.
fn free_project(dir: &OwnedFd, ids: IdRange) -> SysResult<Option<u32>> {
    for project in numbers(ids) {
        if quota::used(dir, project)? == Amount::default() {
            return Ok(Some(project));
        }
    }
    Ok(None)
}
