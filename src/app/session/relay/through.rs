//! From a pipe into a file by way of a pipe of our own: what the kernel splices into a file keeps the pipe
//! that it comes from locked for as long as the file takes, and so would keep the program from writing.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

pub struct Through {
    read: OwnedFd,
    write: OwnedFd,
}

/// A file that could not be spliced into, and what was to go there.
pub struct Left {
    pub bytes: Vec<u8>,
    pub cause: Errno,
}

impl Through {
    /// A pipe of `room` bytes, as far as the user may have so much.
    pub fn new(room: usize) -> rustix::io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let _ = rustix::pipe::fcntl_setpipe_size(&write, room);
        Ok(Self { read, write })
    }

    /// Takes up to `most` bytes from the pipe `from`, without waiting for them; 0 at its end.
    pub fn take(&self, from: impl AsFd, most: usize) -> rustix::io::Result<usize> {
        rustix::pipe::splice(from, None, &self.write, None, most, SpliceFlags::NONBLOCK)
    }

    /// Puts the `count` bytes that were taken into the file `to`.
    pub fn put(&self, to: impl AsFd, mut count: usize) -> Result<(), Left> {
        while count > 0 {
            match rustix::pipe::splice(&self.read, None, &to, None, count, SpliceFlags::empty()) {
                Ok(0) => return Err(self.left(count, Errno::IO)),
                Ok(put) => count -= put,
                Err(Errno::INTR) => {}
                Err(cause) => return Err(self.left(count, cause)),
            }
        }
        Ok(())
    }

    fn left(&self, count: usize, cause: Errno) -> Left {
        let mut bytes = vec![0; count];
        let mut there = 0;
        while there < count {
            match rustix::io::read(&self.read, &mut bytes[there..]) {
                Ok(0) => break,
                Ok(read) => there += read,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        bytes.truncate(there);
        Left { bytes, cause }
    }
}
