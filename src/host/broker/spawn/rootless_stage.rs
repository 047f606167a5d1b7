//! What the stage child does differently in daemonless mode. The broker is root only of the user's own
//! namespace there: it can neither make an idmapped mount nor a device node.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::disk::PassedDisk;
use super::passed::{Handed, Passed, PassedMount};
use crate::model::monitor::{DEVICES, place};
use crate::sys::fs::mount;
use crate::sys::fs::mount::{NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::process::fork::Fork;
use crate::sys::{Context, SysError, SysResult};

/// Everything that the monitor gets, and the guest's cgroup.
pub fn open(passed: &Passed, program: &Path, payload: BorrowedFd<'_>) -> SysResult<(Handed, OwnedFd)> {
    let file = |fd: &OwnedFd| mount::detached(again(fd.as_fd())?.as_fd());
    let tree = |fd: &OwnedFd, read_only: u64| {
        let copy = mount::clone_tree(again(fd.as_fd())?.as_fd())?;
        mount::set_attr(copy.as_fd(), NODEV | NOSUID | NOEXEC | read_only, 0, false)?;
        Ok::<_, SysError>(copy)
    };
    let named = |mount: &PassedMount| {
        let copy = tree(&mount.tree, if mount.is_read_only { RDONLY } else { 0 })?;
        Ok((mount.name.clone(), copy))
    };
    let disk = |disk: &PassedDisk| {
        Ok((disk.name.clone(), mount::whole(again(disk.tree.as_fd())?.as_fd(), None, disk.flags())?))
    };
    let disks = passed.disks.iter().map(disk).collect::<SysResult<Vec<_>>>()?;
    let what = || format!("open {}", program.display());
    let exe = rustix::fs::open(program, REFERENCE, Mode::empty()).cannot(what)?;
    let exe = mount::clone_tree(exe.as_fd())?;
    mount::set_attr(exe.as_fd(), RDONLY | NODEV | NOSUID, 0, false)?;
    let handed = Handed {
        layers: passed.layers.iter().map(|layer| tree(layer, RDONLY)).collect::<SysResult<_>>()?,
        mounts: passed.mounts.iter().map(named).chain(disks.into_iter().map(Ok)).collect::<SysResult<_>>()?,
        state: file(&passed.state)?,
        logs: [file(&passed.logs[0])?, file(&passed.logs[1])?],
        exe,
    };
    Ok((handed, mount::detached(again(payload)?.as_fd())?))
}

const REFERENCE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What `fd` refers to, as this mount namespace has it. A descriptor of another mount namespace cannot
/// be mounted from; its path leads to the same file in this one, as long as nothing has been mounted
/// here.
pub fn again(fd: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    let what = || "open what was passed again";
    let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let path = std::fs::read_link(format!("/proc/self/fd/{number}")).cannot(what)?;
    let again = rustix::fs::open(&path, REFERENCE, Mode::empty()).cannot(what)?;
    let identity = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    if identity(fd).cannot(what)? != identity(again.as_fd()).cannot(what)? {
        return Err(SysError::new(what(), std::io::Error::other("another stands at its path")));
    }
    Ok(again)
}

/// Binds the host's own device nodes. One that the host lacks its guests lack too.
pub fn devices(dir: &OwnedFd, wanted: &[&str]) -> SysResult<()> {
    for (name, major, minor) in DEVICES.into_iter().filter(|(name, ..)| wanted.contains(name)) {
        let path = if name == "tun" { "/dev/net/tun".to_owned() } else { format!("/dev/{name}") };
        let what = || format!("lend {path}");
        let node =
            match rustix::fs::open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) => continue,
                other => other.cannot(what)?,
            };
        let stat = rustix::fs::fstat(&node).cannot(what)?;
        let is_it = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(major, minor);
        if !is_it {
            return Err(SysError::new(what(), std::io::Error::other("it is something else")));
        }
        rustix::fs::mknodat(dir, name, FileType::RegularFile, Mode::empty(), 0).cannot(what)?;
        let target =
            rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .cannot(what)?;
        mount::attach(mount::clone_tree(node.as_fd())?.as_fd(), target.as_fd())?;
    }
    let nothing = place::NOTHING.rsplit('/').next().unwrap_or_default();
    rustix::fs::mknodat(dir, nothing, FileType::RegularFile, Mode::empty(), 0)
        .cannot(|| "make the file that covers others")
}

/// The closed directory with whole instances of proc and sysfs. The host's processes are not ours
/// to show: this proc is that of a pid namespace which ends at once.
pub fn visible(dir: &OwnedFd) -> SysResult<()> {
    let flags = NOSUID | NODEV | NOEXEC;
    let target = mount::mount_point(dir.as_fd(), "proc")?;
    let what = "mount a proc (is the host's own partly covered?)";
    let fork = Fork::new(what).namespaces(libc::CLONE_NEWPID).keep([&target]);
    let mounted: Result<(), i32> = fork.run(|| {
        let mounted =
            mount::fresh("proc", &[], flags).and_then(|proc| mount::attach(proc.as_fd(), target.as_fd()));
        mounted.map_err(|e| e.errno().unwrap_or(libc::EIO))
    })?;
    mounted.map_err(|errno| SysError::new(what, std::io::Error::from_raw_os_error(errno)))?;
    let sys = mount::fresh("sysfs", &[], flags)?;
    mount::attach(sys.as_fd(), mount::mount_point(dir.as_fd(), "sys")?.as_fd())?;
    rustix::fs::chmodat(dir, c".", Mode::empty(), AtFlags::empty()).cannot(|| "close a directory")
}
