//! Telling the service manager a service's state, as sd_notify(3) describes it.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::sys::{Context, SysResult};

/// Where to tell it; nowhere outside of a service.
pub struct Notifier(Option<(OwnedFd, SocketAddrUnix)>);

impl Notifier {
    /// By `NOTIFY_SOCKET`: a path, or a name of the abstract namespace after an '@'.
    pub fn from_environment() -> SysResult<Self> {
        let Some(value) = std::env::var_os("NOTIFY_SOCKET").filter(|v| !v.is_empty()) else {
            return Ok(Self(None));
        };
        let what = || format!("use NOTIFY_SOCKET '{}'", value.to_string_lossy());
        let address = match value.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
            path => SocketAddrUnix::new(path),
        };
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                .cannot(what)?;
        Ok(Self(Some((socket, address.cannot(what)?))))
    }

    /// Sends `text`, lines of `NAME=value`. It is no error if the manager does not listen.
    pub fn tell(&self, text: &str) {
        if let Some((socket, address)) = &self.0 {
            let flags = SendFlags::NOSIGNAL;
            let sent =
                rustix::io::retry_on_intr(|| rustix::net::sendto(socket, text.as_bytes(), flags, address));
            if let Err(e) = sent {
                tracing::debug!("the service manager does not listen: {e}");
            }
        }
    }
}
