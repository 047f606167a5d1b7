//! Undoing [`setup`](super::setup): every file that belongs to the instance, then its user. What belongs
//! to guests is never opened here: those files are deleted by a child that can touch nothing else.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Gid, Uid};
use rustix::io::Errno;

use crate::model::ids::SubordinateIds;
use crate::model::instance::Instance;
use crate::sys::accounts::passwd::User;
use crate::sys::accounts::subid::IdFiles;
use crate::sys::fs::atomic_file;
use crate::sys::fs::erase::{Eraser, empty_dir_as};
use crate::sys::process::userns;

use crate::host::broker::claims::{ports, subnets};
use crate::host::broker::container_lock;
use crate::host::broker::pool;
use crate::host::broker::spawn::program;
use crate::host::sources;

use super::accounts::{self, ETC};
use super::dirs::{Place, base_name, io, open_owned, open_parent};
use super::error::SetupError;
use super::lock;
use super::make::require_root;
use super::owner::Account;

/// What may be asked of [`remove`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Deletes containers and templates too. Without it their existence is an error.
    pub delete_data: bool,
}

/// Removes directories, user, group and ids, and returns what it removed. If it was cut short, another run
/// finishes it; if there is nothing to remove, it succeeds.
///
/// A child that is root of the user namespace over the storage ids deletes guests' files, and one that has
/// become the service user deletes the rest: neither can reach anybody else's files.
///
/// # Errors
/// When a process still runs under one of the instance's ids, when there is data and it was not
/// asked to delete it, and when a directory is not the instance's.
pub fn remove(instance: &Instance, options: RemoveOptions) -> Result<Vec<String>, SetupError> {
    require_root(instance)?;
    let _lock = lock::acquire()?;
    let files = IdFiles::read(Path::new(ETC))?;
    let mut removed = Vec::new();
    let Some(user) = accounts::find_owner(&files, instance)? else {
        // The user goes last, so there is nothing left that could be told to be the instance's.
        remove_shared(instance);
        return Ok(removed);
    };
    let account = Account { uid: user.uid, gid: user.gid };
    let range = accounts::whole_range(&files, &user, instance)?;
    // An ordinary user's own processes may go on.
    let own = instance.uid_of_user().is_none().then_some(user.uid);
    refuse_if_busy(&user, own, range)?;
    remove_state(instance, account, range, options, &mut removed)?;
    remove_run(instance, account, &mut removed)?;
    if instance.uid_of_user().is_none() {
        accounts::delete_user(instance, &mut removed)?;
    }
    remove_shared(instance);
    Ok(removed)
}

/// What all owners of a kind share goes with the last of them: directories of root's that are empty,
/// and brokers' records. What somebody still uses stays.
fn remove_shared(instance: &Instance) {
    let _ = fs::remove_dir(instance.users_run_dir());
    let last = match fs::remove_dir(instance.users_state_dir()) {
        Ok(()) => true,
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    if !last || instance.state_dir().exists() {
        return;
    }
    subnets::forget(instance);
    ports::forget(instance);
    sources::forget(instance);
    pool::forget(instance);
    container_lock::forget(instance);
    program::forget(instance);
    for dir in [instance.hostd_state_dir(), instance.hostd_run_dir()] {
        atomic_file::sweep(&dir, None);
        let _ = fs::remove_dir(dir);
    }
}

/// Removes the administrator's grants.
pub fn remove_grants(instance: &Instance) -> Result<Vec<String>, SetupError> {
    require_root(instance)?;
    let dir = instance.grants_dir();
    match fs::remove_dir_all(&dir) {
        Ok(()) => {
            // Whatever else the administrator keeps there stays.
            let _ = dir.parent().map(fs::remove_dir);
            Ok(vec![format!("grants in {}", dir.display())])
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(SetupError::Io { operation: "delete", path: dir, source }),
    }
}

fn remove_state(
    instance: &Instance,
    account: Account,
    range: Option<SubordinateIds>,
    options: RemoveOptions,
    removed: &mut Vec<String>,
) -> Result<(), SetupError> {
    let path = instance.state_dir();
    let parent = open_parent(&path)?;
    let place = Place { parent: parent.as_fd(), name: &base_name(&path), path: path.clone(), owner: account };
    let Some(state) = open_owned(&place)? else { return Ok(()) };
    let storage = range.and_then(SubordinateIds::storage);
    let pool_path = path.join("pool");
    let pool = match storage {
        Some(id_range) => {
            let owner = Account { uid: id_range.base(), gid: id_range.base() };
            open_owned(&Place { parent: state.as_fd(), name: "pool", path: pool_path.clone(), owner })?
        }
        None => None,
    };
    if !options.delete_data {
        if let Some(pool) = &pool {
            refuse_if_full(pool, &pool_path)?;
        }
        let path = path.join("containers");
        let containers = Place { parent: state.as_fd(), name: "containers", path, owner: account };
        if let Some(dir) = open_owned(&containers)? {
            refuse_if_full(&dir, &containers.path)?;
        }
    }
    if let (Some(pool), Some(id_range)) = (&pool, storage) {
        let erase = |source| SetupError::Erase { path: pool_path.clone(), source };
        let eraser = Eraser::IdRange(userns::over(id_range).map_err(erase)?);
        empty_dir_as(pool.as_fd(), &eraser).map_err(erase)?;
    }
    // The pool itself is empty by now, and an entry of the service user's own directory.
    erase_own(&state, &path, account)?;
    if unlink_dir(parent.as_fd(), &base_name(&path), &path)? {
        removed.push(format!("directory {}", path.display()));
    } else {
        removed.push(format!("everything in {}, which stays as a mount point", path.display()));
    }
    Ok(())
}

fn remove_run(instance: &Instance, account: Account, removed: &mut Vec<String>) -> Result<(), SetupError> {
    let path = instance.run_dir();
    let parent = open_parent(&path)?;
    let place = Place { parent: parent.as_fd(), name: &base_name(&path), path: path.clone(), owner: account };
    let Some(run) = open_owned(&place)? else { return Ok(()) };
    erase_own(&run, &path, account)?;
    unlink_dir(parent.as_fd(), &base_name(&path), &path)?;
    removed.push(format!("directory {}", path.display()));
    Ok(())
}

fn erase_own(dir: &OwnedFd, path: &Path, account: Account) -> Result<(), SetupError> {
    let eraser = Eraser::User { uid: account.uid, gid: account.gid };
    empty_dir_as(dir.as_fd(), &eraser).map_err(|source| SetupError::Erase { path: path.to_owned(), source })
}

/// False for a mount point, which is given back to root: its user is about to go.
fn unlink_dir(parent: BorrowedFd<'_>, name: &str, path: &Path) -> Result<bool, SetupError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY) => {
            rustix::fs::chownat(parent, name, Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| io("give back", path, errno))?;
            Ok(false)
        }
        Err(errno) => Err(io("delete", path, errno)),
    }
}

fn refuse_if_full(dir: &OwnedFd, path: &Path) -> Result<(), SetupError> {
    let entries = Dir::read_from(dir).map_err(|errno| io("list", path, errno))?;
    for entry in entries {
        let entry = entry.map_err(|errno| io("list", path, errno))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Err(SetupError::HoldsData { path: path.to_owned() });
        }
    }
    Ok(())
}

/// Ids must not pass on to the next user while processes run under them.
fn refuse_if_busy(user: &User, own: Option<u32>, range: Option<SubordinateIds>) -> Result<(), SetupError> {
    let proc = PathBuf::from("/proc");
    let entries = fs::read_dir(&proc).map_err(|source| SetupError::Io {
        operation: "list",
        path: proc.clone(),
        source,
    })?;
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended meanwhile has no status any more.
        let Ok(status) = fs::read(entry.path().join("status")) else { continue };
        let status = String::from_utf8_lossy(&status);
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if is_ending(&stat) {
            continue;
        }
        let (command, uids) = command_and_uids(&status);
        let ours = |uid: &u32| {
            Some(*uid) == own || range.is_some_and(|r| r.overlaps(SubordinateIds { start: *uid, count: 1 }))
        };
        if let Some(uid) = uids.into_iter().find(ours) {
            return Err(SetupError::Busy { user: user.name.clone(), pid, command, uid });
        }
    }
    Ok(())
}

fn field<'a>(status: &'a str, key: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim()
}

/// Whether a process has begun to exit, from /proc/PID/stat: it executes nothing any more, though
/// it may stay a while, as a guest's init does until the host's has collected what was left of its
/// guest.
fn is_ending(stat: &str) -> bool {
    /// PF_EXITING of the kernel's sched.h, in the field `flags` of proc_pid_stat(5).
    const EXITING: u64 = 4;
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let flags = fields.split(' ').nth(6).and_then(|flags| flags.parse().ok());
    // Without the file, the process is gone.
    flags.is_none_or(|flags: u64| flags & EXITING != 0)
}

/// Name and the four uids of /proc/PID/status.
fn command_and_uids(status: &str) -> (String, Vec<u32>) {
    let uids = field(status, "Uid:").split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (field(status, "Name:").to_owned(), uids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_has_begun_to_exit_is_ending() {
        let stat = |flags| format!("7 (a) b) S 1 7 7 0 -1 {flags} 95 0 0 0");
        assert!(!is_ending(&stat(4_194_560)));
        assert!(is_ending(&stat(4_194_560 + 4)));
        assert!(is_ending(""));
        assert!(!is_ending(&fs::read_to_string("/proc/self/stat").unwrap()));
    }
}
