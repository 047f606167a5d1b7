//! The way of a new monitor: a child of the broker which, still with the host's rights, builds the
//! little tree that the monitor will live in, and then gives every right away.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::{lxcfs, private_stage};
use crate::model::ids::Slice;
use crate::model::limits::Rlimit;
use crate::model::monitor::{ARGV0, DEVICES, place};
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::{Context, SysError, SysResult, clone, rlimit, userns};

/// What the monitor's tree is made of.
pub enum Trees<'a> {
    /// Detached mounts, idmapped to the slice.
    Shifted { template: OwnedFd, data: OwnedFd },
    /// Directories of the pool, whose ids are the slice's already: a private owner's.
    AsTheyAre { template: BorrowedFd<'a>, data: BorrowedFd<'a> },
}

/// Everything the child needs, opened before it is forked.
pub struct Stage<'a> {
    pub name: &'a str,
    pub slice: Slice,
    pub rlimits: &'a [Rlimit],
    pub user_namespace: &'a OwnedFd,
    pub trees: &'a Trees<'a>,
    /// This program.
    pub exe: &'a OwnedFd,
    /// The monitor's descriptors, 0 to 11.
    pub fds: &'a [BorrowedFd<'a>],
}

impl Stage<'_> {
    /// Runs in the child, which is still root. Returns only on failure.
    pub fn enter(&self) -> SysError {
        match self.build() {
            Ok(never) => match never {},
            Err(e) => e,
        }
    }

    fn build(&self) -> SysResult<std::convert::Infallible> {
        rlimit::prepare(self.rlimits)?;
        userns::unshare(UnshareFlags::NEWNS)?;
        mount::make_private()?;
        let root = self.tree()?;
        mount::pivot_into(root.as_fd())?;
        mount::set_attr(root.as_fd(), RDONLY, 0, false)?;
        userns::enter(self.user_namespace, LinkNameSpaceType::User, "container's user")?;
        userns::become_root_inside()?;
        // The copy that this makes belongs to the container's user namespace. In it, and only in
        // it, read-only, nodev and nosuid of what was attached so far are locked.
        userns::unshare(UnshareFlags::NEWNS)?;
        let exe = self.exe.try_clone().cannot(|| "duplicate a descriptor")?;
        clone::arrange_fds(self.fds, &exe).and_then(|exe| {
            let argv = [ARGV0, self.name].map(|w| CString::new(w).unwrap_or_default());
            Err(clone::exec_fd(&exe, &argv, &[]))
        })
    }

    /// An otherwise empty file system with the container's trees in it.
    fn tree(&self) -> SysResult<OwnedFd> {
        let options = [("mode", "755"), ("size", "64k"), ("nr_inodes", "64")];
        let [template, data] = self.layers()?;
        let root = mount::fresh("tmpfs", &options, NOSUID | NOEXEC)?;
        mount::attach(root.as_fd(), mount::open_dir("/tmp")?.as_fd())?;
        let dir = |name: &str| mount::mount_point(root.as_fd(), name.trim_start_matches('/'));
        mount::attach(template.as_fd(), dir(place::TEMPLATE)?.as_fd())?;
        mount::attach(data.as_fd(), dir(place::DATA)?.as_fd())?;
        dir(place::ROOTFS)?;
        lxcfs::lend(dir(place::LXCFS)?.as_fd());
        let (devices, visible_dir) = (dir(place::DEVICES)?, dir(place::VISIBLE)?);
        if matches!(self.trees, Trees::AsTheyAre { .. }) {
            private_stage::devices(&devices)?;
            private_stage::visible(&visible_dir)?;
        } else {
            self.devices(&devices)?;
            visible(&visible_dir)?;
        }
        Ok(root)
    }

    /// Template and data, detached.
    fn layers(&self) -> SysResult<[OwnedFd; 2]> {
        match self.trees {
            Trees::Shifted { template, data } => {
                let again = |fd: &OwnedFd| fd.try_clone().cannot(|| "duplicate a descriptor");
                Ok([again(template)?, again(data)?])
            }
            Trees::AsTheyAre { template, data } => {
                Ok([private_stage::copy(*template, true)?, private_stage::copy(*data, false)?])
            }
        }
    }

    /// Real device nodes, which only the host can make; guests get them bound one by one.
    fn devices(&self, dir: &OwnedFd) -> SysResult<()> {
        let (uid, gid) =
            (rustix::fs::Uid::from_raw(self.slice.base()), rustix::fs::Gid::from_raw(self.slice.base()));
        rustix::process::umask(Mode::empty());
        for (name, major, minor) in DEVICES {
            let device = rustix::fs::makedev(major, minor);
            let mode = Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(dir, name, FileType::CharacterDevice, mode, device)
                .and_then(|()| {
                    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                })
                .cannot(|| format!("make device {name}"))?;
        }
        let nothing = place::NOTHING.rsplit('/').next().unwrap_or_default();
        rustix::fs::mknodat(dir, nothing, FileType::RegularFile, Mode::empty(), 0)
            .cannot(|| "make the file that covers others")
    }
}

/// Whole instances of proc and sysfs, in a directory that only the host's root may enter: their
/// being there is what lets a user namespace mount its own. This proc shows no process of others.
fn visible(dir: &OwnedFd) -> SysResult<()> {
    let flags = NOSUID | NODEV | NOEXEC;
    let proc = mount::fresh("proc", &[("hidepid", "ptraceable"), ("subset", "pid")], flags)?;
    mount::attach(proc.as_fd(), mount::mount_point(dir.as_fd(), "proc")?.as_fd())?;
    let sys = mount::fresh("sysfs", &[], flags)?;
    mount::attach(sys.as_fd(), mount::mount_point(dir.as_fd(), "sys")?.as_fd())?;
    // An O_PATH descriptor takes no fchmod; "." of it does.
    rustix::fs::chmodat(dir, c".", Mode::empty(), AtFlags::empty()).cannot(|| "close a directory")
}
