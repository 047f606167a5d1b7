//! Why a command has failed, and the exit codes.

use std::io;
use std::path::PathBuf;

use crate::api;
use crate::app::AppError;
use crate::model::document::DocumentError;
use crate::model::fault::{Fault, Kind};
use crate::model::instance::InstanceError;
use crate::model::label;
use crate::model::name::NameError;
use crate::model::profile::ProfileNameError;
use crate::sys::SysError;
use crate::sys::process::child::Exit;

/// Done.
pub const DONE: i32 = 0;
const REFUSED: i32 = Kind::User.exit_code();
pub const LACKING: i32 = Kind::Host.exit_code();
pub const BUG: i32 = Kind::Bug.exit_code();

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    App(#[from] api::Error),
    #[error("not a container's name")]
    Name(#[from] NameError),
    #[error("not a profile's name")]
    ProfileName(#[from] ProfileNameError),
    #[error("cannot use NAGAYA_INSTANCE")]
    Instance(#[from] InstanceError),
    #[error("cannot open '{}'", path.display())]
    OpenArchive {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read '{}'", path.display())]
    OpenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("'{}' is not a policy", path.display())]
    Policy {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("'{}' cannot be applied", path.display())]
    Fleet {
        path: PathBuf,
        #[source]
        source: Box<DocumentError>,
    },
    #[error("'{}' is not an archive but {what}", path.display())]
    NoArchive { path: PathBuf, what: &'static str },
    #[error("cannot have the text edited")]
    Editor(#[source] SysError),
    #[error("editor '{editor}' has failed: {ended}")]
    EditorFailed { editor: String, ended: Exit },
    #[error("there is no editor on this host")]
    NoEditor,
    #[error("nothing was changed; your text is in '{}'", file.display())]
    Kept { file: PathBuf },
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    #[error("cannot prepare the terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot pass data on between here and the guest")]
    Relay(#[source] io::Error),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("cannot write what packages carry into '{}'", dir.display())]
    Generate {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Nothing to complain of: the reader has what it wanted.
    #[error("standard output is closed")]
    ReaderGone,
    #[error("cannot work on several containers at once")]
    Fork(#[source] SysError),
    #[error("the process that worked on it was ended by signal {0}")]
    Killed(i32),
    /// The child process that failed has reported it; its exit code.
    #[error("a child process has failed")]
    Reported(i32),
    /// A program that could not be started in a guest, with the code that a shell would give.
    #[error("{reason}")]
    NotStarted { code: i32, reason: String, hint: Option<String> },
    /// One of several programs.
    #[error("the program has ended with code {0}")]
    Ended(i32),
}

pub type CliResult<T> = Result<T, CliError>;

impl From<AppError> for CliError {
    fn from(error: AppError) -> Self {
        Self::App(error.into())
    }
}

impl CliError {
    pub fn code(&self) -> i32 {
        match self {
            Self::App(error) => error.kind.exit_code(),
            Self::ReaderGone => DONE,
            Self::Reported(code) => *code,
            Self::Fork(_) | Self::Editor(_) | Self::NoEditor => LACKING,
            Self::Relay(_) => BUG,
            Self::Killed(signal) => Exit::Signal(*signal).code(),
            Self::NotStarted { code, .. } | Self::Ended(code) => *code,
            Self::Name(_)
            | Self::ProfileName(_)
            | Self::Instance(_)
            | Self::OpenArchive { .. }
            | Self::OpenFile { .. }
            | Self::Policy { .. }
            | Self::Fleet { .. }
            | Self::NoArchive { .. }
            | Self::Generate { .. }
            | Self::EditorFailed { .. }
            | Self::Kept { .. }
            | Self::Input(_)
            | Self::Terminal(_)
            | Self::Output(_) => REFUSED,
        }
    }

    /// What to type next, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::App(error) => return error.hints.first().cloned(),
            Self::NotStarted { hint, .. } => return hint.clone(),
            Self::Name(_) => {
                "a name is a host name's label (RFC 1123): 1 to 63 of a-z, 0-9 and '-', no '-' first or \
                 last, not digits only"
            }
            Self::ProfileName(_) => label::RULE,
            Self::Instance(_) => "unset NAGAYA_INSTANCE to use the instance 'nagaya'",
            Self::Policy { .. } => "see how one is written: nagaya firewall export",
            Self::NoArchive { .. } => "give a tar archive: nagaya template import rootfs.tar.gz --name NAME",
            Self::Fleet { source, .. } => return source.facts().hint,
            Self::NoEditor => "name one: export EDITOR=PROGRAM",
            Self::Kept { file } => {
                return Some(format!("go on with it: give the same command the input < {}", file.display()));
            }
            Self::Terminal(_) => "try without a terminal: nagaya exec -T NAME -- COMMAND",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Name;

    #[test]
    fn codes_tell_whose_fault_it_is() {
        let name = Name::new("A").unwrap_err();
        assert_eq!(CliError::Name(name).code(), 1);
        assert_eq!(CliError::NotStarted { code: 127, reason: String::new(), hint: None }.code(), 127);
        assert_eq!(CliError::Killed(2).code(), 130);
        assert_eq!(CliError::ReaderGone.code(), 0);
    }
}
