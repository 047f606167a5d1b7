//! lxcfs: a guest's own /proc/meminfo and the like, which the host's lxcfs provides.
//!
//! A guest gets it when it is started. Once lxcfs has crashed its mounts are dead for good; the new
//! ones are put in the old ones' place by a child that has given up the host's rights before it
//! looks at anything of the guest's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::UnmountFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::host::broker::guest_processes;
use crate::model::instance::Instance;
use crate::model::monitor::{LXCFS_PROC, LXCFS_SYS, place};
use crate::model::name::ContainerId;
use crate::model::waits;
use crate::sys::fs::mount;
use crate::sys::fs::mount::{NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::process::child;
use crate::sys::process::fork::Fork;
use crate::sys::process::{caps, identity, userns};
use crate::sys::{Context, SysError, SysResult, error_text};

/// Where lxcfs is mounted on every distribution that has it.
const LXCFS: &str = "/var/lib/lxcfs";
/// File system types, as statfs(2) tells them.
const FUSE: u64 = 0x6573_5546;
const PROC: u64 = 0x9fa0;
const SYSFS: u64 = 0x6265_6572;

fn file_system(fd: impl AsFd) -> rustix::io::Result<u64> {
    rustix::fs::fstatfs(fd).map(|stat| stat.f_type as u64)
}

/// The host's lxcfs; none where it does not run.
fn find() -> Option<OwnedFd> {
    let dir = mount::open_dir(LXCFS).ok()?;
    match file_system(&dir) {
        Ok(FUSE) => Some(dir),
        Ok(_) => None,
        Err(e) => {
            tracing::warn!("lxcfs has crashed; the guest sees the host's figures: {e}");
            None
        }
    }
}

/// Whether lxcfs is mounted and answers.
pub fn is_there() -> bool {
    mount::open_dir(LXCFS).is_ok_and(|dir| file_system(&dir) == Ok(FUSE))
}

/// In the stage child: attaches a copy of the host's lxcfs over `target`. Without it a guest works
/// all the same.
pub fn lend(target: BorrowedFd<'_>) {
    let Some(dir) = find() else { return };
    let passed = mount::clone_tree(dir.as_fd()).and_then(|copy| {
        mount::set_attr(copy.as_fd(), RDONLY | NODEV | NOSUID | NOEXEC, 0, false)?;
        mount::attach(copy.as_fd(), target)
    });
    if let Err(e) = passed {
        tracing::warn!("the guest gets no lxcfs: {}", error_text(&e));
    }
}

/// Gives a running container the lxcfs that the host has now, in the place of one that has crashed.
/// Without one on the host there is nothing to do.
pub fn attach(instance: &Instance, container: &ContainerId) -> SysResult<()> {
    if find().is_none() {
        return Ok(());
    }
    let init = guest_processes::init(instance, container)?;
    let pidfd = child::pidfd_open(init)?;
    let guest = Namespaces {
        user: userns::owner_of(&userns::open_ns(init, "pid")?)?,
        guest: userns::open_ns(init, "mnt")?,
        monitor: match guest_processes::monitor(instance, container)? {
            Some(pid) => Some(userns::open_ns(pid, "mnt")?),
            None => None,
        },
    };
    // If the process had ended in between, its number could be another's by now.
    child::signal(&pidfd, 0)?;
    // What enters the guest holds the guest's namespaces and the socket for its report, and nothing else of
    // the broker's.
    let fork = Fork::new("give the guest a new lxcfs (do its file systems answer?)")
        .keep([&guest.user, &guest.guest])
        .keep(&guest.monitor)
        .deadline(waits::LXCFS_ATTACH);
    let received: Result<(), String> = fork.run(|| guest.receive().map_err(|e| error_text(&e)))?;
    received.map_err(|reason| SysError::new("give the guest a new lxcfs", std::io::Error::other(reason)))
}

/// Those of a running container.
struct Namespaces {
    user: OwnedFd,
    guest: OwnedFd,
    monitor: Option<OwnedFd>,
}

/// Copies of the host's mount that belong to the container's user namespace.
struct Copies {
    whole: OwnedFd,
    proc: Vec<(&'static str, OwnedFd)>,
    cpu: Option<OwnedFd>,
}

impl Namespaces {
    /// In the child.
    fn receive(&self) -> SysResult<()> {
        caps::undumpable();
        identity::unshare(UnshareFlags::NEWNS)?;
        mount::make_private()?;
        let here = mount::open_dir(LXCFS)?;
        mount::set_attr(here.as_fd(), RDONLY | NODEV | NOSUID | NOEXEC, 0, false)?;
        // The container's ids may not be able to pass through the directories there, so this comes before.
        rustix::process::fchdir(&here).cannot(|| "enter lxcfs")?;
        userns::enter(&self.user, LinkNameSpaceType::User, "container's user")?;
        userns::become_root_inside()?;
        // As in the stage child: only in this copy the flags are locked.
        identity::unshare(UnshareFlags::NEWNS)?;
        let copies = Copies::make()?;
        userns::enter(&self.guest, LinkNameSpaceType::Mount, "guest's mount")?;
        copies.give_guest()?;
        let Some(monitor) = &self.monitor else { return Ok(()) };
        // For the guest's later boots.
        userns::enter(monitor, LinkNameSpaceType::Mount, "monitor's mount")?;
        copies.give_monitor()
    }
}

impl Copies {
    /// Of the current directory.
    fn make() -> SysResult<Self> {
        let here = mount::open_dir(".")?;
        let copy = |path: &str| -> SysResult<Option<OwnedFd>> {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&here, path, flags, Mode::empty()) {
                Ok(fd) => mount::clone_tree(fd.as_fd()).map(Some),
                // Not every lxcfs has each of them.
                Err(rustix::io::Errno::NOENT) => Ok(None),
                Err(e) => Err(e).cannot(|| format!("open {path} of lxcfs")),
            }
        };
        let mut proc = Vec::new();
        for name in LXCFS_PROC {
            proc.extend(copy(&format!("proc/{name}"))?.map(|fd| (name, fd)));
        }
        let cpu = copy(&format!("sys/{}/{}", LXCFS_SYS.0, LXCFS_SYS.1))?;
        Ok(Self { whole: mount::clone_tree(here.as_fd())?, proc, cpu })
    }

    fn give_guest(&self) -> SysResult<()> {
        let proc = open_as("/proc", PROC)?;
        for (name, copy) in &self.proc {
            replace(&proc, name, PROC, copy)?;
        }
        let Some(cpu) = &self.cpu else { return Ok(()) };
        let sys = open_as("/sys", SYSFS)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let parent = rustix::fs::openat2(&sys, LXCFS_SYS.0, flags, Mode::empty(), resolve)
            .cannot(|| "open the guest's /sys")?;
        replace(&parent, LXCFS_SYS.1, SYSFS, cpu)
    }

    /// The mount that the monitor was born with is locked: it stays below the new one.
    fn give_monitor(&self) -> SysResult<()> {
        let _ = rustix::mount::unmount(place::LXCFS, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        mount::attach(self.whole.as_fd(), mount::open_dir(place::LXCFS)?.as_fd())
    }
}

/// Opens a directory of the guest's, which must be what it is to be: a guest mounts as it likes.
fn open_as(path: &str, kind: u64) -> SysResult<OwnedFd> {
    let what = || format!("open the guest's {path}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).cannot(what)?;
    if file_system(&dir).cannot(what)? == kind {
        return Ok(dir);
    }
    Err(SysError::new(what(), std::io::Error::other("another file system is mounted there")))
}

/// Unmounts what is mounted on `name` in `dir`, a directory of file system `kind`, and attaches `copy`
/// there.
fn replace(dir: &OwnedFd, name: &str, kind: u64, copy: &OwnedFd) -> SysResult<()> {
    /// Mounts that a guest may have stacked there itself.
    const LAYERS: u32 = 8;
    let what = || format!("replace the guest's {name}");
    // umount2(2) knows only paths: the directory itself is held, and the name is one in it.
    rustix::process::fchdir(dir).cannot(what)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..LAYERS {
        let target = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other.cannot(what)?,
        };
        // A dead lxcfs does not answer.
        if file_system(&target).is_ok_and(|found| found == kind) {
            return mount::attach(copy.as_fd(), target.as_fd());
        }
        drop(target);
        rustix::mount::unmount(name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).cannot(what)?;
    }
    Err(SysError::new(what(), std::io::Error::other("the guest has mounted over it")))
}
