//! A connection to a message bus, for a process of one thread that forks and enters namespaces. The
//! library's own handshake would start a second thread and load NSS modules; what the bus wants to
//! hear is three lines, and they are said here.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::private_socket;
use crate::sys::{Context, SysError};

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
    let connection = builder.method_timeout(PATIENCE).build().await.map_err(BusError::Connect)?;
    // Part of the library's handshake too. Before it the bus answers nothing else.
    let bus = "org.freedesktop.DBus";
    let greeted = connection.call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "Hello", &()).await;
    greeted.map(|_| connection).map_err(BusError::Connect)
}

/// SASL EXTERNAL as this process's effective uid, then BEGIN.
fn greet(mut stream: &UnixStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let uid = rustix::process::geteuid().as_raw().to_string();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads are counted in a process of its own: this one has those of other tests.
    #[test]
    fn connections() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--test-threads=1", "host::bus::tests::alone::"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("2 passed"), "{said}");
    }

    mod alone {
        use std::process::{Child, Command, Stdio};
        use std::time::Instant;

        use super::*;
        use crate::host::systemd::{Scope, Systemd};

        /// A bus of the test's own; ended with it.
        struct Bus {
            daemon: Child,
            dir: tempfile::TempDir,
        }

        impl Bus {
            fn start() -> Self {
                let dir = tempfile::tempdir().unwrap();
                let address = format!("--address=unix:path={}/bus", dir.path().display());
                let daemon = Command::new("dbus-daemon")
                    .args(["--session", "--nofork", &address])
                    .stdout(Stdio::null())
                    .spawn()
                    .expect("there is no dbus-daemon: apt-get install dbus-daemon");
                let bus = Self { daemon, dir };
                let end = Instant::now() + PATIENCE;
                while UnixStream::connect(bus.path()).is_err() {
                    assert!(Instant::now() < end, "dbus-daemon does not listen");
                    std::thread::sleep(Duration::from_millis(5));
                }
                bus
            }

            fn path(&self) -> std::path::PathBuf {
                self.dir.path().join("bus")
            }
        }

        impl Drop for Bus {
            fn drop(&mut self) {
                let _ = self.daemon.kill();
                let _ = self.daemon.wait();
            }
        }

        fn runtime() -> tokio::runtime::Runtime {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
        }

        fn threads() -> usize {
            std::fs::read_dir("/proc/self/task").unwrap().count()
        }

        #[test]
        #[ignore = "run by `connections`"]
        fn a_bus_is_spoken_to_by_one_thread() {
            let bus = Bus::start();
            let before = threads();
            let id: String = runtime().block_on(async {
                let connection = connect(&bus.path()).await.unwrap();
                assert_eq!(threads(), before);
                let name = "org.freedesktop.DBus";
                let asked = connection.call_method(Some(name), "/", Some(name), "GetId", &()).await;
                asked.unwrap().body().deserialize().unwrap()
            });
            assert_eq!((id.len(), threads()), (32, before));
        }

        #[test]
        #[ignore = "run by `connections`"]
        fn a_bus_without_systemd_is_an_error() {
            let bus = Bus::start();
            let started = runtime().block_on(async {
                let systemd = Systemd::connect(&bus.path()).await?;
                let scope =
                    Scope { unit: "x.scope", slice: "x.slice", description: "", pid: 1, before: Vec::new() };
                systemd.start_scope(&scope).await
            });
            let error = crate::sys::error_text(&started.unwrap_err());
            assert!(error.starts_with("cannot have systemd make x.scope: "), "{error}");
            let error = runtime().block_on(connect(&bus.dir.path().join("none"))).unwrap_err();
            assert!(error.to_string().starts_with("cannot reach the bus at /"), "{error}");
        }
    }
}
