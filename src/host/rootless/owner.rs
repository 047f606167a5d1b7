//! Daemonless mode: an ordinary user on a host without a broker. One half of the user's process enters the
//! user's own namespaces and is the broker there.
//!
//! Two numberings of ids meet here. The database, the manifests and all output have the host's ids. The
//! broker inside the namespace has [`INSIDE`] for the first of the subordinate ids, and 0 for the user.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::holder::{self, Kept};
use crate::host::setup::{self, Owner, SetupError};
use crate::model::fault::{Code, Facts, Fault};
use crate::model::ids::{IDS_PER_RANGE, IdRange, SubordinateIds};
use crate::model::instance::Instance;
use crate::model::subid;
use crate::sys::SysError;
use crate::sys::accounts::passwd;
use crate::sys::accounts::subid::IdFiles;
use crate::sys::process::outer_ns::{INSIDE, OuterError, Outside};
use crate::sys::programs::pasta::{self, PastaError};

const ETC: &str = "/etc";
/// Entered by its owner alone.
const CLOSED: Mode = Mode::RWXU;
/// Passed through by others.
const PASSABLE: Mode = Mode::from_raw_mode(0o711);

/// Why an ordinary user cannot have containers on this host without a broker.
#[derive(Debug, thiserror::Error)]
pub enum DaemonlessError {
    #[error("uid {0} is not in /etc/passwd")]
    NoUser(u32),
    #[error("{reason}")]
    Ids { reason: String, fix: String },
    #[error(transparent)]
    Outer(#[from] OuterError),
    #[error(transparent)]
    NoCgroup(#[from] super::cgroup::NoCgroup),
    #[error("'{}' is not a directory of yours that is closed to others", .0.display())]
    ForeignDir(PathBuf),
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Fault for DaemonlessError {
    fn facts(&self) -> Facts {
        Facts { hint: self.fix(), ..Facts::host(Code::DaemonlessUnavailable) }
    }
}

impl DaemonlessError {
    /// How to fix it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Ids { fix, .. } => Some(fix.clone()),
            Self::Outer(OuterError::Forbidden { key, wanted, .. }) => {
                Some(format!("as root: sysctl -w {key}={wanted}; or have nagaya-hostd installed"))
            }
            Self::Outer(OuterError::NoProgram(_)) => {
                Some("as root: apt-get install uidmap (dnf install shadow-utils)".to_owned())
            }
            Self::Outer(OuterError::Program { .. }) => Some(
                "see whether newuidmap and newgidmap may do their work: ls -l /usr/bin/new?idmap; \
                      getcap /usr/bin/new?idmap"
                    .to_owned(),
            ),
            Self::ForeignDir(path) => Some(format!("see whose it is: ls -ld {}", path.display())),
            Self::NoUser(_) | Self::Outer(OuterError::Sys(_)) | Self::NoCgroup(_) | Self::Sys(_) => None,
        }
    }
}

/// The user and the ids to work with, as the host numbers them.
pub fn owner() -> Result<Owner, DaemonlessError> {
    let files = IdFiles::read(Path::new(ETC)).map_err(|e| DaemonlessError::Ids {
        reason: crate::sys::error_text(&e),
        fix: "ls -l /etc".to_owned(),
    })?;
    owner_in(&files, rustix::process::geteuid().as_raw())
}

fn owner_in(files: &IdFiles, uid: u32) -> Result<Owner, DaemonlessError> {
    let user =
        passwd::users(&files.passwd).find(|user| user.uid == uid).ok_or(DaemonlessError::NoUser(uid))?;
    match setup::own_range(files, &user) {
        Ok(Some(range)) => {
            let storage = range.storage().ok_or(DaemonlessError::NoUser(uid))?;
            // All containers have the same id range; the rest of the subordinate ids is not used.
            let range = SubordinateIds { start: storage.base(), count: IDS_PER_RANGE };
            Ok(Owner { uid: user.uid, gid: user.gid, range, storage })
        }
        Ok(None) => {
            let reason = lacking(files, &user);
            Err(DaemonlessError::Ids { reason, fix: line(files, &user.name, &["subuid", "subgid"]) })
        }
        Err(e) => {
            let reason = e.to_string();
            Err(DaemonlessError::Ids { reason, fix: replacement(files, &user.name, &e) })
        }
    }
}

/// Which file has no line for the user.
fn lacking(files: &IdFiles, user: &passwd::User) -> String {
    let has = |text: &str| !subid::ranges_of(text, &user.name, user.uid).is_empty();
    let missing = match (has(&files.subuid), has(&files.subgid)) {
        (true, false) => "in /etc/subgid, as it has in /etc/subuid",
        (false, true) => "in /etc/subuid, as it has in /etc/subgid",
        _ => "in /etc/subuid and /etc/subgid",
    };
    format!("user '{}' has no {IDS_PER_RANGE} subordinate ids {missing}", user.name)
}

/// The command that adds the missing line.
fn line(files: &IdFiles, user: &str, all: &[&str]) -> String {
    let uid = passwd::user(&files.passwd, user).map_or(u32::MAX, |user| user.uid);
    let whole = |text: &str| subid::ranges_of(text, user, uid).into_iter().find(|r| r.storage().is_some());
    let (uids, gids) = (whole(&files.subuid), whole(&files.subgid));
    // Where one file has a range, the other is to have the same.
    let (range, missing) = match (uids, gids) {
        (Some(range), None) => (Some(range), vec!["subgid"]),
        (None, Some(range)) => (Some(range), vec!["subuid"]),
        _ => (subid::choose_range(&files.taken(), 1), all.to_vec()),
    };
    let Some(range) = range else { return "as root: ${EDITOR:-vi} /etc/subuid /etc/subgid".to_owned() };
    let text = format!("{user}:{}:{}", range.start, range.count);
    let files: Vec<String> = missing.iter().map(|file| format!("/etc/{file}")).collect();
    format!("as root, add the line '{text}' to {}", files.join(" and to "))
}

/// The same where a line has to go first.
fn replacement(files: &IdFiles, user: &str, error: &SetupError) -> String {
    let Some(range) = subid::choose_range(&files.taken(), 1) else {
        return "as root: ${EDITOR:-vi} /etc/subuid /etc/subgid".to_owned();
    };
    let old = match error {
        SetupError::RangeTooSmall { .. } => "lines",
        _ => "lines that cannot be used",
    };
    format!(
        "as root, put the line '{user}:{}:{}' in the place of the {old} of '{user}' in /etc/subuid and in \
         /etc/subgid",
        range.start, range.count
    )
}

/// The owner as the broker inside the namespace sees it.
pub fn inside() -> Option<Owner> {
    let storage = IdRange::at(INSIDE)?;
    Some(Owner { uid: 0, gid: 0, range: SubordinateIds { start: INSIDE, count: IDS_PER_RANGE }, storage })
}

/// The namespaces in which the broker works, made if they do not exist. The caller has one thread.
pub fn namespaces(instance: &Instance, owner: &Owner) -> Result<Kept, DaemonlessError> {
    let outside = Outside { uid: owner.uid, gid: owner.gid, id_range: owner.storage };
    Ok(holder::ensure(instance, &outside)?)
}

/// Makes the user's own directories. [`make_pool`] makes the pool, inside the namespace.
pub fn make_dirs(instance: &Instance) -> Result<(), DaemonlessError> {
    make_closed(&instance.run_dir())?;
    make_closed(&instance.state_dir())?;
    for name in ["containers", "templates"] {
        make_closed(&instance.state_dir().join(name))?;
    }
    Ok(())
}

/// The last part of a path may be in a directory that all users can write, so what is there is checked
/// before it is used.
fn make_closed(path: &Path) -> Result<(), DaemonlessError> {
    let failed = |what: &str, e: std::io::Error| SysError::new(format!("{what} {}", path.display()), e);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| failed("make the directory above", e))?;
    }
    match rustix::fs::mkdir(path, CLOSED) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(failed("make", e.into()).into()),
    }
    let stat = rustix::fs::lstat(path).map_err(|e| failed("look at", e.into()))?;
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if !is_dir || !is_ours {
        return Err(DaemonlessError::ForeignDir(path.to_owned()));
    }
    if stat.st_mode & 0o077 != 0 {
        rustix::fs::chmod(path, CLOSED).map_err(|e| failed("close", e.into()))?;
    }
    Ok(())
}

/// Makes the pool. The caller is root of the user's own namespace.
pub fn make_pool(instance: &Instance) -> Result<(), SysError> {
    let path = instance.state_dir().join("pool");
    let failed = |e: Errno| SysError::new(format!("make {}", path.display()), e);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let parent: OwnedFd = rustix::fs::open(instance.state_dir(), flags, Mode::empty()).map_err(failed)?;
    match rustix::fs::mkdirat(parent.as_fd(), "pool", PASSABLE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(failed(e)),
    }
    rustix::fs::chmodat(&parent, "pool", PASSABLE, AtFlags::empty())
        .and_then(|()| {
            let (uid, gid) = (Uid::from_raw(INSIDE), Gid::from_raw(INSIDE));
            rustix::fs::chownat(&parent, "pool", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        })
        .map_err(failed)
}

/// Whether the pool is there and belongs to the subordinate ids.
pub fn has_pool(instance: &Instance, owner: &Owner) -> bool {
    rustix::fs::lstat(instance.state_dir().join("pool")).is_ok_and(|stat| stat.st_uid == owner.storage.base())
}

/// Starts the uplink, if it does not run.
pub fn open_uplink(instance: &Instance, kept: i32) -> Result<(), PastaError> {
    let mark = holder::pasta_mark(instance);
    if pasta::is_running(&mark) {
        return Ok(());
    }
    pasta::start(kept, &mark)?;
    if let Some(pid) = pasta::number(&mark) {
        holder::outlive_session(instance, "pasta", pid);
    }
    Ok(())
}

/// Whether the user's systemd outlives the user's sessions; none where the host has no systemd.
pub fn lingers(instance: &Instance) -> Option<bool> {
    let lingering = Path::new("/var/lib/systemd/linger");
    Path::new("/run/systemd/system").is_dir().then(|| lingering.join(instance.user()).exists())
}

/// What a daemonless owner's containers lack, one sentence each, and at the end how to get it.
pub fn shortcomings(instance: &Instance) -> Vec<String> {
    let mut lines = vec![
        "daemonless: all containers of this user have the same ids, and share one budget of inotify \
         instances and of other things that the kernel counts by user"
            .to_owned(),
        "daemonless: its bridge is not the host's, and nobody outside can reach it".to_owned(),
    ];
    let mark = holder::pasta_mark(instance);
    if !pasta::is_running(&mark)
        && let Err(e) = pasta::find()
    {
        lines.push(format!("daemonless: no uplink of its network: {}", crate::sys::error_text(&e)));
    }
    if lingers(instance) == Some(false) {
        let user = instance.user();
        lines.push(format!(
            "daemonless: it ends with your last session, unless: loginctl enable-linger {user}"
        ));
    }
    lines.push("daemonless: with nagaya-hostd on this host it would have all of that".to_owned());
    lines
}

/// Whether anything of daemonless mode exists that `setup --remove` would remove.
pub fn is_set_up(instance: &Instance) -> bool {
    instance.state_dir().exists() || instance.run_dir().exists()
}

/// Removes the namespaces and the directories; the pool is empty by now.
pub fn remove(instance: &Instance, removed: &mut Vec<String>) -> Result<(), DaemonlessError> {
    holder::end(instance)?;
    let pool = instance.state_dir().join("pool");
    // Its owner is a subordinate id, so it cannot be listed; but it is empty, and in our directory.
    match std::fs::remove_dir(&pool) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(SysError::new(format!("delete {}", pool.display()), e).into());
        }
        _ => {}
    }
    for dir in [instance.state_dir(), instance.run_dir()] {
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => removed.push(format!("directory {}", dir.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(SysError::new(format!("delete {}", dir.display()), e).into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(subuid: &str, subgid: &str) -> Result<Owner, (String, String)> {
        let files = IdFiles {
            passwd: "ann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n".into(),
            group: "ann:x:1000:\nbob:x:1001:\n".into(),
            subuid: subuid.into(),
            subgid: subgid.into(),
        };
        owner_in(&files, 1000).map_err(|e| (e.to_string(), e.fix().unwrap_or_default()))
    }

    #[test]
    fn adducers_own_range_will_do() {
        let line = "ann:100000:65536\n";
        let owner = look(line, line).unwrap();
        assert_eq!((owner.uid, owner.storage.base(), owner.range.count), (1000, 100_000, IDS_PER_RANGE));
        let long = "ann:100000:4194304\n";
        assert_eq!(look(long, long).unwrap().range.count, IDS_PER_RANGE);
        let numbered = "1000:100000:65536\n";
        assert!(look(numbered, line).is_ok());
    }

    #[test]
    fn what_is_missing_comes_with_the_line_to_add() {
        let (why, fix) = look("", "bob:100000:65536\n").unwrap_err();
        assert_eq!(why, "user 'ann' has no 65536 subordinate ids in /etc/subuid and /etc/subgid");
        assert_eq!(fix, "as root, add the line 'ann:1879048192:65536' to /etc/subuid and to /etc/subgid");
        let (why, fix) = look("ann:100000:65536\n", "").unwrap_err();
        assert!(why.ends_with("in /etc/subgid, as it has in /etc/subuid"), "{why}");
        assert_eq!(fix, "as root, add the line 'ann:100000:65536' to /etc/subgid");
        let (why, fix) = look("", "ann:100000:65536\n").unwrap_err();
        assert!(why.contains("in /etc/subuid, as"), "{why}");
        assert_eq!(fix, "as root, add the line 'ann:100000:65536' to /etc/subuid");
    }

    #[test]
    fn ids_that_cannot_be_ones_own_are_refused_with_the_line_to_put_there() {
        let place = "as root, put the line 'ann:1879048192:65536' in the place of";
        let cases = [
            ("ann:100000:65536\nbob:120000:10\n", "also given to 'bob' by line 2"),
            ("ann:900:65536\n", "contain user 'ann' (1000)"),
            ("ann:100000:65535\n", "fewer than 65536"),
        ];
        for (text, wanted) in cases {
            let (why, fix) = look(text, text).unwrap_err();
            assert!(why.contains(wanted), "{why}");
            assert!(fix.starts_with(place), "{fix}");
        }
        let (why, _) = look("ann:100000:65536\n", "ann:200000:65536\n").unwrap_err();
        assert!(why.contains("different ids"), "{why}");
    }
}
