//! Deleting trees that may be hostile: no link is followed, no file is opened, and neither depth nor number
//! of entries costs memory.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;

use crate::sys::SysResult;
use crate::sys::process::failed::{Doing, Failed, Subject};
use crate::sys::process::fork::Fork;
use crate::sys::process::seccomp;

/// Directories that are open at once. What lies deeper is first moved up to the top.
const DEPTH: usize = 32;

/// As whom to delete.
pub enum Eraser {
    /// Root of this user namespace, which can touch only the files of its ids.
    IdRange(OwnedFd),
    /// An ordinary user without any capability.
    User { uid: u32, gid: u32 },
}

/// Deletes all that is in `dir`, which stays, in a child that has become `eraser` for good. The
/// caller is real root; `dir` may have been opened with `O_PATH`.
pub fn empty_dir_as(dir: BorrowedFd<'_>, eraser: &Eraser) -> SysResult<()> {
    let filter = seccomp::worker_filter()?;
    let fork = Fork::new("delete").without_terminal().keep([&dir]).dies_with_parent().filter(&filter);
    let fork = match eraser {
        Eraser::IdRange(namespace) => fork.root_of(namespace).with_file_rights_only(),
        Eraser::User { uid, gid } => fork.user(*uid, *gid),
    };
    fork.attempt(|subject| empty_dir(dir, subject))
}

/// Deletes all that is in `dir` with the rights that the process has. Allocates nothing. A failure
/// leaves the name of the file in `subject`; what could be deleted before it is gone.
pub fn empty_dir(dir: BorrowedFd<'_>, subject: &mut Subject) -> Result<(), Failed> {
    let mut walk = Walk { top: dir, moved: 0, subject };
    loop {
        let before = walk.moved;
        walk.empty(dir, 0)?;
        if walk.moved == before {
            return Ok(());
        }
    }
}

struct Walk<'a> {
    top: BorrowedFd<'a>,
    /// Directories that were moved to the top, which also makes their names there.
    moved: u64,
    subject: &'a mut Subject,
}

impl Walk<'_> {
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> Result<(), Failed> {
        // A position of its own, which begins at the first entry.
        let dir = open_dir(dir, c".").doing("list the directory")?;
        let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 1024];
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.doing("list the directory")?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => self.directory(dir.as_fd(), name, depth)?,
                Err(errno) => return self.fail(name, errno),
            }
        }
        Ok(())
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Failed> {
        // Most directories of a deep chain are empty by the time they are met again.
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return self.fail(name, errno),
        }
        if depth == DEPTH {
            return self.move_up(parent, name);
        }
        match open_dir(parent, name) {
            Ok(dir) => self.empty(dir.as_fd(), depth + 1)?,
            Err(errno) => return self.fail(name, errno),
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => self.fail(name, errno),
        }
    }

    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Failed> {
        loop {
            self.moved += 1;
            let target = hex_name(self.moved);
            match rustix::fs::renameat_with(parent, name, self.top, &target[..], RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(errno) => return self.fail(name, errno),
            }
        }
    }

    fn fail<T>(&mut self, name: &CStr, errno: Errno) -> Result<T, Failed> {
        self.subject.set(name.to_bytes());
        Err(errno).doing("delete")
    }
}

fn open_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// `.erase-` and sixteen digits, without asking for memory.
fn hex_name(number: u64) -> [u8; 23] {
    let mut name = *b".erase-0000000000000000";
    for (place, byte) in name.iter_mut().rev().take(16).enumerate() {
        *byte = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
    }
    name
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::model::ids::IdRange;

    fn chown(path: &std::path::Path, id: u32) {
        std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
    }

    #[test]
    fn an_id_range_deletes_its_own_hostile_tree_and_follows_no_link() {
        let id_range = IdRange::at(1_991_000_000).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (pool, safe) = (dir.path().join("pool"), dir.path().join("safe"));
        fs::create_dir(&pool).unwrap();
        fs::create_dir(&safe).unwrap();
        fs::write(safe.join("keep"), "x").unwrap();
        symlink(&safe, pool.join("link")).unwrap();
        symlink("/", pool.join("root")).unwrap();
        let closed = pool.join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("\u{fffd}\n"), "x").unwrap();
        fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
        chown(&closed, id_range.base() + 1000);
        chown(&pool, id_range.base());
        let top = File::open(&pool).unwrap();
        // Deeper than the depth that is walked, than PATH_MAX and than the limit of descriptors.
        let mut at = OwnedFd::from(top.try_clone().unwrap());
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"deep", 0o755.into()).unwrap();
            rustix::fs::chownat(
                &at,
                c"deep",
                Some(rustix::fs::Uid::from_raw(id_range.base())),
                None,
                AtFlags::empty(),
            )
            .unwrap();
            at = open_dir(at.as_fd(), c"deep").unwrap();
        }
        let eraser = Eraser::IdRange(crate::sys::process::userns::over(id_range).unwrap());
        empty_dir_as(top.as_fd(), &eraser).unwrap();
        assert_eq!(fs::read_dir(&pool).unwrap().count(), 0);
        assert!(safe.join("keep").exists());
    }

    #[test]
    fn a_user_deletes_nothing_that_is_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("ours");
        fs::create_dir_all(ours.join("roots")).unwrap();
        fs::write(ours.join("roots/keep"), "x").unwrap();
        chown(&ours, 1_992_000_000);
        let top = File::open(&ours).unwrap();
        let eraser = Eraser::User { uid: 1_992_000_000, gid: 1_992_000_000 };
        let error = empty_dir_as(top.as_fd(), &eraser).unwrap_err();
        assert_eq!(error.to_string(), "cannot delete 'keep'");
        assert_eq!(error.errno(), Some(libc::EACCES));
        assert!(ours.join("roots/keep").exists());
    }
}
