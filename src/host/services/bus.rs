//! A connection to a message bus, with bounds on the time that it may take.

use std::path::Path;

use crate::model::waits;
use crate::sys::SysError;
use crate::sys::process::userns;

/// Where the system's bus listens (D-Bus specification, "Well-known Message Bus Instances").
pub const SYSTEM: &str = "/run/dbus/system_bus_socket";

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
    // The bus knows a daemonless owner's broker by the owner's uid, not by its uid inside the namespace.
    let uid = userns::uid_outside(rustix::process::geteuid().as_raw());
    let builder = zbus::connection::Builder::address(address.as_str()).user_id(uid);
    builder.method_timeout(waits::BUS).build().await.map_err(BusError::Connect)
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
