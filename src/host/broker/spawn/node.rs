//! Device nodes that a guest gets where its operator asks for them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::host::api::error::{HostError, refused};
use crate::host::api::packet::Descriptors;
use crate::host::api::requests::NodeOrder;
use crate::model::ids::{IDS_PER_RANGE, IdRange};
use crate::model::instance::Instance;
use crate::model::monitor::{NODES, Node};
use crate::sys::fs::mount;
use crate::sys::{Context, SysResult};

/// A node that the caller may give.
pub struct PassedNode {
    /// In the directory of nodes.
    pub name: String,
    node: &'static Node,
    mode: Mode,
    /// In the guest.
    ids: (u32, u32),
}

impl PassedNode {
    /// An ordinary user passes the host's node, opened for reading and writing: the guest gets no other than the user
    /// may use.
    pub fn checked(
        order: &NodeOrder,
        descriptors: &mut Descriptors,
        instance: &Instance,
    ) -> Result<Self, HostError> {
        let node = NODES.iter().find(|node| node.path == order.node);
        let node =
            node.ok_or_else(|| refused(format!("'{:.64}' is no node that guests may have", order.node)))?;
        if instance.uid_of_user().is_some() {
            check_opened(&descriptors.take(&order.name)?, node)?;
        }
        let is_name = order.name.strip_prefix("node-").is_some_and(|number| number.parse::<u8>().is_ok());
        if !is_name || order.mode > 0o777 || order.uid >= IDS_PER_RANGE || order.gid >= IDS_PER_RANGE {
            return Err(refused(format!("node '{:.64}' cannot be so", order.name)));
        }
        let (mode, ids) = (Mode::from_raw_mode(order.mode), (order.uid, order.gid));
        Ok(Self { name: order.name.clone(), node, mode, ids })
    }

    /// Makes it in `dir`, for the guest with these ids. The caller's umask is 0.
    pub fn make(&self, dir: &OwnedFd, ids: IdRange) -> SysResult<()> {
        let (uid, gid) = (Uid::from_raw(ids.base() + self.ids.0), Gid::from_raw(ids.base() + self.ids.1));
        let device = rustix::fs::makedev(self.node.major, self.node.minor);
        rustix::fs::mknodat(dir, self.name.as_str(), FileType::CharacterDevice, self.mode, device)
            .and_then(|()| {
                rustix::fs::chownat(dir, self.name.as_str(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            })
            .cannot(|| format!("make device {}", self.node.path))
    }

    /// Binds the host's own, where no other can be made.
    pub fn bind(&self, dir: &OwnedFd) -> SysResult<()> {
        let what = || format!("lend {}", self.node.path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::open(self.node.path, flags, Mode::empty()).cannot(what)?;
        let stat = rustix::fs::fstat(&node).cannot(what)?;
        if !is_it(&stat, self.node) || stat.st_mode & 0o006 != 0o006 {
            let why = "without nagaya-hostd guests can only have nodes that everybody on the host may use";
            return Err(crate::sys::SysError::new(what(), std::io::Error::other(why)));
        }
        rustix::fs::mknodat(dir, self.name.as_str(), FileType::RegularFile, Mode::empty(), 0).cannot(what)?;
        let target = rustix::fs::openat(dir, self.name.as_str(), flags, Mode::empty()).cannot(what)?;
        mount::attach(mount::clone_tree(node.as_fd())?.as_fd(), target.as_fd())
    }
}

fn is_it(stat: &rustix::fs::Stat, node: &Node) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(node.major, node.minor)
}

fn check_opened(fd: &OwnedFd, node: &Node) -> Result<(), HostError> {
    let flags = rustix::fs::fcntl_getfl(fd).unwrap_or(OFlags::PATH);
    let is_open = flags & OFlags::RWMODE == OFlags::RDWR && !flags.contains(OFlags::PATH);
    match is_open && rustix::fs::fstat(fd).is_ok_and(|stat| is_it(&stat, node)) {
        true => Ok(()),
        false => Err(refused(format!("that is not {}, opened for reading and writing", node.path))),
    }
}
