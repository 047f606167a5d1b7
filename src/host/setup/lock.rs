//! One setup at a time on a host: two instances that choose ids at once would choose the same.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::SetupError;

/// In /run itself, where only root makes files: nobody can plant a link or hold the lock.
const PATH: &str = "/run/nagaya-setup.lock";
const PATIENCE: Duration = Duration::from_secs(60);

/// Held until dropped.
pub struct SetupLock {
    _file: OwnedFd,
}

pub fn acquire() -> Result<SetupLock, SetupError> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |operation| {
        move |errno: Errno| SetupError::Io { operation, path: PathBuf::from(PATH), source: errno.into() }
    };
    let file = rustix::fs::open(PATH, flags, Mode::from_raw_mode(0o600)).map_err(failed("open"))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(SetupLock { _file: file }),
            Err(Errno::WOULDBLOCK) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            Err(Errno::WOULDBLOCK) => {
                return Err(SetupError::Locked { path: PathBuf::from(PATH), seconds: PATIENCE.as_secs() });
            }
            Err(errno) => return Err(failed("lock")(errno)),
        }
    }
}
