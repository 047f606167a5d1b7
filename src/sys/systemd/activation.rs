//! Sockets that systemd opened for this process (sd_listen_fds(3)).
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use crate::sys::{Context, SysResult};

/// The first descriptor that is passed.
const FIRST: i32 = 3;

/// The one socket that was passed; none where this process was started otherwise. To be called once,
/// before the process opens anything.
pub fn socket() -> SysResult<Option<OwnedFd>> {
    let passed = |key| std::env::var(key).ok().and_then(|text| text.parse::<u32>().ok());
    if passed("LISTEN_PID") != Some(std::process::id()) || passed("LISTEN_FDS") != Some(1) {
        return Ok(None);
    }
    // SAFETY: systemd has opened this descriptor for this process, and nothing else here owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).cannot(|| "keep the passed socket")?;
    Ok(Some(socket))
}
