//! Which directories of the host's may be disks of root's containers. Their manager is the service user's: it must not
//! be able to have root mount whatever path it names. So a command that root types records the directories that it
//! names before it gives up root, and the broker mounts no others.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::record::{self, RecordError};
use crate::model::device::is_clean_path;
use crate::model::fault::{Code, Facts, Fault};
use crate::model::instance::Instance;
use crate::sys::SysError;
use crate::sys::fs::mountinfo::Mounts;
use crate::sys::kernel::clock::now;

const FILE: &str = "sources.toml";
/// More are not recorded.
const MOST: usize = 1024;
/// For so long, in seconds, one stays that nothing uses yet: the command that named it may be building a template.
const GRACE: i64 = 3600;

/// A directory that root names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub path: String,
    /// What its owner owns will be the guest's root's to write.
    pub is_shared: bool,
    pub may_be_missing: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot open {path}")]
    Open {
        path: String,
        #[source]
        source: Errno,
    },
    #[error("a symbolic link leads to {path}")]
    Link { path: String, real: Option<PathBuf> },
    #[error("{path} is on a FUSE file system, whose program could hold up nagaya")]
    Fuse { path: String },
    #[error(
        "a guest's root could leave a program in {path} that has root's rights for whoever on this host runs it"
    )]
    Setuid { path: String },
    #[error("no command of root's has named {path} for a disk")]
    NotAllowed { path: String },
    #[error("as many directories are allowed as can be: {MOST}")]
    TooMany,
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Fault for SourceError {
    fn facts(&self) -> Facts {
        let refused = Facts::user(Code::Refused);
        match self {
            Self::Open { source, .. } if *source == Errno::NOENT => {
                refused.hint("make it first, or let the container start without it: required=false")
            }
            Self::Link { real: Some(real), .. } => refused.hint(format!("type the real path: {}", real.display())),
            Self::Setuid { path } => match path.rsplit_once('/') {
                // What is right below / has none that could be closed.
                None | Some(("", _)) => refused.hint("give it with readonly=true or shift=false"),
                Some((above, _)) => refused.hint(format!(
                    "close a directory above it to others (chmod 700 {above}), or give it with readonly=true or \
                     shift=false"
                )),
            },
            Self::NotAllowed { .. } => refused.hint("type as root: nagaya device add NAME DEVICE disk source=… path=…"),
            Self::TooMany => refused.hint("remove devices that are not needed: nagaya device remove NAME DEVICE"),
            _ => refused,
        }
    }
}

/// By their paths, with the time at which root has named them last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Allowed {
    #[serde(default)]
    directories: BTreeMap<String, i64>,
}

/// Records what a command of root's names. Called as root.
pub fn allow(instance: &Instance, sources: &[Source]) -> Result<(), SourceError> {
    if sources.is_empty() || instance.uid_of_user().is_some() {
        return Ok(());
    }
    for source in sources {
        match open(&source.path) {
            Err(SourceError::Open { source: Errno::NOENT, .. }) if source.may_be_missing => {}
            opened => {
                let directory = opened?;
                if source.is_shared {
                    check_shared(&source.path, &directory)?;
                }
            }
        }
    }
    let mut record = record::open::<Allowed>(instance, FILE)?;
    let directories = &mut record.content_mut().directories;
    let now = now();
    directories.extend(sources.iter().map(|source| (source.path.clone(), now)));
    if directories.len() > MOST {
        return Err(SourceError::TooMany);
    }
    Ok(record.write()?)
}

/// Opens a directory that root has named.
pub fn open_allowed(instance: &Instance, path: &str) -> Result<OwnedFd, SourceError> {
    let is_allowed = record::exists(instance, FILE)
        && record::open::<Allowed>(instance, FILE)?.content().directories.contains_key(path);
    match is_allowed {
        true => open(path),
        false => Err(SourceError::NotAllowed { path: path.to_owned() }),
    }
}

/// Forgets all but `used`, and those that have just been named.
pub fn keep(instance: &Instance, used: &[String]) -> Result<(), SourceError> {
    if !record::exists(instance, FILE) {
        return Ok(());
    }
    let mut record = record::open::<Allowed>(instance, FILE)?;
    let before = record.content().directories.len();
    let recently = now() - GRACE;
    record.content_mut().directories.retain(|path, named| *named > recently || used.contains(path));
    match record.content().directories.len() {
        0 => record.remove(),
        after if after < before => record.write()?,
        _ => {}
    }
    Ok(())
}

/// Removes the record.
pub fn forget(instance: &Instance) {
    if record::exists(instance, FILE)
        && let Ok(record) = record::open::<Allowed>(instance, FILE)
    {
        record.remove();
    }
}

/// Nothing that somebody else can put in the way leads elsewhere.
pub fn open(path: &str) -> Result<OwnedFd, SourceError> {
    let failed = |source| SourceError::Open { path: path.to_owned(), source };
    if path != "/" && !is_clean_path(path) {
        return Err(failed(Errno::INVAL));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A path alone first: to open a directory for reading asks its file system.
    let look = rustix::fs::openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    );
    let look = look.map_err(|e| match e {
        Errno::LOOP => SourceError::Link { path: path.to_owned(), real: std::fs::canonicalize(path).ok() },
        other => failed(other),
    })?;
    if Mounts::read()?.may_hang(&look) {
        return Err(SourceError::Fuse { path: path.to_owned() });
    }
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve).map_err(failed)
}

/// Refuses to give the directory's owner's rights to a guest's root where a program with the set-user-id bit could
/// then serve others on the host: where root owns it, programs there run with their owner's rights, and others can get
/// there. The directory itself does not count, for the guest's root can open it to others.
pub fn check_shared(path: &str, directory: &OwnedFd) -> Result<(), SourceError> {
    let failed = |source| SourceError::Open { path: path.to_owned(), source };
    let stat = rustix::fs::fstat(directory).map_err(failed)?;
    if stat.st_uid != 0 && stat.st_gid != 0 {
        return Ok(());
    }
    let flags = rustix::fs::fstatvfs(directory).map_err(failed)?.f_flag;
    match flags.contains(StatVfsMountFlags::NOSUID) || is_closed(path).map_err(failed)? {
        true => Ok(()),
        false => Err(SourceError::Setuid { path: path.to_owned() }),
    }
}

/// Whether a directory above `path` lets nobody but root through.
fn is_closed(path: &str) -> rustix::io::Result<bool> {
    let above = |at: &str| {
        let stat = rustix::fs::lstat(at)?;
        Ok(stat.st_uid == 0 && stat.st_mode & 0o011 == 0)
    };
    let ends = path.char_indices().filter(|(at, c)| *c == '/' && *at > 0).map(|(at, _)| &path[..at]);
    for at in ends {
        if above(at)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_directory_behind_a_link_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        open(real.to_str().unwrap()).unwrap();
        let err = open(dir.path().join("link").to_str().unwrap()).unwrap_err();
        assert!(err.facts().hint.unwrap().ends_with(real.to_str().unwrap()));
        for bad in ["relative", "/tmp/../etc", "/etc/passwd", "/proc/self/cwd"] {
            assert!(open(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_closed_directory_above_is_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let set = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        let closed = || is_closed(inner.to_str().unwrap()).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        for (above, own, expected) in [(0o700, 0o755, is_root), (0o755, 0o700, false), (0o711, 0o700, false)]
        {
            set(dir.path(), above);
            set(&inner, own);
            assert_eq!(closed(), expected, "{above:o} {own:o}");
        }
    }
}
