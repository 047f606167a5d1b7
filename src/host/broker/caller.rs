//! Whether the command that a broker works for is still there. If it was killed, the next command may
//! already have undone what it asked for, so the broker must not begin anything more.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::host::api::error::HostError;

/// The other end of a broker's connection.
pub struct Caller(OwnedFd);

impl Caller {
    /// The command at the other end of `stream`.
    pub fn at(stream: &UnixStream) -> std::io::Result<Self> {
        Ok(Self(stream.try_clone()?.into()))
    }

    /// Call it while holding the lock of what is to be changed: then whoever comes next waits until what is
    /// begun now is done.
    pub fn check(&self) -> Result<(), HostError> {
        let mut fds = [PollFd::new(&self.0, PollFlags::RDHUP)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let asked = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&none)));
        match asked.is_ok() && fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP) {
            true => Err(HostError::Refused("the command that asked for it has ended".to_owned())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_gone_is_told_from_who_waits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let caller = Caller::at(&ours).unwrap();
        assert!(caller.check().is_ok());
        std::io::Write::write_all(&mut &theirs, b"unread").unwrap();
        assert!(caller.check().is_ok());
        drop(theirs);
        assert!(caller.check().is_err());
    }
}
