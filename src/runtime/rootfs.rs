//! A guest's file system tree as its init finds it: overlay, /dev, /proc, /sys, /run. Built in the guest's
//! own namespaces, as its root, from the trees that the monitor got.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use super::devices;
use crate::model::monitor::{DEVICES, GuestMount, LXCFS_PROC, LXCFS_SYS, place};
use crate::sys::fs::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::{Context, SysError, SysResult};

/// Files of /proc that tell about the host; each is covered.
const MASKED: [&str; 5] = ["kcore", "keys", "kallsyms", "timer_list", "sysrq-trigger"];

/// Below /proc/sys: what belongs to the guest's own IPC namespace, so that its root may set it.
const OWN_SETTINGS: [&str; 9] = [
    "fs/mqueue",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// What the monitor keeps of a guest's tree.
pub struct Terminals {
    /// The console's master side.
    pub console_master: OwnedFd,
    /// Becomes init's standard input, output and error.
    pub console_slave: OwnedFd,
    /// Root of the guest's devpts, where further terminals are opened.
    pub devpts: OwnedFd,
    /// Where init says that it is up; bound to /run/host/notify.
    pub notify: OwnedFd,
}

/// Stacks the container's own changes over its layers, in the monitor's mount namespace. All of them are on mounts that the host attached before the monitor entered its user namespace.
pub fn mount_overlay() -> SysResult<()> {
    let upper = format!("{}/upper", place::DATA);
    let work = format!("{}/work", place::DATA);
    let what = || "list the layers";
    let lower = lower_layers(std::fs::read_dir(place::LAYERS).cannot(what)?.count());
    // Names from within the directory: the kernel takes 255 bytes for all layers together.
    rustix::process::chdir(place::LAYERS).cannot(what)?;
    let options = [
        ("source", "nagaya"),
        ("lowerdir", &lower),
        ("upperdir", &upper),
        ("workdir", &work),
        ("userxattr", ""),
        // A kernel that does this of itself refuses layers of which an overlay is still being taken down.
        ("index", "off"),
    ];
    let overlay = mount::fresh("overlay", &options, 0);
    rustix::process::chdir("/").cannot(what)?;
    let overlay = overlay?;
    let target = mount::open_dir(place::ROOTFS)?;
    mount::attach(overlay.as_fd(), target.as_fd())?;
    let stat = rustix::fs::fstatvfs(&overlay).cannot(|| "look at the guest's root file system")?;
    if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        let hint = "the overlay came up read-only: its work directory could not be written";
        return Err(SysError::new("mount the guest's root file system", std::io::Error::other(hint)));
    }
    Ok(())
}

/// The template and so many layers above it, as overlayfs finds them in the directory of these: the highest first.
fn lower_layers(above: usize) -> String {
    let names = (1..=above).rev().map(|number| number.to_string());
    names.chain([format!("..{}", place::TEMPLATE)]).collect::<Vec<_>>().join(":")
}

/// Mounts the overlay anew for a guest that has rebooted: one that has remounted its root read-only, as
/// the halt scripts of sysvinit and busybox do, has done it to the file system itself.
pub fn renew_overlay() -> SysResult<()> {
    rustix::mount::unmount(place::ROOTFS, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .cannot(|| "take the former boot's root file system down")?;
    mount_overlay()
}

/// Builds the whole tree below `place::ROOTFS` and makes it this process's root. `boot_id` and
/// `uuid` are written where init looks for them; `mounts` are the guest's other devices.
pub fn build(boot_id: &str, uuid: &str, mounts: &[GuestMount]) -> SysResult<Terminals> {
    let root = mount::open_dir(place::ROOTFS)?;
    let dev = build_dev(&root)?;
    let devpts = attach_dir(&dev, "pts", &devpts()?)?;
    attach_dir(&dev, "shm", &mount::fresh("tmpfs", &[("mode", "1777")], NOSUID | NODEV)?)?;
    attach_dir(&dev, "mqueue", &mount::fresh("mqueue", &[], NOSUID | NODEV | NOEXEC)?)?;
    build_proc(&root, &dev, boot_id)?;
    build_sys(&root)?;
    nesting(&dev)?;
    let run = build_run(&root, uuid)?;
    let (console_master, console_slave) = open_terminal(devpts.as_fd(), 0)?;
    bind_console(&dev, devpts.as_fd())?;
    let notify = notify_socket(&run)?;
    devices::attach_all(root.as_fd(), mounts)?;
    mount::pivot_into(root.as_fd())?;
    rustix::mount::mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::SHARED)
        .cannot(|| "share the guest's mounts")?;
    Ok(Terminals { console_master, console_slave, devpts, notify })
}

fn attach_dir(parent: &OwnedFd, name: &str, mount: &OwnedFd) -> SysResult<OwnedFd> {
    let target = mount::mount_point(parent.as_fd(), name)?;
    mount::attach(mount.as_fd(), target.as_fd())?;
    mount.try_clone().cannot(|| "duplicate a descriptor")
}

fn create(dir: &OwnedFd, name: &str, mode: u32) -> SysResult<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode)).cannot(|| format!("make {name}"))
}

/// Binds the object at absolute `source` of our own tree over `target`.
fn bind(source: &str, target: BorrowedFd<'_>) -> SysResult<()> {
    let fd = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .cannot(|| format!("open {source}"))?;
    mount::attach(mount::clone_tree(fd.as_fd())?.as_fd(), target)
}

/// Binds lxcfs's file at `path` over `target`. It does nothing on a host without lxcfs; an lxcfs that has
/// crashed must not keep a guest from booting.
fn cover_by_lxcfs(path: &str, target: BorrowedFd<'_>) {
    let source = format!("{}/{path}", place::LXCFS);
    // A dead file can still be opened as a path, so this asks it something.
    if std::fs::metadata(&source).is_ok()
        && let Err(e) = bind(&source, target)
    {
        tracing::debug!("{}", crate::sys::error_text(&e));
    }
}

fn build_dev(root: &OwnedFd) -> SysResult<OwnedFd> {
    let dev = mount::fresh("tmpfs", &[("mode", "755"), ("size", "4m"), ("nr_inodes", "4096")], NOSUID)?;
    let dev = attach_dir(root, "dev", &dev)?;
    rustix::fs::mkdirat(&dev, "net", Mode::from_raw_mode(0o755)).cannot(|| "make /dev/net")?;
    for (name, ..) in DEVICES {
        let path = if name == "tun" { "net/tun" } else { name };
        let source = format!("{}/{name}", place::DEVICES);
        // Not every host of an ordinary user's has each of them.
        if !std::path::Path::new(&source).exists() {
            continue;
        }
        let file = create(&dev, path, 0o666)?;
        bind(&source, file.as_fd())?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        rustix::fs::symlinkat(target, &dev, name).cannot(|| format!("make /dev/{name}"))?;
    }
    Ok(dev)
}

fn devpts() -> SysResult<OwnedFd> {
    let options =
        [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5"), ("max", "1024")];
    mount::fresh("devpts", &options, NOSUID | NOEXEC)
}

/// Opens a new terminal: master and slave, the slave owned by `uid` and group tty (5). The slave
/// is never looked up by path.
pub fn open_terminal(devpts: BorrowedFd<'_>, uid: u32) -> SysResult<(OwnedFd, OwnedFd)> {
    let what = || "open a terminal in the guest";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(devpts, "ptmx", flags, Mode::empty()).cannot(what)?;
    rustix::pty::unlockpt(&master).cannot(what)?;
    let flags =
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).cannot(what)?;
    let (uid, tty) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(5));
    rustix::fs::fchown(&slave, Some(uid), Some(tty)).cannot(what)?;
    rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620)).cannot(what)?;
    Ok((master, slave))
}

/// Binds the first terminal of a fresh devpts over /dev/console.
fn bind_console(dev: &OwnedFd, devpts: BorrowedFd<'_>) -> SysResult<()> {
    let target = create(dev, "console", 0o620)?;
    let slave =
        rustix::fs::openat(devpts, "0", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .cannot(|| "open the console's terminal")?;
    mount::attach(mount::clone_tree(slave.as_fd())?.as_fd(), target.as_fd())
}

fn build_proc(root: &OwnedFd, dev: &OwnedFd, boot_id: &str) -> SysResult<()> {
    let proc = attach_dir(root, "proc", &mount::fresh("proc", &[], NOSUID | NODEV | NOEXEC)?)?;
    let inside = |from: &OwnedFd, path: &str| {
        mount::open_in_root(from.as_fd(), path, OFlags::PATH).cannot(|| format!("open /proc/{path}"))
    };
    for name in MASKED {
        // Not every kernel has each of them.
        if let Ok(target) = mount::open_in_root(proc.as_fd(), name, OFlags::PATH) {
            bind(place::NOTHING, target.as_fd())?;
        }
    }
    for name in LXCFS_PROC {
        if let Ok(target) = mount::open_in_root(proc.as_fd(), name, OFlags::PATH) {
            cover_by_lxcfs(&format!("proc/{name}"), target.as_fd());
        }
    }
    // Read-only /proc/sys is how systemd knows not to try; net is the guest's own.
    let net = mount::clone_tree(inside(&proc, "sys/net")?.as_fd())?;
    let own = own_settings(&proc)?;
    let sys = mount::clone_tree(inside(&proc, "sys")?.as_fd())?;
    mount::set_attr(sys.as_fd(), RDONLY, 0, false)?;
    mount::attach(sys.as_fd(), inside(&proc, "sys")?.as_fd())?;
    mount::attach(net.as_fd(), inside(&sys, "net")?.as_fd())?;
    for (name, setting) in own {
        mount::attach(setting.as_fd(), inside(&sys, name)?.as_fd())?;
    }
    // The kernel's boot id is the host's, and stays the same when the guest reboots.
    rustix::fs::mkdirat(dev, ".lxc", Mode::from_raw_mode(0o755)).cannot(|| "make /dev/.lxc")?;
    let file = create(dev, ".lxc/boot_id", 0o444)?;
    rustix::io::write(&file, boot_id.as_bytes()).cannot(|| "write the boot id")?;
    let source = mount::clone_tree(
        mount::open_in_root(dev.as_fd(), ".lxc/boot_id", OFlags::PATH).cannot(|| "open the boot id")?.as_fd(),
    )?;
    mount::set_attr(source.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, 0, false)?;
    mount::attach(source.as_fd(), inside(&sys, "kernel/random/boot_id")?.as_fd())
}

/// Mounts of the settings that the kernel lets the guest's root write; older kernels reserve them for the
/// host's root.
fn own_settings(proc: &OwnedFd) -> SysResult<Vec<(&'static str, OwnedFd)>> {
    let mut own = Vec::new();
    for name in OWN_SETTINGS {
        let Ok(file) = mount::open_in_root(proc.as_fd(), &format!("sys/{name}"), OFlags::PATH) else {
            continue;
        };
        if rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_uid == 0) {
            own.push((name, mount::clone_tree(file.as_fd())?));
        }
    }
    Ok(own)
}

/// sysfs, of which the mount is read-only (by which systemd knows that devices are not its own)
/// while the superblock is not: a nested container may mount its own.
fn build_sys(root: &OwnedFd) -> SysResult<()> {
    let sys = attach_dir(root, "sys", &mount::fresh("sysfs", &[], NOSUID | NODEV | NOEXEC | RDONLY)?)?;
    let cpu = format!("{}/{}", LXCFS_SYS.0, LXCFS_SYS.1);
    if let Ok(target) = mount::open_in_root(sys.as_fd(), &cpu, OFlags::PATH | OFlags::DIRECTORY) {
        cover_by_lxcfs(&format!("sys/{cpu}"), target.as_fd());
    }
    let cgroup = mount::fresh("cgroup2", &[], NOSUID | NODEV | NOEXEC)?;
    let target = mount::open_in_root(sys.as_fd(), "fs/cgroup", OFlags::PATH | OFlags::DIRECTORY)
        .cannot(|| "open /sys/fs/cgroup")?;
    mount::attach(cgroup.as_fd(), target.as_fd())
}

/// Uncovered instances of proc and sysfs in a closed directory: without them the kernel would
/// refuse them to a container inside the guest.
fn nesting(dev: &OwnedFd) -> SysResult<()> {
    let flags = NOSUID | NODEV | NOEXEC;
    let dir = mount::open_in_root(dev.as_fd(), ".lxc", OFlags::PATH | OFlags::DIRECTORY)
        .cannot(|| "open /dev/.lxc")?;
    attach_dir(&dir, "proc", &mount::fresh("proc", &[], flags)?)?;
    attach_dir(&dir, "sys", &mount::fresh("sysfs", &[], flags)?)?;
    rustix::fs::chmodat(dev, ".lxc", Mode::empty(), AtFlags::empty()).cannot(|| "close /dev/.lxc")
}

fn build_run(root: &OwnedFd, uuid: &str) -> SysResult<OwnedFd> {
    let run = mount::fresh("tmpfs", &[("mode", "755"), ("size", "20%")], NOSUID | NODEV)?;
    let run = attach_dir(root, "run", &run)?;
    rustix::fs::mkdirat(&run, "host", Mode::from_raw_mode(0o755)).cannot(|| "make /run/host")?;
    let files =
        [("host/container-manager", "lxc\n".to_owned()), ("host/container-uuid", format!("{uuid}\n"))];
    for (name, text) in files {
        let file = create(&run, name, 0o444)?;
        rustix::io::write(&file, text.as_bytes()).cannot(|| format!("write /run/{name}"))?;
    }
    Ok(run)
}

/// A datagram socket at /run/host/notify, for sd_notify. Bound through the directory's descriptor
/// in /proc, for bind(2) knows only paths.
fn notify_socket(run: &OwnedFd) -> SysResult<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let what = || "make the notification socket";
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .cannot(what)?;
    rustix::process::fchdir(run).cannot(what)?;
    let address = SocketAddrUnix::new("host/notify").cannot(what)?;
    rustix::net::bind(&socket, &address).cannot(what)?;
    rustix::fs::chmodat(run, "host/notify", Mode::from_raw_mode(0o777), AtFlags::empty()).cannot(what)?;
    Ok(socket)
}

/// Gives a running guest a new console, from inside its mount namespace: its old terminal went
/// with the monitor that held it.
pub fn renew_console() -> SysResult<(OwnedFd, OwnedFd)> {
    let what = || "give the guest a new console";
    let devpts = mount::open_dir("/dev/pts")?;
    let magic = rustix::fs::fstatfs(&devpts).cannot(what)?.f_type;
    if magic != 0x1cd1 {
        return Err(SysError::new(what(), std::io::Error::other("its /dev/pts is no devpts")));
    }
    let (master, _slave) = open_terminal(devpts.as_fd(), 0)?;
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int.
    if unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&master), libc::TIOCGPTN, &raw mut number) } != 0
    {
        return Err(SysError::last(what()));
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let slave = rustix::fs::openat(&devpts, number.to_string(), flags, Mode::empty()).cannot(what)?;
    let slave = mount::clone_tree(slave.as_fd())?;
    let _ = rustix::mount::unmount(c"/dev/console", UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    let target = rustix::fs::open("/dev/console", flags, Mode::empty()).cannot(what)?;
    mount::attach(slave.as_fd(), target.as_fd())?;
    Ok((master, devpts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::monitor::MOST_LAYERS;

    #[test]
    fn the_highest_layer_is_first_and_all_fit_in_one_option() {
        assert_eq!(lower_layers(0), "../template");
        assert_eq!(lower_layers(2), "2:1:../template");
        assert!(lower_layers(MOST_LAYERS - 1).len() < 256);
    }
}
