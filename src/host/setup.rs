//! `nagaya setup`: the service user, its ids and its directories, made once by real root. What
//! belongs to guests is never opened here: those files are deleted by a child that can touch
//! nothing else.

mod accounts;
mod dirs;
mod lock;
mod remove;

use std::io;
use std::path::{Path, PathBuf};

use crate::model::ids::{Range, Slice};
use crate::model::instance::Instance;
use crate::model::subid::{DEFAULT_SLICES, USERS_SLICES};
use crate::sys::forked::ForkError;
use crate::sys::lock::LockError;
use crate::sys::passwd::User;
use crate::sys::subid::{IdFiles, ReadError};

pub use lock::acquire as lock;
pub use remove::{RemoveOptions, remove, remove_grants};

const ETC: &str = "/etc";

/// Who an instance's state belongs to, and the ids it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// Holds the storage slice at least.
    pub range: Range,
    /// The range's first slice, which files on disk belong to.
    pub storage: Slice,
}

/// What may be asked of [`setup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupOptions {
    /// How many slices a new range has, the storage slice included. A range that exists stays.
    pub slices: u32,
}

impl Default for SetupOptions {
    fn default() -> Self {
        Self { slices: DEFAULT_SLICES }
    }
}

impl SetupOptions {
    /// What an instance is given where nobody asked otherwise.
    pub fn of(instance: &Instance) -> Self {
        if instance.person().is_some() { Self { slices: USERS_SLICES } } else { Self::default() }
    }
}

/// What [`setup`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupDone {
    pub uid: u32,
    pub gid: u32,
    pub range: Range,
    /// One phrase for each thing that was not there before.
    pub created: Vec<String>,
}

impl SetupDone {
    pub fn owner(&self) -> Option<Owner> {
        owner_of(Account { uid: self.uid, gid: self.gid }, self.range)
    }
}

/// Why an instance cannot be set up or removed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("only root can set up or remove '{0}'")]
    NotRoot(String),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("'{program}' is not installed (package '{package}')")]
    ProgramMissing { program: &'static str, package: &'static str },
    #[error("'{command}' failed: {said}")]
    ProgramFailed { command: String, said: String },
    #[error("user '{user}' exists and is not ours: its home is '{home}', not '{}'", wanted.display())]
    ForeignUser { user: String, home: String, wanted: PathBuf },
    #[error("uid {uid} ('{user}') is not in /etc/passwd")]
    UnknownUser { uid: u32, user: String },
    #[error("'{user}' cannot have containers as an ordinary user")]
    NoPerson { user: String },
    #[error("group '{group}' is not the primary group of a user '{group}'")]
    ForeignGroup { group: String },
    #[error("/etc/subuid and /etc/subgid give '{user}' different ids ({uid_lines}; {gid_lines})")]
    RangesDiffer { user: String, uid_lines: String, gid_lines: String },
    #[error("the ids of '{user}' in line {line} of {file} are fewer than 65536")]
    RangeTooSmall { user: String, file: &'static str, line: usize },
    #[error("ids {ours} of '{user}' are also given to '{other}' by line {line} of {file}")]
    RangeOverlaps { user: String, ours: Ids, other: String, file: &'static str, line: usize },
    #[error("ids {ours} of '{user}' contain {kind} '{other}' ({id}) of {file}")]
    RangeHoldsAccount {
        user: String,
        ours: Ids,
        kind: &'static str,
        other: String,
        id: u32,
        file: &'static str,
    },
    #[error("no {slices} x 65536 consecutive ids are free below 2^31 in /etc/subuid and /etc/subgid")]
    NoRoom { slices: u32 },
    #[error("'{command}' succeeded but '{file}' does not show it")]
    NotWritten { command: &'static str, file: &'static str },
    #[error("'{}' belongs to {owner}, not to {wanted}", path.display())]
    ForeignDir { path: PathBuf, owner: Account, wanted: Account },
    #[error("'{}' is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("cannot {operation} '{}'", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("process {pid} ('{command}') still runs as uid {uid}, which belongs to '{user}'")]
    Busy { user: String, pid: u32, command: String, uid: u32 },
    #[error("'{}' still holds data", path.display())]
    HoldsData { path: PathBuf },
    #[error("cannot delete what is in '{}'", path.display())]
    Erase {
        path: PathBuf,
        #[source]
        source: ForkError,
    },
}

/// A range of ids, displayed as `first-last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids(pub Range);

impl std::fmt::Display for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0.start, self.0.end().saturating_sub(1))
    }
}

/// A uid and a gid, displayed as `uid:gid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// Makes sure of user, group, ids and directories. Safe to run twice, at once too: what is there
/// and right is left alone, what is there and wrong is refused.
pub fn setup(instance: &Instance, options: SetupOptions) -> Result<SetupDone, SetupError> {
    require_root(instance)?;
    let lock = lock::acquire()?;
    let mut created = Vec::new();
    let account = accounts::ensure_user(instance, &mut created)?;
    let range = accounts::ensure_range(instance, options.slices, &mut created)?;
    let owner = owner_of(account, range).ok_or(SetupError::NoRoom { slices: 1 })?;
    dirs::ensure_state(instance, &owner, &mut created, &lock)?;
    if dirs::ensure_run(instance, account, Some(&lock))? {
        created.push(format!("directory {}", instance.run_dir().display()));
    }
    Ok(SetupDone { uid: owner.uid, gid: owner.gid, range, created })
}

/// Whether user and ids are there and nobody else has the same ids, from four small files alone.
/// `None` means that [`setup`] has something to make, or an error to tell.
pub fn is_set_up(instance: &Instance) -> Option<Owner> {
    look(&IdFiles::read(Path::new(ETC)).ok()?, instance).ok().flatten()
}

/// What `files` say of the instance. `Ok(None)` where [`setup`] has something to make.
///
/// # Errors
/// Where something of another kind stands in its place: what [`setup`] would refuse.
pub fn look(files: &IdFiles, instance: &Instance) -> Result<Option<Owner>, SetupError> {
    let Some(user) = accounts::find_owner(files, instance)? else { return Ok(None) };
    let Some(range) = accounts::whole_range(files, &user, instance)? else { return Ok(None) };
    accounts::check_overlap(files, &user, range)?;
    Ok(owner_of(Account { uid: user.uid, gid: user.gid }, range))
}

/// The range of an ordinary user that holds a slice at least and is nobody else's; none where the
/// files lack it.
pub fn own_range(files: &IdFiles, user: &User) -> Result<Option<Range>, SetupError> {
    let range = accounts::range_of(files, user)?;
    if let Some(range) = range {
        accounts::check_overlap(files, user, range)?;
    }
    Ok(range)
}

fn owner_of(account: Account, range: Range) -> Option<Owner> {
    Some(Owner { uid: account.uid, gid: account.gid, range, storage: range.storage()? })
}

/// Makes the directory of sockets and locks, which a reboot takes away. Cheap where it is there.
/// The caller is root.
pub fn ensure_run_dir(instance: &Instance, owner: &Owner) -> Result<(), SetupError> {
    dirs::ensure_run(instance, Account { uid: owner.uid, gid: owner.gid }, None).map(drop)
}

fn require_root(instance: &Instance) -> Result<(), SetupError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(SetupError::NotRoot(instance.name().to_owned()))
    }
}

#[cfg(test)]
mod tests;
