//! What callers of the host's interface hear.

use super::firewall::FirewallError;
use crate::sys::error_text;

/// What a caller hears.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.nagaya.Host1.Error")]
pub enum HostError {
    #[zbus(error)]
    Bus(zbus::Error),
    /// The caller may not have this, or it makes no sense.
    Refused(String),
    /// The host lacks something.
    Lacking(String),
    Failed(String),
}

/// What went wrong, with its reasons.
pub fn failed(error: impl std::error::Error) -> HostError {
    HostError::Failed(error_text(&error))
}

/// The same of the firewall, which also refuses.
pub fn told_of_firewall(error: FirewallError) -> HostError {
    match error {
        FirewallError::Refused(why) => HostError::Refused(why),
        other => failed(other),
    }
}

/// What the caller may not have.
pub fn refused(why: impl Into<String>) -> HostError {
    HostError::Refused(why.into())
}
