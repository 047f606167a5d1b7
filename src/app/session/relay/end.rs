//! One end of a flow, and how it is read and written without waiting on it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::Buffer;
use rustix::fs::FileType;
use rustix::net::{RecvFlags, SendFlags};

/// PIPE_BUF: what fits whenever poll(2) says that something does.
pub const PIECE: usize = 4096;
/// statfs(2): where pipes are that have no name.
const PIPEFS_MAGIC: i64 = 0x5049_5045;

/// A descriptor, and whether it is ours alone.
enum Fd<'a> {
    /// Closed when the flow is over.
    Ours(OwnedFd),
    Borrowed(BorrowedFd<'a>),
}

/// What a descriptor leads to, as far as it makes a difference to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pipe made by pipe(2). Once all its readers have gone, none will come.
    Pipe,
    /// One that has a name.
    Fifo,
    Socket,
    Terminal,
    /// A regular file or a block device: never to be waited for, and with a position.
    File,
    Other,
}

impl Kind {
    pub fn of(fd: BorrowedFd<'_>) -> Self {
        let Ok(stat) = rustix::fs::fstat(fd) else { return Self::Other };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo if rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == PIPEFS_MAGIC) => Self::Pipe,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::RegularFile | FileType::BlockDevice => Self::File,
            FileType::CharacterDevice if rustix::termios::isatty(fd) => Self::Terminal,
            _ => Self::Other,
        }
    }

    pub fn is_pipe(self) -> bool {
        matches!(self, Self::Pipe | Self::Fifo)
    }
}

/// One end of a flow.
pub struct End<'a> {
    fd: Fd<'a>,
    kind: Kind,
}

impl<'a> End<'a> {
    /// A descriptor that is ours alone, and is therefore made non-blocking.
    pub fn ours(fd: OwnedFd) -> Self {
        let _ = rustix::io::ioctl_fionbio(&fd, true);
        let kind = Kind::of(fd.as_fd());
        Self { fd: Fd::Ours(fd), kind }
    }

    /// A descriptor that other processes may share. Its flags are shared too, so they are not changed.
    pub fn borrowed(fd: BorrowedFd<'a>) -> Self {
        Self { fd: Fd::Borrowed(fd), kind: Kind::of(fd) }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Lets a pipe hold so many bytes at least, as far as the user may have so much.
    pub fn grow(&self, size: usize) {
        if self.kind == Kind::Pipe && rustix::pipe::fcntl_getpipe_size(self).is_ok_and(|now| now < size) {
            let _ = rustix::pipe::fcntl_setpipe_size(self, size);
        }
    }

    /// Whether a write always returns, whether there is room or not.
    pub fn never_waits(&self) -> bool {
        matches!(self.fd, Fd::Ours(_)) || matches!(self.kind, Kind::File | Kind::Socket)
    }

    /// To be called once poll(2) says that there is something.
    pub fn read<B: Buffer<u8>>(&self, bytes: B) -> rustix::io::Result<B::Output> {
        match self.kind {
            Kind::Socket => rustix::net::recv(self, bytes, RecvFlags::DONTWAIT).map(|(read, _)| read),
            _ => rustix::io::read(self, bytes),
        }
    }

    /// To be called once poll(2) says that there is room.
    pub fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self.kind {
            Kind::Socket => rustix::net::send(self, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            _ if self.never_waits() => rustix::io::write(self, bytes),
            _ => rustix::io::write(self, &bytes[..bytes.len().min(PIECE)]),
        }
    }
}

impl AsFd for End<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Fd::Ours(fd) => fd.as_fd(),
            Fd::Borrowed(fd) => *fd,
        }
    }
}
