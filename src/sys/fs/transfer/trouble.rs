//! Why files could not be transferred.

use crate::model::file_job::{Failed, FailedKind};
use crate::sys::{Context, SysError, SysResult, error_text};

/// An error, and what can be done about it.
#[derive(Debug)]
pub struct Trouble {
    pub kind: FailedKind,
    pub error: SysError,
}

pub type Outcome<T> = Result<T, Trouble>;

impl Trouble {
    /// `what` continues the sentence "cannot …".
    pub fn new(kind: FailedKind, what: String, source: impl Into<std::io::Error>) -> Self {
        Self { kind, error: SysError::new(what, source) }
    }

    /// One that is no answer of the kernel's.
    pub fn because(kind: FailedKind, what: String, why: impl Into<String>) -> Self {
        Self::new(kind, what, std::io::Error::other(why.into()))
    }

    /// As it is told to another process.
    pub fn told(&self) -> Failed {
        Failed { text: error_text(&self.error), errno: self.error.errno(), kind: self.kind }
    }
}

impl From<SysError> for Trouble {
    fn from(error: SysError) -> Self {
        Self { kind: FailedKind::Other, error }
    }
}

/// What could not be done to which file.
pub(super) fn failed(doing: &str, name: &[u8], source: impl Into<std::io::Error>) -> Trouble {
    SysError::new(format!("{doing} '{}'", shown(name)), source).into()
}

/// Attaches what was being done to which file.
pub(super) trait At<T> {
    fn at(self, doing: &str, name: &[u8]) -> SysResult<T>;
}

impl<T, E: Into<std::io::Error>> At<T> for Result<T, E> {
    fn at(self, doing: &str, name: &[u8]) -> SysResult<T> {
        self.cannot(|| format!("{doing} '{}'", shown(name)))
    }
}

/// A name as people may read it, whatever is in it.
pub fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}
