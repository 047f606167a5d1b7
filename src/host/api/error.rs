//! Errors that callers of the broker's interface get.

use crate::model::fault::Code;
use crate::sys::{error_text, lack_of};

/// An error that a caller gets.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.nagaya.Host1.Error")]
pub enum HostError {
    /// The call did not reach the broker, or its answer did not come back.
    #[zbus(error)]
    Bus(zbus::Error),
    /// The caller has no right to it, or the request makes no sense.
    Refused(String),
    /// The host lacks something.
    Lacking(String),
    /// No space or no disk quota is left.
    Full(String),
    /// A file system is mounted read-only.
    ReadOnly(String),
    /// The other end is of another version, or speaks another one of this interface.
    Version(String),
    /// Anything else, with what the kernel or a program answered.
    Failed(String),
}

/// What went wrong, with its reasons.
pub fn failed(error: impl std::error::Error + 'static) -> HostError {
    let text = error_text(&error);
    match lack_of(&error) {
        Some(Code::DiskFull) => HostError::Full(text),
        Some(Code::ReadOnly) => HostError::ReadOnly(text),
        _ => HostError::Failed(text),
    }
}

/// A refusal, with its reason.
pub fn refused(why: impl Into<String>) -> HostError {
    HostError::Refused(why.into())
}
