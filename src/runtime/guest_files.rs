//! Writing nagaya's files into a guest, from inside its namespaces and as its root.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::model::guest_file::{self, GuestFile, MARKER, When};
use crate::sys::mount::open_in_root;
use crate::sys::{Context, SysError, SysResult};

/// A file that we overwrite is read at most this far, to see whether it changes.
const MAX_READ: u64 = 64 * 1024;

/// Writes `file` below the process's root, which is the guest's. The guest's own choices are
/// respected as `file.when` says; a file that would not change is left alone, for the write would
/// copy it up.
///
/// # Errors
/// Where the guest has something in the way that is no directory, or its disk is full.
pub fn write(root: &OwnedFd, file: &GuestFile) -> SysResult<()> {
    let what = || format!("write the guest's {}", file.path);
    let relative = file.path.trim_start_matches('/');
    let (dir, name) = relative.rsplit_once('/').unwrap_or((".", relative));
    let parent = make_dirs(root, dir)?;
    let there = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
        Err(Errno::NOENT) => None,
        Err(e) => return Err(SysError::new(what(), e)),
    };
    let current = match there {
        Some(FileType::RegularFile) => read_regular(&parent, name, MAX_READ),
        _ => None,
    };
    let write_it = match (file.when, there) {
        (_, Some(FileType::Directory)) => {
            return Err(SysError::new(what(), std::io::ErrorKind::IsADirectory));
        }
        (When::Always, _) | (_, None) => true,
        (When::IfMissing, Some(_)) => false,
        (When::UnlessLink, Some(kind)) => kind != FileType::Symlink,
        (When::IfMissingOrOurs, Some(_)) => {
            current.as_deref().is_some_and(|text| first_line(text) == MARKER.as_bytes())
        }
    };
    if !write_it || current.as_deref() == Some(file.content.as_bytes()) {
        return Ok(());
    }
    // A new file put in place by a rename: whatever stood there, link or fifo, is not opened.
    let temporary = format!(".{name}.nagaya");
    let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&parent, &*temporary, flags, Mode::from_raw_mode(file.mode)).cannot(what)?;
    std::fs::File::from(fd).write_all(file.content.as_bytes()).cannot(what)?;
    rustix::fs::renameat(&parent, &*temporary, &parent, name).cannot(what)
}

/// Removes what an earlier start has written for interfaces that are gone: files of ours that are not
/// among `files`. What else the guest has is left alone, and so is what cannot be read.
pub fn remove_stale(root: &OwnedFd, files: &[GuestFile]) {
    for dir in guest_file::interface_file_dirs() {
        let relative = dir.trim_start_matches('/');
        let Ok(parent) = open_in_root(root.as_fd(), relative, OFlags::RDONLY | OFlags::DIRECTORY) else {
            continue;
        };
        let Ok(entries) = rustix::fs::Dir::read_from(&parent) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            let path = format!("{dir}/{name}");
            let is_wanted = files.iter().any(|file| file.path == path);
            if !is_wanted && guest_file::is_interface_file(&path) && is_ours(&parent, name) {
                let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
            }
        }
    }
}

fn is_ours(parent: &OwnedFd, name: &str) -> bool {
    read_regular(parent, name, MAX_READ).is_some_and(|text| first_line(&text) == MARKER.as_bytes())
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split(|b| *b == b'\n').next().unwrap_or_default()
}

/// Opens directory `path` below the root, making what is missing. Links are followed as the guest
/// would, never out of its root.
fn make_dirs(root: &OwnedFd, path: &str) -> SysResult<OwnedFd> {
    let what = || format!("open the guest's /{path}");
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root.as_fd(), path, flags) {
        Err(Errno::NOENT) => {}
        other => return other.cannot(what),
    }
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let parent = make_dirs(root, above)?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(SysError::new(what(), e)),
    }
    rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).cannot(what)
}

/// The content of a regular file of at most `max` bytes; none otherwise.
pub fn read_regular(parent: &OwnedFd, name: &str, max: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size as u64 > max {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::from(fd).take(max).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn interface_file(path: &str) -> GuestFile {
        GuestFile { path: path.into(), content: format!("{MARKER}\n"), mode: 0o600, when: When::Always }
    }

    #[test]
    fn files_of_interfaces_that_are_gone_go_and_nothing_else_does() {
        let tree = tempfile::TempDir::new().unwrap();
        let root: OwnedFd = fs::File::open(tree.path()).unwrap().into();
        let path = |path: &str| tree.path().join(path.trim_start_matches('/'));
        let scripts = "/etc/sysconfig/network-scripts";
        let stale = [
            "/etc/systemd/network/05-nagaya-eth1.network".to_owned(),
            "/etc/NetworkManager/system-connections/nagaya-eth1.nmconnection".to_owned(),
            format!("{scripts}/ifcfg-eth1"),
            format!("{scripts}/route-eth1"),
        ];
        let kept = [format!("{scripts}/ifcfg-eth0"), "/etc/systemd/network/05-mine.network".to_owned()];
        for file in stale.iter().chain(&kept) {
            write(&root, &interface_file(file)).unwrap();
        }
        let (foreign, link) = (path(scripts).join("ifcfg-lo"), path(scripts).join("ifcfg-eth9"));
        fs::write(&foreign, "DEVICE=lo\n").unwrap();
        symlink("ifcfg-eth0", &link).unwrap();
        remove_stale(&root, &[interface_file(&kept[0])]);
        assert!(stale.iter().all(|file| !path(file).exists()));
        assert!(kept.iter().all(|file| path(file).exists()));
        assert!(foreign.exists() && link.is_symlink());
        // Where the directories are links out of the tree, nobody's file is touched.
        let outside = tempfile::TempDir::new().unwrap();
        fs::write(outside.path().join("05-nagaya-eth7.network"), format!("{MARKER}\n")).unwrap();
        fs::remove_dir_all(path("/etc/systemd/network")).unwrap();
        symlink(outside.path(), path("/etc/systemd/network")).unwrap();
        remove_stale(&root, &[]);
        assert!(outside.path().join("05-nagaya-eth7.network").exists());
    }
}
