//! Paths in a guest's tree. Its links lead where they lead in the guest, and never out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::trouble::{At, Outcome, Trouble, failed, shown};
use super::unpack::Base;
use crate::model::file_job::{FailedKind, Push};
use crate::sys::fs::mount::open_in_root;

/// Links that lead from one to the next, as the kernel counts them.
const MOST_LINKS: usize = 40;

/// A directory of the guest's, and a name in it.
pub struct Place {
    pub dir: OwnedFd,
    pub name: Vec<u8>,
}

/// A directory and a name from a path; no name for the root itself.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = trimmed(path);
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"/", path),
    }
}

fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    &path[..end]
}

pub fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_in_root(root, if path.is_empty() { b"/" } else { path }, flags)
}

/// Where the name `path` stands, whatever is there.
pub fn place(root: BorrowedFd<'_>, path: &[u8]) -> Outcome<Place> {
    let (above, name) = split(path);
    if matches!(name, b"" | b"." | b"..") {
        let what = format!("work on '{}'", shown(path));
        return Err(Trouble::because(FailedKind::Other, what, "it is no name in a directory"));
    }
    match open(root, above, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(dir) => Ok(Place { dir, name: name.to_vec() }),
        Err(e @ (Errno::NOENT | Errno::NOTDIR)) => {
            Err(Trouble::new(FailedKind::NoParent, format!("open the directory '{}'", shown(above)), e))
        }
        Err(e) => Err(failed("open the directory", above, e)),
    }
}

/// Where a push writes to.
pub fn base(root: BorrowedFd<'_>, push: &Push) -> Outcome<Base> {
    let path = push.path.as_bytes();
    let directory = |path: &[u8]| open(root, path, OFlags::PATH | OFlags::DIRECTORY);
    let is_directory = push.into || path.ends_with(b"/") || path.is_empty();
    match directory(path) {
        Ok(dir) => return Ok(Base { dir, name: None }),
        Err(e @ (Errno::NOENT | Errno::NOTDIR)) if is_directory => {
            if e == Errno::NOENT && push.parents {
                return Ok(Base { dir: make_directories(root, path, push)?, name: None });
            }
            let what = format!("open the directory '{}'", shown(path));
            return Err(Trouble::new(FailedKind::NoParent, what, e));
        }
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(e) => return Err(failed("open", path, e)),
    }
    // A link at the end is followed, so that what it leads to is written and the link stays.
    let mut path = path.to_vec();
    for _ in 0..MOST_LINKS {
        let (above, name) = split(&path);
        let place = match place(root, &path) {
            Err(Trouble { kind: FailedKind::NoParent, .. }) if push.parents => {
                Place { dir: make_directories(root, above, push)?, name: name.to_vec() }
            }
            other => other?,
        };
        match rustix::fs::statat(&place.dir, &place.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(Base { dir: place.dir, name: Some(place.name) }),
            Err(e) => return Err(failed("look at", &path, e)),
        }
        let target = rustix::fs::readlinkat(&place.dir, &place.name[..], Vec::new());
        let target = target.at("read the link", &path)?;
        path = match target.to_bytes() {
            absolute @ [b'/', ..] => absolute.to_vec(),
            relative => [above, b"/", relative].concat(),
        };
    }
    Err(failed("open", &path, Errno::LOOP))
}

/// Makes the directory `path` and those that it is in, where they are missing.
fn make_directories(root: BorrowedFd<'_>, path: &[u8], push: &Push) -> Outcome<OwnedFd> {
    let mut at = Vec::new();
    let directory = |path: &[u8]| open(root, path, OFlags::PATH | OFlags::DIRECTORY);
    let mut parent = directory(b"/").at("open", b"/")?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at.push(b'/');
        at.extend_from_slice(name);
        parent = match directory(&at) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    // The guest may have made it at the same moment.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(failed("make the directory", &at, e)),
                }
                let made = directory(&at).at("open", &at)?;
                own(&made, push).at("set the owner of", &at)?;
                made
            }
            other => other.at("open the directory", &at)?,
        };
    }
    Ok(parent)
}

fn own(dir: &OwnedFd, push: &Push) -> rustix::io::Result<()> {
    if push.uid.is_none() && push.gid.is_none() {
        return Ok(());
    }
    let (uid, gid) = (push.uid.map(Uid::from_raw), push.gid.map(Gid::from_raw));
    rustix::fs::chownat(dir.as_fd(), c"", uid, gid, AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        for (path, above, name) in [
            ("/etc/motd", "/etc", "motd"),
            ("/motd", "/", "motd"),
            ("motd", "/", "motd"),
            ("/a/b//", "/a", "b"),
            ("/", "/", ""),
            ("", "/", ""),
        ] {
            assert_eq!(split(path.as_bytes()), (above.as_bytes(), name.as_bytes()), "{path}");
        }
    }
}
