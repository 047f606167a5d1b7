//! Whoever is at the other end of a pipe.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};

/// Whether nobody reads any more what is written to `output`. Of a file there is always somebody.
pub fn is_unread(output: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&output, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = rustix::event::poll(&mut fds, Some(&at_once));
    polled.is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_without_a_reader_is_unread() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!is_unread(&writer));
        drop(reader);
        assert!(is_unread(&writer));
        assert!(!is_unread(tempfile::tempfile().unwrap()));
    }
}
