//! A guest's devices besides interfaces: mounted in its tree, as its root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::UnmountFlags;

use crate::model::monitor::{GuestMount, MountSource, place};
use crate::sys::fs::guest_place::{self, Place};
use crate::sys::fs::mount::{self, NODEV, NOSUID, RDONLY};
use crate::sys::{Context, SysError, SysResult, error_text};

/// A mount that is attached nowhere yet, and what it is.
pub struct Loose {
    mount: OwnedFd,
    place: Place,
}

impl Loose {
    /// Of what the monitor's tree has, or made anew; none where the host has given nothing.
    pub fn of(source: &MountSource) -> SysResult<Option<Self>> {
        let path = match source {
            MountSource::Place(path) => path,
            MountSource::Tmpfs { size, readonly } => {
                let size = size.map(|bytes| bytes.to_string());
                let options = size.iter().map(|bytes| ("size", bytes.as_str()));
                let options: Vec<_> = options.chain([("mode", "755")]).collect();
                let mount =
                    mount::fresh("tmpfs", &options, NOSUID | NODEV | if *readonly { RDONLY } else { 0 })?;
                return Ok(Some(Self { mount, place: Place::Directory }));
            }
        };
        let opened = match rustix::fs::open(
            path.as_str(),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => other.cannot(|| format!("open {path}"))?,
        };
        let stat = rustix::fs::fstat(&opened).cannot(|| format!("look at {path}"))?;
        let place = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Place::Directory,
            _ => Place::File,
        };
        Ok(Some(Self { mount: mount::clone_whole(opened.as_fd())?, place }))
    }

    /// What a child needs to attach it.
    pub fn mount(&self) -> &OwnedFd {
        &self.mount
    }

    /// Attaches it at `path` of the guest whose root is `root`.
    pub fn attach(&self, root: BorrowedFd<'_>, path: &str) -> SysResult<()> {
        let target = guest_place::make(root, path, self.place)?;
        mount::attach(self.mount.as_fd(), target.as_fd())
    }
}

/// Gives a guest that boots all of them.
///
/// # Errors
/// Where one fails that the guest must have.
pub fn attach_all(root: BorrowedFd<'_>, mounts: &[GuestMount]) -> SysResult<()> {
    for device in mounts {
        let attached = Loose::of(&device.source).and_then(|loose| match loose {
            Some(loose) => loose.attach(root, &device.path),
            None => Ok(()),
        });
        match attached {
            Err(e) if device.required => return Err(e),
            Err(e) => tracing::debug!("device {}: {}", device.device, error_text(&e)),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Places in the monitor's own tree for devices that come while the guest runs.
#[derive(Default)]
pub struct Places {
    /// None before the first: the tree that the monitor was born with is read-only.
    dir: Option<OwnedFd>,
    last: u64,
}

impl Places {
    /// Keeps a mount, for the guest's next boots too. Returns its place.
    pub fn keep(&mut self, mount: &OwnedFd) -> SysResult<String> {
        let stat = rustix::fs::fstat(mount).cannot(|| "look at a device's mount")?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Place::Directory,
            _ => Place::File,
        };
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => {
                let dir = mount::fresh("tmpfs", &[("mode", "755"), ("size", "64k")], NOSUID | NODEV)?;
                mount::attach(dir.as_fd(), mount::open_dir(place::PLUGGED)?.as_fd())?;
                dir
            }
        };
        let dir = self.dir.insert(dir);
        self.last += 1;
        let target = guest_place::make(dir.as_fd(), &format!("/{}", self.last), kind)?;
        mount::attach(mount.as_fd(), target.as_fd())?;
        Ok(format!("{}/{}", place::PLUGGED, self.last))
    }
}

/// Lets go of what is kept at `place`. What the monitor was born with stays, for it is locked.
pub fn let_go(source: &MountSource) {
    if let MountSource::Place(path) = source
        && path.starts_with(place::PLUGGED)
    {
        let _ = rustix::mount::unmount(path.as_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        let _ = std::fs::remove_dir(path).or_else(|_| std::fs::remove_file(path));
    }
}

/// Unmounts what is at `path` of the guest whose root is `root`: only `expected`, if that is known. Where nothing is
/// mounted, the guest has done it itself. With `force`, those who use it keep it.
pub fn detach(root: BorrowedFd<'_>, path: &str, expected: Option<Identity>, force: bool) -> SysResult<()> {
    let what = || format!("unmount the guest's {path}");
    let Some((found, name)) = guest_place::mounted(root, path)? else { return Ok(()) };
    if expected.is_some_and(|expected| Identity::of(&found).is_ok_and(|found| found != expected)) {
        let reason = "the guest has mounted something else there";
        return Err(SysError::new(what(), std::io::Error::other(reason)));
    }
    drop(found);
    let flags = if force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(name.as_str(), flags | UnmountFlags::NOFOLLOW).cannot(what)
}

/// By which a mount's root is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u64, u64);

impl Identity {
    fn of(fd: &OwnedFd) -> SysResult<Self> {
        let stat = rustix::fs::fstat(fd).cannot(|| "look at a mount")?;
        Ok(Self(stat.st_dev, stat.st_ino))
    }

    /// Of what the monitor has at a place.
    pub fn at(source: &MountSource) -> Option<Self> {
        let MountSource::Place(path) = source else { return None };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::of(&rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?).ok()
    }
}
