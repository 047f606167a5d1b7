//! What an owner lends a new container, and what its monitor is to have: descriptors from a caller
//! who is not trusted, each checked to be of its kind.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::model::ids::Slice;
use crate::model::monitor::MAX_CONFIG;
use crate::sys::mountinfo::Mounts;
use crate::sys::{error_text, sealed};

/// How many descriptors come with `Spawn`: template, data, config, control, state, two logs.
pub const SPAWN_FDS: usize = 7;

pub struct Lent {
    /// The template's root directory.
    pub template: OwnedFd,
    /// The directory with the overlay's `upper` and `work`.
    pub data: OwnedFd,
    /// A sealed memory file.
    pub config: OwnedFd,
    /// A listening socket.
    pub control: OwnedFd,
    pub state: OwnedFd,
    pub logs: [OwnedFd; 2],
}

impl Lent {
    /// `is_own`: the broker is the caller's own, whom the caller may keep waiting.
    ///
    /// # Errors
    /// What is wrong with which descriptor.
    pub fn checked(fds: Vec<OwnedFd>, storage: Slice, is_own: bool) -> Result<Self, String> {
        let fds: [OwnedFd; SPAWN_FDS] =
            fds.try_into().map_err(|_| format!("Spawn takes {SPAWN_FDS} descriptors"))?;
        let [template, data, config, control, state, log, other_log] = fds;
        let files = [&template, &data, &state, &log, &other_log];
        if !is_own {
            answering(&files)?;
        }
        tree(&template, storage).map_err(|e| format!("the template {e}"))?;
        tree(&data, storage).map_err(|e| format!("the container's directory {e}"))?;
        sealed::size(&config, MAX_CONFIG as usize).ok_or_else(|| {
            format!("the configuration is not a sealed memory file of at most {} MiB", MAX_CONFIG >> 20)
        })?;
        listening(control.as_fd()).map_err(|e| format!("the control socket {e}"))?;
        for (fd, what) in [(&state, "state record"), (&log, "first log"), (&other_log, "second log")] {
            writable(fd).map_err(|e| format!("the {what} {e}"))?;
        }
        Ok(Self { template, data, config, control, state, logs: [log, other_log] })
    }
}

/// Looking at a file, and opening it anew, is not to wait for a program of the caller's.
fn answering(files: &[&OwnedFd]) -> Result<(), String> {
    let mounts = Mounts::read().map_err(|e| error_text(&e))?;
    match files.iter().any(|fd| mounts.may_hang(fd)) {
        true => Err("files and trees must be on a file system of this host, and not on FUSE".to_owned()),
        false => Ok(()),
    }
}

/// A tree that may be lent: a directory that belongs to the storage slice's root.
fn tree(fd: &OwnedFd, storage: Slice) -> Result<(), String> {
    let stat = rustix::fs::fstat(fd).map_err(|e| format!("cannot be looked at: {e}"))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if is_dir && stat.st_uid == storage.base() {
        Ok(())
    } else {
        Err("is not a directory of your storage slice".to_owned())
    }
}

fn listening(fd: BorrowedFd<'_>) -> Result<(), String> {
    let right = sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET)
        && sockopt::socket_acceptconn(fd) == Ok(true);
    if right { Ok(()) } else { Err("is not a listening unix socket of packets".to_owned()) }
}

fn writable(fd: &OwnedFd) -> Result<(), String> {
    let stat = rustix::fs::fstat(fd).map_err(|e| format!("cannot be looked at: {e}"))?;
    let flags = rustix::fs::fcntl_getfl(fd).unwrap_or(OFlags::PATH);
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if regular && flags & OFlags::RWMODE == OFlags::RDWR && !flags.contains(OFlags::PATH) {
        Ok(())
    } else {
        Err("is not a file that is open for reading and writing".to_owned())
    }
}
