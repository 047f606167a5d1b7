//! A connection to a message bus, with bounds on the time that it may take.

use std::path::Path;
use std::time::Duration;

use crate::sys::{SysError, userns};

/// Where the system's bus listens (D-Bus specification, "Well-known Message Bus Instances").
pub const SYSTEM: &str = "/run/dbus/system_bus_socket";

/// How long a bus may take for any call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Why something on a bus did not come about.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error(transparent)]
    Sys(#[from] SysError),
    #[error("cannot speak on the bus")]
    Connect(#[source] zbus::Error),
    #[error("cannot {what}")]
    Call {
        what: String,
        #[source]
        source: zbus::Error,
    },
    #[error("cannot {what}: {reason}")]
    Failed { what: String, reason: String },
}

/// Connects to the bus that listens at `address`. Needs a tokio runtime.
pub async fn connect(address: &Path) -> Result<zbus::Connection, BusError> {
    let address = format!("unix:path={}", address.display());
    // The bus knows a private owner's broker by the owner's uid, not by its own within.
    let uid = userns::uid_outside(rustix::process::geteuid().as_raw());
    let builder = zbus::connection::Builder::address(address.as_str()).user_id(uid);
    builder.method_timeout(PATIENCE).build().await.map_err(BusError::Connect)
}

impl BusError {
    /// Turns the failure of a call into "cannot `what`".
    pub fn call(what: impl Into<String>) -> impl FnOnce(zbus::Error) -> Self {
        let what = what.into();
        |source| Self::Call { what, source }
    }

    /// The D-Bus name of an error that the other side has answered with.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Call { source: zbus::Error::MethodError(name, ..), .. } => Some(name.as_str()),
            _ => None,
        }
    }
}
