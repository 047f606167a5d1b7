//! What the stage child does otherwise where the broker is root of a user's own namespace alone: it
//! can neither shift a tree's ids nor make a device node.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::lent::Lent;
use super::stage::Handed;
use crate::model::monitor::{DEVICES, place};
use crate::sys::clone::{self, CloneSpec, Exit};
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::{Context, SysError, SysResult};

/// All that is handed to the monitor, and the guest's cgroup.
pub fn open(lent: &Lent, program: &Path, payload: BorrowedFd<'_>) -> SysResult<(Handed, OwnedFd)> {
    let file = |fd: &OwnedFd| mount::detached(again(fd.as_fd())?.as_fd());
    let tree = |fd: &OwnedFd, read_only: u64| {
        let copy = mount::clone_tree(again(fd.as_fd())?.as_fd())?;
        mount::set_attr(copy.as_fd(), NODEV | NOSUID | NOEXEC | read_only, 0, false)?;
        Ok::<_, SysError>(copy)
    };
    let what = || format!("open {}", program.display());
    let exe = rustix::fs::open(program, REFERENCE, Mode::empty()).cannot(what)?;
    let exe = mount::clone_tree(exe.as_fd())?;
    mount::set_attr(exe.as_fd(), RDONLY | NODEV | NOSUID, 0, false)?;
    let handed = Handed {
        template: tree(&lent.template, RDONLY)?,
        data: tree(&lent.data, 0)?,
        state: file(&lent.state)?,
        logs: [file(&lent.logs[0])?, file(&lent.logs[1])?],
        exe,
    };
    Ok((handed, mount::detached(again(payload)?.as_fd())?))
}

const REFERENCE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What `fd` refers to, as this mount namespace has it. A descriptor of another mount namespace cannot
/// be mounted from; its path leads to the same file in this one, as long as nothing has been mounted
/// here.
fn again(fd: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    let what = || "open what was lent again";
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
pub fn devices(dir: &OwnedFd) -> SysResult<()> {
    for (name, major, minor) in DEVICES {
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
    let spec = CloneSpec { flags: libc::CLONE_NEWPID as u64, cgroup: None };
    let child = clone::fork(&spec, || {
        let mounted =
            mount::fresh("proc", &[], flags).and_then(|proc| mount::attach(proc.as_fd(), target.as_fd()));
        mounted.map_or_else(|e| e.errno().unwrap_or(1) & 0xff, |()| 0)
    })?;
    match child.wait()? {
        Exit::Code(0) => {}
        Exit::Code(errno) => {
            let hint = "mount a proc (is the host's own partly covered?)";
            return Err(SysError::new(hint, std::io::Error::from_raw_os_error(errno)));
        }
        Exit::Signal(_) => return Err(SysError::new("mount a proc", std::io::ErrorKind::Other)),
    }
    let sys = mount::fresh("sysfs", &[], flags)?;
    mount::attach(sys.as_fd(), mount::mount_point(dir.as_fd(), "sys")?.as_fd())?;
    rustix::fs::chmodat(dir, c".", Mode::empty(), AtFlags::empty()).cannot(|| "close a directory")
}
