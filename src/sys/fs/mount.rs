//! Mounts by descriptor: the mount API of Linux 5.2 and 5.12, never a path in a guest's tree.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::rooted::kind_name;
use crate::sys::{Context, SysError, SysResult};

pub const RDONLY: u64 = 0x1;
pub const NOSUID: u64 = 0x2;
pub const NODEV: u64 = 0x4;
pub const NOEXEC: u64 = 0x8;
const IDMAP: u64 = 0x0010_0000;
const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE
    .union(OpenTreeFlags::OPEN_TREE_CLOEXEC)
    .union(OpenTreeFlags::AT_EMPTY_PATH);

/// Changes a mount's flags; with `recursive`, also those of the mounts below it.
///
/// # Errors
/// `EPERM` where a flag is locked: the mount came from a more privileged namespace.
pub fn set_attr(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> SysResult<()> {
    setattr(
        mount,
        libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 },
        recursive,
    )
    .cannot(|| "set mount flags")
}

/// A detached copy of the directory `tree`, in which ids appear as `shift` maps them: on-disk ids
/// are those inside the namespace, the ids seen are those outside.
///
/// # Errors
/// `EINVAL` where the file system cannot do idmapped mounts.
pub fn idmapped(tree: BorrowedFd<'_>, shift: &OwnedFd, flags: u64) -> SysResult<OwnedFd> {
    clone_idmapped(tree, shift, flags).cannot(|| "make an idmapped mount (file system support, Linux 5.12)")
}

/// The same without asking for memory, for a child of a process that may have other threads.
pub fn clone_idmapped(tree: BorrowedFd<'_>, shift: &OwnedFd, flags: u64) -> rustix::io::Result<OwnedFd> {
    let mount = rustix::mount::open_tree(tree, c"", CLONE)?;
    let attr = libc::mount_attr {
        attr_set: IDMAP | flags,
        attr_clr: 0,
        propagation: 0,
        userns_fd: shift.as_raw_fd() as u64,
    };
    setattr(mount.as_fd(), attr, false)?;
    Ok(mount)
}

/// A detached copy of the directory `tree` with all that is mounted below it, so that nothing shows that a mount
/// hides. What the host mounts there later does not appear in it. With `shift`, ids are as in `idmapped`.
///
/// # Errors
/// `EINVAL` where one of the file systems cannot do idmapped mounts.
pub fn whole(tree: BorrowedFd<'_>, shift: Option<&OwnedFd>, flags: u64) -> SysResult<OwnedFd> {
    let mount = clone_whole(tree)?;
    let attr = libc::mount_attr {
        attr_set: flags | if shift.is_some() { IDMAP } else { 0 },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: shift.map_or(0, |shift| shift.as_raw_fd() as u64),
    };
    let done = setattr(mount.as_fd(), attr, true);
    done.map(|()| mount).cannot(|| match shift {
        Some(_) => {
            "map the ids of a directory and of what is mounted below it (ext4, XFS, btrfs and tmpfs can)"
        }
        None => "set mount flags",
    })
}

/// A detached copy of what `tree` refers to and of all that is mounted below it.
pub fn clone_whole(tree: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    rustix::mount::open_tree(tree, c"", CLONE | OpenTreeFlags::AT_RECURSIVE).cannot(|| "clone mounts")
}

fn setattr(mount: BorrowedFd<'_>, attr: libc::mount_attr, recursive: bool) -> rustix::io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: a valid descriptor, an empty path, and a struct whose size is stated.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

/// A detached bind mount of what `tree` refers to.
pub fn clone_tree(tree: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    rustix::mount::open_tree(tree, c"", CLONE).cannot(|| "clone a mount")
}

/// The directory or regular file `fd`, opened anew through a detached mount of its own, whose root it
/// is: from there no `..` leads anywhere. A file is opened for reading and writing, a directory for
/// reading. `fd` must be of a mount of the caller's mount namespace, and a file open for reading and
/// writing, so that the caller's rights add nothing to it.
pub fn detached(fd: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    detached_by(fd).map(|(opened, _)| opened)
}

/// The same, with the mount. Closing that one takes a grace period of the kernel's, as for each mount that was
/// never attached: the caller does so when it has nothing better to do.
pub fn detached_by(fd: BorrowedFd<'_>) -> SysResult<(OwnedFd, OwnedFd)> {
    let what = || "open a file through a mount of its own";
    let is_dir = |fd: BorrowedFd<'_>| {
        let kind = rustix::fs::fstat(fd).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
        kind.map(|kind| kind == rustix::fs::FileType::Directory)
    };
    let mount = clone_tree(fd)?;
    set_attr(mount.as_fd(), NODEV | NOSUID | NOEXEC, 0, false)?;
    let opened = if is_dir(fd).cannot(what)? {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&mount, c".", flags, Mode::empty())
    } else {
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    };
    Ok((opened.cannot(what)?, mount))
}

/// Attaches a detached mount over `target`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> SysResult<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags).cannot(|| "attach a mount")
}

/// A new instance of file system `kind`, detached. `options` are key and value, or a flag where
/// the value is empty; `attr` are the mount's flags (RDONLY here is the mount's, not the
/// superblock's).
pub fn fresh(kind: &str, options: &[(&str, &str)], attr: u64) -> SysResult<OwnedFd> {
    let what = || format!("mount {kind}");
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).cannot(what)?;
    for (key, value) in options {
        let set = if value.is_empty() {
            rustix::mount::fsconfig_set_flag(fs.as_fd(), *key)
        } else {
            rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *value)
        };
        set.map_err(|e| with_log(&fs, format!("set {key}={value} for {kind}"), e))?;
    }
    rustix::mount::fsconfig_create(fs.as_fd()).map_err(|e| with_log(&fs, what(), e))?;
    let attr = MountAttrFlags::from_bits_retain(attr as u32);
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attr)
        .map_err(|e| with_log(&fs, what(), e))
}

/// Adds what the file system itself says about a failure, which is often the only clue.
fn with_log(fs: &OwnedFd, what: String, error: rustix::io::Errno) -> SysError {
    let mut text = [0u8; 256];
    match rustix::io::read(fs, &mut text) {
        Ok(n) if n > 2 => {
            let said = String::from_utf8_lossy(&text[2..n]);
            SysError::new(format!("{what} ({})", said.trim_end()), error)
        }
        _ => SysError::new(what, error),
    }
}

/// Opens `path` below `root` as the guest would see it: neither `..` nor an absolute link leads
/// out, and no link of /proc is followed.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    /// Where `..` is walked, the kernel gives up when anything on the host is renamed or mounted
    /// meanwhile, and asks for another try (openat2(2), EAGAIN).
    const TRIES: u32 = 1000;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    (0..TRIES).find_map(|_| Some(open()).filter(|r| !matches!(r, Err(Errno::AGAIN)))).unwrap_or_else(open)
}

/// Opens the directory `name` directly below `root` as a place to mount on, made if it is
/// missing.
///
/// # Errors
/// When it exists and is anything but a directory: a guest's link is never followed.
pub fn mount_point(root: BorrowedFd<'_>, name: &str) -> SysResult<OwnedFd> {
    match rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(SysError::new(format!("make the guest's /{name}"), e)),
    }
    let what = || format!("mount on the guest's /{name}");
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(root, name, flags, Mode::empty()).cannot(what)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&place).cannot(what)?.st_mode) {
        FileType::Directory => Ok(place),
        kind => {
            let reason = format!("it is {}, and must be a directory", kind_name(kind));
            Err(SysError::new(what(), std::io::Error::other(reason)))
        }
    }
}

/// Makes what stands at `new_root` the root of this mount namespace and drops the old one.
pub fn pivot_into(new_root: BorrowedFd<'_>) -> SysResult<()> {
    rustix::process::fchdir(new_root).cannot(|| "enter the new root")?;
    // The old root lands on top of the new one and is what "." then names.
    let old = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .cannot(|| "open the old root")?;
    rustix::process::pivot_root(c".", c".").cannot(|| "pivot the root")?;
    rustix::process::fchdir(&old).cannot(|| "enter the old root")?;
    rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH).cannot(|| "detach the old root")?;
    rustix::process::chdir(c"/").cannot(|| "enter the new root")
}

/// Stops mount events between this namespace and the one that it was copied from.
pub fn make_private() -> SysResult<()> {
    let flags = rustix::mount::MountPropagationFlags::REC | rustix::mount::MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change(c"/", flags).cannot(|| "make mounts private")
}

/// Opens a directory of this process's own root by absolute path, for mounting and walking only.
pub fn open_dir(path: &str) -> SysResult<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .cannot(|| format!("open {path}"))
}
