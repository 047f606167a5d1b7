//! Trying what a version number or a configuration can only promise. No trial leaves anything behind: it
//! happens in a child, on detached mounts, in namespaces that end with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use crate::sys::SysError;
use crate::sys::fs::mount;
use crate::sys::process::failed::{Doing, Failed};
use crate::sys::process::fork::Fork;
use crate::sys::process::identity;

/// A trial that could not be made, or that failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Child(#[from] SysError),
    #[error("cannot {what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> ProbeError {
    move |error| ProbeError::System { what, source: error.into() }
}

/// Whether overlayfs is there. The kernel loads its module if need be. Wants root.
pub fn overlay() -> Result<(), ProbeError> {
    rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map(drop)
        .map_err(system("open file system 'overlay'"))
}

/// Whether the file system of `dir` can be mounted with its ids mapped through `namespace`.
/// Wants root.
pub fn idmapped_mount(dir: &Path, namespace: &OwnedFd) -> Result<(), ProbeError> {
    let dir = open_dir(dir)?;
    let trial = Fork::new("try a mount").keep([&dir, namespace]);
    Ok(trial.attempt(|_| idmapped(dir.as_fd(), namespace).map(drop))?)
}

/// Whether an overlay stands on a layer that is mounted like that. Nothing is written: `dir` itself
/// becomes a lower layer. Wants root.
pub fn overlay_on_idmapped(dir: &Path, namespace: &OwnedFd) -> Result<(), ProbeError> {
    let dir = open_dir(dir)?;
    let trial = Fork::new("try an overlay").keep([&dir, namespace]);
    Ok(trial.attempt(|_| {
        let layer = idmapped(dir.as_fd(), namespace)?;
        private_run_dir()?;
        rustix::mount::move_mount(&layer, c"", CWD, c"/run/a", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .doing("attach an idmapped mount")?;
        let overlay = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .doing("open file system 'overlay'")?;
        rustix::mount::fsconfig_set_string(overlay.as_fd(), c"lowerdir", c"/run/a:/run/b")
            .doing("set an overlay's layers")?;
        rustix::mount::fsconfig_set_flag(overlay.as_fd(), c"userxattr").doing("set userxattr")?;
        rustix::mount::fsconfig_create(overlay.as_fd()).doing("stack an overlay on an idmapped layer")?;
        rustix::mount::fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map(drop)
            .doing("mount an overlay on an idmapped layer")
    })?)
}

/// A mount namespace of the child's own, in which /run is empty but for two directories.
fn private_run_dir() -> Result<(), Failed> {
    identity::unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .doing("make mounts private")?;
    rustix::mount::mount(c"tmpfs", c"/run", c"tmpfs", MountFlags::empty(), None).doing("mount a tmpfs")?;
    for name in [c"/run/a", c"/run/b"] {
        rustix::fs::mkdir(name, Mode::RWXU).doing("make a directory")?;
    }
    Ok(())
}

fn idmapped(dir: BorrowedFd<'_>, namespace: &OwnedFd) -> Result<OwnedFd, Failed> {
    mount::clone_idmapped(dir, namespace, 0).doing("map the ids of a mount")
}

fn open_dir(dir: &Path) -> Result<OwnedFd, ProbeError> {
    rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(system("open the directory"))
}

/// Runs `body` in a child in a new, empty network namespace; programs started there stand in it too. Wants
/// root.
pub fn in_network_namespace<T>(body: impl FnOnce() -> T) -> Result<T, ProbeError>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let done: Result<T, i32> = Fork::new("look into a network namespace").run(|| {
        identity::unshare(UnshareFlags::NEWNET).map_err(|failed| failed.errno.raw_os_error())?;
        Ok(body())
    })?;
    done.map_err(io::Error::from_raw_os_error).map_err(system("make a network namespace"))
}

/// Whether the kernel makes bridges and veth pairs, in a network namespace of its own. Wants root.
pub fn bridge_and_veth() -> Result<(), ProbeError> {
    let errno = |e: io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    Ok(Fork::new("make links").attempt(|_| {
        identity::unshare(UnshareFlags::NEWNET)?;
        make_link("ngprobe0", InfoKind::Bridge).map_err(errno).doing("make a bridge")?;
        make_link("ngprobe1", InfoKind::Veth).map_err(errno).doing("make a veth pair")
    })?)
}

fn make_link(name: &str, kind: InfoKind) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewLink(link));
    message.header.flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::IdRange;
    use crate::sys::process::userns;

    fn namespace() -> OwnedFd {
        userns::over(IdRange::at(1_993_000_000).unwrap()).unwrap()
    }

    fn net_ns() -> std::path::PathBuf {
        std::fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn a_disk_takes_idmapped_mounts_and_proc_does_not() {
        let namespace = namespace();
        idmapped_mount(Path::new("/var/lib"), &namespace).unwrap();
        overlay_on_idmapped(Path::new("/var/lib"), &namespace).unwrap();
        let error = idmapped_mount(Path::new("/proc"), &namespace).unwrap_err();
        assert_eq!(error.to_string(), "cannot map the ids of a mount");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(" /run/a "), "{mounts}");
    }

    #[test]
    fn links_are_made_in_a_namespace_that_goes() {
        bridge_and_veth().unwrap();
        assert!(!Path::new("/sys/class/net/ngprobe0").exists());
        let here = net_ns();
        assert_ne!(in_network_namespace(net_ns).unwrap(), here);
        assert_eq!(net_ns(), here);
        let error = in_network_namespace(|| make_link("lo", InfoKind::Bridge).map_err(|e| e.raw_os_error()));
        assert_eq!(error.unwrap().unwrap_err(), Some(libc::EEXIST));
    }
}
