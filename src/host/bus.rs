//! A connection to a message bus, for a process of one thread that forks and enters namespaces. The
//! library's own handshake would start a second thread and load NSS modules; what the bus wants to
//! hear is three lines, and they are said here.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::private_socket;
use crate::sys::{Context, SysError, userns};

/// Where the system's bus listens (D-Bus specification, "Well-known Message Bus Instances").
pub const SYSTEM: &str = "/run/dbus/system_bus_socket";

/// How long a bus may take for its part of the handshake, and for any call after it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest line of a handshake.
const LINE: usize = 512;

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
    let stream = UnixStream::connect(address).cannot(|| format!("reach the bus at {}", address.display()))?;
    greet(&stream).cannot(|| format!("greet the bus at {}", address.display()))?;
    let builder = private_socket::authenticated(stream).cannot(|| "prepare the bus's socket")?;
    builder.method_timeout(PATIENCE).build().await.map_err(BusError::Connect)
}

/// SASL EXTERNAL as this process's effective uid, as the bus sees it, then BEGIN.
fn greet(mut stream: &UnixStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let uid = userns::uid_outside(rustix::process::geteuid().as_raw()).to_string();
    let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
    expect(stream, "OK ")?;
    stream.write_all(b"NEGOTIATE_UNIX_FD\r\n")?;
    expect(stream, "AGREE_UNIX_FD")?;
    stream.write_all(b"BEGIN\r\n")
}

/// Reads one line, byte by byte: nothing that follows it may be taken away.
fn expect(mut stream: &UnixStream, wanted: &str) -> std::io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < LINE {
        let mut byte = [0u8; 1];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    if line.starts_with(wanted.as_bytes()) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&line).trim_end().to_owned();
    Err(std::io::Error::other(format!("it answered '{said}' where '{wanted}' was due")))
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
