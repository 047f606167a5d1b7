//! Why an instance cannot be set up or removed.

use std::io;
use std::path::PathBuf;

use super::owner::{Account, Ids};
use crate::model::fault::{Code, Facts, Fault};
use crate::sys::accounts::subid::ReadError;
use crate::sys::fs::lock::LockError;
use crate::sys::{SysError, lack_of};

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
    SystemAccount { user: String },
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
    #[error("no {id_ranges} x 65536 consecutive ids are free below 2^31 in /etc/subuid and /etc/subgid")]
    NoRoom { id_ranges: u32 },
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
        source: SysError,
    },
}

impl Fault for SetupError {
    fn facts(&self) -> Facts {
        match self {
            Self::NotRoot(_) => Facts::user(Code::NotRoot),
            Self::Lock(error) => Facts { hint: None, ..error.facts() },
            Self::ProgramMissing { package, .. } => {
                Facts::host(Code::HostLacks).hint(format!("apt-get install {package}"))
            }
            Self::ForeignDir { path, wanted, .. } => Facts::user(Code::SetupConflict)
                .hint(format!("if it may become nagaya's: chown {wanted} {}", path.display())),
            Self::ForeignUser { .. }
            | Self::ForeignGroup { .. }
            | Self::RangesDiffer { .. }
            | Self::RangeTooSmall { .. }
            | Self::RangeOverlaps { .. }
            | Self::RangeHoldsAccount { .. }
            | Self::NoRoom { .. }
            | Self::NotADirectory { .. } => Facts::user(Code::SetupConflict),
            Self::UnknownUser { .. } => Facts::user(Code::UserNotFound),
            Self::SystemAccount { .. } => Facts::user(Code::SystemAccount),
            Self::HoldsData { .. } => {
                Facts::user(Code::InstanceInUse).hint("delete it too: the same command with --yes")
            }
            Self::Busy { .. } => Facts::user(Code::InstanceInUse),
            Self::Read(_)
            | Self::ProgramFailed { .. }
            | Self::NotWritten { .. }
            | Self::Io { .. }
            | Self::Erase { .. } => lack_of(self).map_or(Facts::user(Code::SetupFailed), Facts::host),
        }
    }
}
