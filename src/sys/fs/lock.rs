//! Locks that the kernel frees with their holder: flock(2) on files that nobody else can open. flock needs
//! no more than a descriptor of any kind, so whoever can read a lock file could hold the lock for good.
//! Nobody waits for a lock without an end.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::model::fault::{Code, Facts, Fault};
use crate::model::waits;
use crate::sys::{Context, SysError, SysResult};

const CLOSED_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// The permissions that others must not have on a lock or a directory of locks.
const OTHERS: u32 = 0o077;

/// The holder of a lock, as /proc/locks names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    /// None when that process has ended and what it has forked still has the lock.
    pub name: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "process {} ('{name}')", self.pid),
            None => write!(f, "a child of process {}", self.pid),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    Sys(#[from] SysError),
    #[error("cannot lock '{}': {} has had it for {} s", path.display(), who(holder.as_ref()), waited.as_secs())]
    Held { path: PathBuf, holder: Option<Holder>, waited: Duration },
    #[error("cannot lock '{}': it belongs to another user or is no file of ours", path.display())]
    Foreign { path: PathBuf },
}

fn who(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), Holder::to_string)
}

impl Fault for LockError {
    fn facts(&self) -> Facts {
        match self {
            Self::Sys(error) => error.facts(),
            Self::Held { holder, .. } => Facts::user(Code::Busy).hint(wait_for(holder.as_ref())),
            Self::Foreign { path } => {
                Facts::user(Code::HostCheck).hint(format!("see whose it is: ls -ld {}", path.display()))
            }
        }
    }
}

/// What to type while `holder` has a lock.
pub fn wait_for(holder: Option<&Holder>) -> String {
    let process = holder.map_or_else(|| "-C nagaya".to_owned(), |holder| format!("-fp {}", holder.pid));
    format!("wait for it, or see what it is: ps {process}")
}

impl From<LockError> for SysError {
    fn from(error: LockError) -> Self {
        let (path, kind, why) = match error {
            LockError::Sys(error) => return error,
            LockError::Held { path, holder, waited } => {
                let why = format!("{} has had it for {} s", who(holder.as_ref()), waited.as_secs());
                (path, std::io::ErrorKind::TimedOut, why)
            }
            LockError::Foreign { path } => {
                let why = "it belongs to another user or is no file of ours".to_owned();
                (path, std::io::ErrorKind::PermissionDenied, why)
            }
        };
        SysError::new(format!("lock {}", path.display()), std::io::Error::new(kind, why))
    }
}

/// Held until dropped; the file goes with it.
#[must_use]
#[derive(Debug)]
pub struct Lock {
    file: OwnedFd,
    path: PathBuf,
    is_shared: bool,
}

impl Lock {
    /// Whether its last holder was killed after doing this too. The file tells: it is removed when a lock
    /// is dropped.
    pub fn was_left(&self) -> SysResult<bool> {
        let what = || format!("mark the lock {}", self.path.display());
        if rustix::fs::fstat(&self.file).cannot(what)?.st_size > 0 {
            return Ok(true);
        }
        rustix::io::pwrite(&self.file, b"held", 0).cannot(what)?;
        Ok(false)
    }

    /// Releases it as the end of a killed holder would: the file stays.
    pub fn leave(mut self) {
        // Nobody's file.
        self.path = PathBuf::new();
    }
}

impl AsFd for Lock {
    /// For a child that is to hold it too: nobody else gets it before both have let go.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody else has it, and a process that waits for it checks whether the file is still there. Of
        // several that share it, the last one gets it exclusively.
        let alone = FlockOperation::NonBlockingLockExclusive;
        if !self.is_shared || (rustix::fs::flock(&self.file, alone).is_ok() && is_at(&self.file, &self.path))
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The exclusive lock called `name` in `dir`.
///
/// # Errors
/// `Held` when another has it for `timeout`.
pub fn exclusive(dir: &Path, name: impl AsRef<OsStr>, timeout: Duration) -> Result<Lock, LockError> {
    within(dir, name.as_ref(), false, timeout)
}

/// The same lock, shared with others that ask for it this way.
pub fn shared(dir: &Path, name: impl AsRef<OsStr>, timeout: Duration) -> Result<Lock, LockError> {
    within(dir, name.as_ref(), true, timeout)
}

/// The exclusive lock if nobody has it. The holder is not looked up: the kernel's list of locks takes
/// milliseconds, because it waits for all that are about to lock anything.
pub fn try_exclusive(dir: &Path, name: impl AsRef<OsStr>) -> Result<Option<Lock>, LockError> {
    Ok(attempt(&dir.join(name.as_ref()), false)?.ok())
}

/// Removes the files that killed holders have left in a directory of locks, except those whose names begin
/// with one of `but`: those mean something.
pub fn sweep(dir: &Path, but: &[&str]) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !but.iter().any(|kept| name.as_encoded_bytes().starts_with(kept.as_bytes())) {
            let _ = try_exclusive(dir, name);
        }
    }
}

fn within(dir: &Path, name: &OsStr, is_shared: bool, timeout: Duration) -> Result<Lock, LockError> {
    let path = dir.join(name);
    let start = Instant::now();
    loop {
        let file = match attempt(&path, is_shared)? {
            Ok(lock) => return Ok(lock),
            Err(file) => file,
        };
        let waited = start.elapsed();
        if waited >= timeout {
            return Err(LockError::Held { path, holder: holder(&file), waited });
        }
        std::thread::sleep(
            if waited < waits::LOCK_POLL_FOR { waits::LOCK_POLL } else { waits::LOCK_POLL_LATER }
                .min(timeout - waited),
        );
    }
}

/// The lock at `path`, or its file where another has it.
fn attempt(path: &Path, is_shared: bool) -> Result<Result<Lock, OwnedFd>, LockError> {
    let how = match is_shared {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        let Some(file) = open(path)? else { continue };
        match rustix::fs::flock(&file, how) {
            // The last holder may have deleted the file meanwhile, and another process may hold a new one.
            Ok(()) if is_at(&file, path) => return Ok(Ok(Lock { file, path: path.to_owned(), is_shared })),
            Ok(()) | Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Err(file)),
            Err(e) => return Err(e).cannot(|| format!("lock {}", path.display()))?,
        }
    }
}

/// The lock's file, made if it does not exist. None if it was not as it should be; it is removed then, to
/// be made again.
fn open(path: &Path) -> Result<Option<OwnedFd>, LockError> {
    let what = || format!("open the lock {}", path.display());
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, CLOSED_FILE) {
        Err(Errno::LOOP | Errno::ISDIR) => return Err(LockError::Foreign { path: path.to_owned() }),
        other => other.cannot(what)?,
    };
    let stat = rustix::fs::fstat(&file).cannot(what)?;
    if !is_own(&stat) || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(LockError::Foreign { path: path.to_owned() });
    }
    if stat.st_mode & OTHERS != 0 {
        // Others may have opened it already: their locks are on the removed file.
        std::fs::remove_file(path).cannot(|| format!("remove {}", path.display()))?;
        return Ok(None);
    }
    Ok(Some(file))
}

/// Makes sure of a directory that holds nothing but locks and records of ours: it belongs to the
/// caller, who alone may enter it.
pub fn closed_dir(dir: &Path) -> SysResult<()> {
    let what = || format!("make {} a closed directory", dir.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(dir, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            use std::os::unix::fs::DirBuilderExt;
            dir.parent().map_or(Ok(()), std::fs::create_dir_all).cannot(what)?;
            match std::fs::DirBuilder::new().mode(0o700).create(dir) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => other.cannot(what)?,
            }
            rustix::fs::open(dir, flags, Mode::empty()).cannot(what)?
        }
        other => other.cannot(what)?,
    };
    let stat = rustix::fs::fstat(&fd).cannot(what)?;
    if !is_own(&stat) {
        let why = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "it belongs to another user");
        return Err(SysError::new(what(), why));
    }
    if stat.st_mode & OTHERS != 0 {
        rustix::fs::fchmod(&fd, Mode::RWXU).cannot(what)?;
    }
    Ok(())
}

fn is_own(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

fn is_at(file: &OwnedFd, path: &Path) -> bool {
    match (rustix::fs::fstat(file), rustix::fs::lstat(path)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

fn holder(file: impl AsFd) -> Option<Holder> {
    let inode = rustix::fs::fstat(file).ok()?.st_ino;
    let text = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = flocks(&text).find(|(_, held)| *held == inode)?.0;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Some(Holder { pid, name: name.map(|name| name.trim_end().to_owned()) })
}

/// Whether the process holds a lock of flock(2): then it is working on something that others must not find
/// half done.
pub fn holds_any(pid: i32) -> bool {
    let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    flocks(&text).any(|(holder, _)| holder == pid)
}

/// Process and inode of each lock of flock's that is held, of /proc/locks (proc_locks(5)):
/// `1: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF`. Who waits has an arrow there.
fn flocks(text: &str) -> impl Iterator<Item = (i32, u64)> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid = words.nth(2)?.parse().ok().filter(|pid| *pid > 0)?;
        let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
        Some((pid, inode))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn a_wait_ends_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = exclusive(dir.path(), "a", SHORT).unwrap();
        let Err(LockError::Held { holder: Some(holder), waited, .. }) = exclusive(dir.path(), "a", SHORT)
        else {
            panic!("two have it")
        };
        assert_eq!(holder.pid, std::process::id() as i32);
        assert!(holder.name.is_some() && waited >= SHORT && waited < SHORT * 100);
        assert!(shared(dir.path(), "a", SHORT).is_err() && try_exclusive(dir.path(), "a").unwrap().is_none());
        assert!(holds_any(holder.pid));
        drop(held);
        let (one, two) = (shared(dir.path(), "a", SHORT).unwrap(), shared(dir.path(), "a", SHORT).unwrap());
        assert!(try_exclusive(dir.path(), "a").unwrap().is_none());
        drop(one);
        assert!(dir.path().join("a").exists());
        drop(two);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_others_can_open_is_not_what_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let others = std::fs::File::open(&path).unwrap();
        rustix::fs::flock(&others, FlockOperation::LockExclusive).unwrap();
        let lock = exclusive(dir.path(), "a", SHORT).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode_bits(), 0o600);
        drop(lock);
        symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(exclusive(dir.path(), "a", SHORT), Err(LockError::Foreign { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(exclusive(dir.path(), "a", SHORT), Err(LockError::Foreign { .. })));
    }

    trait ModeBits {
        fn mode_bits(&self) -> u32;
    }

    impl ModeBits for std::fs::Metadata {
        fn mode_bits(&self) -> u32 {
            self.permissions().mode() & 0o7777
        }
    }

    #[test]
    fn a_directory_of_locks_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path().join("a/locks");
        closed_dir(&locks).unwrap();
        assert_eq!(std::fs::metadata(&locks).unwrap().mode_bits(), 0o700);
        std::fs::set_permissions(&locks, std::fs::Permissions::from_mode(0o755)).unwrap();
        closed_dir(&locks).unwrap();
        assert_eq!(std::fs::metadata(&locks).unwrap().mode_bits(), 0o700);
        let link = dir.path().join("link");
        symlink(&locks, &link).unwrap();
        assert!(closed_dir(&link).is_err());
    }

    #[test]
    fn of_many_one_has_it_though_the_file_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _lock = exclusive(dir.path(), "a", Duration::from_secs(60)).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        std::fs::write(dir.path().join("left"), "").unwrap();
        let held = exclusive(dir.path(), "held", SHORT).unwrap();
        std::fs::write(dir.path().join("kept"), "").unwrap();
        sweep(dir.path(), &["kept"]);
        let left = || {
            let all = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name());
            all.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(left(), ["held", "kept"].map(Into::into).into());
        assert!(!held.was_left().unwrap());
        held.leave();
        assert_eq!(left(), ["held", "kept"].map(Into::into).into());
        let held = exclusive(dir.path(), "held", SHORT).unwrap();
        assert!(held.was_left().unwrap());
        drop(held);
        assert!(!exclusive(dir.path(), "held", SHORT).unwrap().was_left().unwrap());
        assert_eq!(left(), ["kept"].map(Into::into).into());
    }

    #[test]
    fn who_waits_holds_nothing() {
        let text = "1: FLOCK  ADVISORY  WRITE 25811 00:1a:1234 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 7 00:1a:1234 0 EOF\n\
                    2: POSIX  ADVISORY  READ 9 08:01:99 0 EOF\n3: FLOCK  ADVISORY  READ -1 08:01:12 0 EOF\n";
        assert_eq!(flocks(text).collect::<Vec<_>>(), [(25811, 1234)]);
    }
}
