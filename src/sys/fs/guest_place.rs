//! Places in a guest's tree to mount on. A guest's links lead nowhere else than they do in the guest, and nothing that
//! is there is opened.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::mount::open_in_root;
use super::rooted::kind_name;
use crate::sys::{Context, SysError, SysResult};

/// What is mounted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Directory,
    /// A device node, or another file.
    File,
}

/// Opens `path` below `root` to mount on it. What is missing is made as the caller: directories of mode 755, and at the
/// end an empty file of mode 0 if that is to be one.
///
/// # Errors
/// When something else is in the way.
pub fn make(root: BorrowedFd<'_>, path: &str, place: Place) -> SysResult<OwnedFd> {
    let what = || format!("make the guest's {path}");
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let Some((last, above)) = names.split_last() else {
        return Err(SysError::new(what(), std::io::ErrorKind::InvalidInput));
    };
    let (mut at, mut parent) = (String::new(), directory(root, "/").cannot(what)?);
    for name in above {
        at = format!("{at}/{name}");
        parent = match directory(root, &at) {
            Err(Errno::NOENT) => {
                made(rustix::fs::mkdirat(&parent, *name, Mode::from_raw_mode(0o755))).cannot(what)?;
                directory(root, &at).cannot(what)?
            }
            other => other.cannot(what)?,
        };
    }
    at = format!("{at}/{last}");
    // A link at the end is not followed: what is mounted is found by this name again.
    let found = match open_in_root(root, &at, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => {
            let (dirs, files) = (Mode::from_raw_mode(0o755), Mode::empty());
            made(match place {
                Place::Directory => rustix::fs::mkdirat(&parent, *last, dirs),
                Place::File => rustix::fs::mknodat(&parent, *last, FileType::RegularFile, files, 0),
            })
            .cannot(what)?;
            open_in_root(root, &at, OFlags::PATH | OFlags::NOFOLLOW).cannot(what)?
        }
        other => other.cannot(what)?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found).cannot(what)?.st_mode);
    if (kind == FileType::Directory) == (place == Place::Directory) {
        return Ok(found);
    }
    let reason = format!("it is {}", kind_name(kind));
    Err(SysError::new(format!("mount on the guest's {path}"), std::io::Error::other(reason)))
}

/// What is at `path` below `root`, if a mount's root is there, and the directory that it is in; this directory is
/// entered, for umount2(2) knows only paths.
pub fn mounted(root: BorrowedFd<'_>, path: &str) -> SysResult<Option<(OwnedFd, String)>> {
    let what = || format!("find what is mounted on the guest's {path}");
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let found = match open_in_root(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.cannot(what)?,
    };
    let flags = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(&found, c"", flags, rustix::fs::StatxFlags::empty()).cannot(what)?;
    if !stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT) {
        return Ok(None);
    }
    let parent = directory(root, if above.is_empty() { "/" } else { above }).cannot(what)?;
    rustix::process::fchdir(&parent).cannot(what)?;
    Ok(Some((found, name.to_owned())))
}

fn directory(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    open_in_root(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY)
}

/// A guest may have made it at the same moment, or have a link there that leads nowhere: what it is is seen when it is
/// opened.
fn made(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_nowhere_else_than_in_the_guest() {
        let outside = tempfile::tempdir().unwrap();
        let guest = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(guest.path()).unwrap();
        let at = |path: &str, place| make(root.as_fd(), path, place);
        at("/srv/www/data", Place::Directory).unwrap();
        at("/dev/kvm", Place::File).unwrap();
        assert!(guest.path().join("srv/www/data").is_dir() && guest.path().join("dev/kvm").is_file());
        // Again, and through a link that stays within.
        at("/srv/www/data", Place::Directory).unwrap();
        symlink("/srv", guest.path().join("home")).unwrap();
        at("/home/www/more", Place::Directory).unwrap();
        assert!(guest.path().join("srv/www/more").is_dir());
        // To a place outside: in the guest it names another.
        symlink(outside.path(), guest.path().join("out")).unwrap();
        symlink("../../../..", guest.path().join("up")).unwrap();
        assert!(at("/out/x", Place::Directory).is_err(), "it leads nowhere in the guest");
        at("/up/y", Place::Directory).unwrap();
        assert!(
            guest.path().join("y").is_dir() && std::fs::read_dir(outside.path()).unwrap().next().is_none()
        );
        // Of another kind.
        let err = at("/dev/kvm", Place::Directory).unwrap_err().to_string();
        assert!(err.contains("mount on the guest's /dev/kvm"), "{err}");
        assert!(at("/srv", Place::File).is_err() && at("/dev/kvm/x", Place::Directory).is_err());
        assert!(at("/", Place::Directory).is_err());
    }
}
