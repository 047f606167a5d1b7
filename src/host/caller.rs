//! Whether the command that a broker works for is still there. One that was killed has asked for things
//! that the next command may already have undone: what has not begun yet is not to be begun.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::error::HostError;

/// The other end of a broker's connection.
pub struct Caller(OwnedFd);

impl Caller {
    pub fn at(stream: &UnixStream) -> std::io::Result<Self> {
        Ok(Self(stream.try_clone()?.into()))
    }

    /// To be asked once nobody else can be at work on the same: whoever comes next then waits until what
    /// is begun now is done.
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
