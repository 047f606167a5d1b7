//! The way of a new monitor: a child of the broker which, still with the host's rights, builds the
//! little tree that the monitor will live in, and then gives every right away.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::lent::Lent;
use super::{lxcfs, private_stage};
use crate::model::ids::Slice;
use crate::model::limits::Rlimit;
use crate::model::monitor::{ARGV0, DEVICES, StartReport, place};
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::{Context, SysError, SysResult, clone, error_text, rlimit, seqpacket, userns};

/// What is handed to a monitor of the host's file systems: detached mounts, and files that were opened
/// through such, so that no path leads from them to anything else.
pub struct Handed {
    /// A mount idmapped to the slice, as `data` is; a private owner's as they are.
    pub template: OwnedFd,
    pub data: OwnedFd,
    pub state: OwnedFd,
    pub logs: [OwnedFd; 2],
    /// What `program::monitors` found.
    pub exe: OwnedFd,
}

/// What of it there is when the stage child is forked.
pub enum Lending<'a> {
    Handed(Handed),
    /// A private owner's broker can make mounts in the child's mount namespace alone.
    ToBeOpened {
        lent: &'a Lent,
        program: PathBuf,
    },
}

/// Everything the child needs, opened before it is forked.
pub struct Stage<'a> {
    pub name: &'a str,
    pub slice: Slice,
    pub rlimits: &'a [Rlimit],
    /// The container is an ordinary user's.
    pub of_user: bool,
    pub user_namespace: &'a OwnedFd,
    pub network: &'a OwnedFd,
    /// The init to take over.
    pub init: Option<&'a OwnedFd>,
    pub config: &'a OwnedFd,
    pub control: &'a OwnedFd,
    /// Where a failure is told.
    pub broker: &'a OwnedFd,
    pub lending: &'a Lending<'a>,
}

/// A monitor's tree.
struct Tree {
    root: OwnedFd,
    /// Its own /dev/null.
    null: OwnedFd,
}

impl Stage<'_> {
    /// Runs in the child, which is still root; `payload` is the guest's cgroup.
    pub fn enter(&self, payload: BorrowedFd<'_>) -> ! {
        let Err(error) = self.build(payload);
        self.fail(&error)
    }

    /// Tells the broker why there will be no monitor.
    pub fn fail(&self, error: &SysError) -> ! {
        fail(self.broker, error)
    }

    fn build(&self, payload: BorrowedFd<'_>) -> SysResult<Infallible> {
        rlimit::prepare(self.rlimits, self.of_user)?;
        userns::unshare(UnshareFlags::NEWNS)?;
        mount::make_private()?;
        let opened;
        let (handed, payload) = match self.lending {
            Lending::Handed(handed) => (handed, payload),
            Lending::ToBeOpened { lent, program } => {
                opened = private_stage::open(lent, program, payload)?;
                (&opened.0, opened.1.as_fd())
            }
        };
        let tree = self.tree(handed)?;
        mount::pivot_into(tree.root.as_fd())?;
        mount::set_attr(tree.root.as_fd(), RDONLY, 0, false)?;
        let null = tree.null.as_fd();
        let fds: [BorrowedFd<'_>; 12] = [
            null,
            null,
            null,
            self.config.as_fd(),
            self.control.as_fd(),
            handed.state.as_fd(),
            handed.logs[0].as_fd(),
            handed.logs[1].as_fd(),
            payload,
            self.network.as_fd(),
            self.broker.as_fd(),
            self.init.map_or(null, |init| init.as_fd()),
        ];
        // From here on this process holds what the monitor will hold, and nothing else: it is about to
        // become one of the container's.
        let until_exec = [self.user_namespace.as_fd(), handed.exe.as_fd(), self.broker.as_fd()];
        let placed = clone::arrange_fds(&fds, &until_exec)?;
        let Ok([user_namespace, exe, broker]) = <[OwnedFd; 3]>::try_from(placed) else {
            return Err(SysError::new("place a descriptor", std::io::ErrorKind::Other));
        };
        // What has been opened above is closed, and must not be closed again: no way back from here.
        fail(&broker, &self.become_monitor(user_namespace, &exe))
    }

    /// Returns only on failure.
    fn become_monitor(&self, user_namespace: OwnedFd, exe: &OwnedFd) -> SysError {
        let enter = || -> SysResult<()> {
            userns::enter(&user_namespace, LinkNameSpaceType::User, "container's user")?;
            drop(user_namespace);
            userns::become_root_inside()?;
            // The copy that this makes belongs to the container's user namespace. In it, and only in
            // it, read-only, nodev and nosuid of what was attached so far are locked.
            userns::unshare(UnshareFlags::NEWNS)
        };
        if let Err(e) = enter() {
            return e;
        }
        let argv = [ARGV0, self.name].map(|w| CString::new(w).unwrap_or_default());
        clone::exec_fd(exe.as_fd(), &argv, &[])
    }

    /// An otherwise empty file system with the container's trees in it.
    fn tree(&self, handed: &Handed) -> SysResult<Tree> {
        let options = [("mode", "755"), ("size", "64k"), ("nr_inodes", "64")];
        let root = mount::fresh("tmpfs", &options, NOSUID | NOEXEC)?;
        mount::attach(root.as_fd(), mount::open_dir("/tmp")?.as_fd())?;
        let dir = |name: &str| mount::mount_point(root.as_fd(), name.trim_start_matches('/'));
        mount::attach(handed.template.as_fd(), dir(place::TEMPLATE)?.as_fd())?;
        mount::attach(handed.data.as_fd(), dir(place::DATA)?.as_fd())?;
        dir(place::ROOTFS)?;
        lxcfs::lend(dir(place::LXCFS)?.as_fd());
        let (devices, visible_dir) = (dir(place::DEVICES)?, dir(place::VISIBLE)?);
        if matches!(self.lending, Lending::ToBeOpened { .. }) {
            private_stage::devices(&devices)?;
            private_stage::visible(&visible_dir)?;
        } else {
            self.devices(&devices)?;
            visible(&visible_dir)?;
        }
        let null = rustix::fs::openat(&devices, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .cannot(|| "open the monitor's /devices/null")?;
        Ok(Tree { root, null })
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

fn fail(broker: &OwnedFd, error: &SysError) -> ! {
    let _ = seqpacket::send(broker, &StartReport::Failed { reason: error_text(error) }, &[]);
    clone::exit_now(1)
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
