//! Directories of the host's that guests get, and whose ids are whose there.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags};

use super::trees;
use crate::host::api::error::{HostError, failed, refused};
use crate::host::api::packet::Descriptors;
use crate::host::api::requests::DiskOrder;
use crate::host::setup::Owner;
use crate::host::sources::{self, SourceError};
use crate::model::fault::Fault;
use crate::model::ids::{IDS_PER_RANGE, IdRange};
use crate::model::instance::Instance;
use crate::sys::SysResult;
use crate::sys::fs::mount;
use crate::sys::fs::mount::{NODEV, NOSUID, RDONLY};
use crate::sys::fs::mountinfo::Mounts;
use crate::sys::process::rlimit::Ceilings;
use crate::sys::process::userns;
use crate::sys::process::userns::Creator;

/// A directory that was passed, or that root has allowed.
pub struct PassedDisk {
    /// Of its mount.
    pub name: String,
    pub tree: OwnedFd,
    pub is_read_only: bool,
    /// Uid and gid on the host that are the guest's root's; none where only storage ids are mapped.
    root: Option<(u32, u32)>,
}

impl PassedDisk {
    /// None where the directory is missing and may be.
    ///
    /// # Errors
    /// When it is not the caller's to give.
    pub fn checked(
        order: &DiskOrder,
        descriptors: &mut Descriptors,
        instance: &Instance,
        owner: &Owner,
    ) -> Result<Option<Self>, HostError> {
        let DiskOrder { name, is_read_only, shift, .. } = order;
        let of = |tree, root| Ok(Some(Self { name: name.clone(), tree, is_read_only: *is_read_only, root }));
        if let Some(path) = &order.source {
            // Of other callers, whoever passes a directory can read it.
            if instance.uid_of_user().is_some() || instance.is_daemonless() {
                return Err(refused("a directory is passed as a descriptor"));
            }
            let tree = match sources::open_allowed(instance, path) {
                Err(SourceError::Open { source, .. })
                    if source == rustix::io::Errno::NOENT && order.may_be_missing =>
                {
                    return Ok(None);
                }
                other => other.map_err(told)?,
            };
            if *shift && !is_read_only {
                sources::check_shared(path, &tree).map_err(told)?;
            }
            let stat = rustix::fs::fstat(&tree).map_err(failed)?;
            return of(tree, shift.then_some((stat.st_uid, stat.st_gid)));
        }
        let tree = descriptors.take(name)?;
        if order.is_volume {
            if !instance.is_daemonless() {
                trees::answering([&tree].into_iter()).map_err(refused)?;
            }
            trees::volume(&tree, owner.storage).map_err(|e| refused(format!("a volume {e}")))?;
            return of(tree, None);
        }
        if instance.is_daemonless() {
            // Who asks is root of no more than the caller's own namespace.
            return match shift {
                true => Err(refused("without nagaya-hostd no directory's ids can be mapped: shift=false")),
                false => of(tree, None),
            };
        }
        check_passed(&tree)?;
        of(tree, shift.then_some((owner.uid, owner.gid)))
    }

    /// A detached mount of it, with all that is mounted below it, for the container with `runtime` ids.
    pub fn mapped(&self, storage: IdRange, runtime: IdRange) -> SysResult<OwnedFd> {
        let lines = |root: Option<u32>| map_lines(root, storage, runtime);
        let helper = userns::start(Creator::Caller, false, Ceilings::NONE)?;
        let map = helper.map_lines(&lines(self.root.map(|ids| ids.0)), &lines(self.root.map(|ids| ids.1)))?;
        mount::whole(self.tree.as_fd(), Some(&map), self.flags())
    }

    /// What every such mount has: a guest can bring neither device nodes nor programs with more rights to life.
    pub fn flags(&self) -> u64 {
        NODEV | NOSUID | if self.is_read_only { RDONLY } else { 0 }
    }
}

/// Of a map from ids on disk to those of a guest. Of all other ids the guest sees nobody's, who gives no rights.
fn map_lines(root: Option<u32>, storage: IdRange, runtime: IdRange) -> String {
    match root.filter(|id| !(storage.base()..storage.base() + IDS_PER_RANGE).contains(id)) {
        Some(id) => format!(
            "{id} {} 1\n{} {} {}\n",
            runtime.base(),
            storage.base() + 1,
            runtime.base() + 1,
            IDS_PER_RANGE - 1
        ),
        None => format!("{} {} {IDS_PER_RANGE}\n", storage.base(), runtime.base()),
    }
}

/// A directory that is open for reading, which proves that the caller may read it.
fn check_passed(tree: &OwnedFd) -> Result<(), HostError> {
    if Mounts::read().map_err(failed)?.may_hang(tree) {
        return Err(refused("a disk's directory must be on a file system of this host, and not on FUSE"));
    }
    let stat = rustix::fs::fstat(tree).map_err(failed)?;
    let flags = rustix::fs::fcntl_getfl(tree).unwrap_or(OFlags::PATH);
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match is_directory && flags & OFlags::RWMODE == OFlags::RDONLY && !flags.contains(OFlags::PATH) {
        true => Ok(()),
        false => Err(refused("a disk is a directory that is open for reading")),
    }
}

fn told(error: SourceError) -> HostError {
    match (&error, error.facts().hint) {
        (SourceError::Record(_) | SourceError::Sys(_), _) | (_, None) => failed(error),
        (_, Some(hint)) => refused(format!("{}; {hint}", crate::sys::error_text(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_the_storage_ids_are_mapped() {
        let (storage, runtime) = (IdRange::at(1_000_000).unwrap(), IdRange::at(3_000_000).unwrap());
        assert_eq!(map_lines(Some(1000), storage, runtime), "1000 3000000 1\n1000001 3000001 65535\n");
        assert_eq!(map_lines(None, storage, runtime), "1000000 3000000 65536\n");
        assert_eq!(map_lines(Some(1_000_033), storage, runtime), "1000000 3000000 65536\n");
    }
}
