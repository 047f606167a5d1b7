//! A program's input is shown to it before it is taken: `while read line; do nagaya exec …; done`
//! keeps its lines unless the program reads. The first bytes go into the program's pipe by a copy,
//! and leave the source once the program has read them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::pipe::SpliceFlags;

use super::end::{End, Kind};

/// What a pipe of one page holds: the kernel says when all of it has been read.
const SHOWN: usize = 4096;
/// The usual size of a pipe.
const PIPE: usize = 64 * 1024;

/// What has become of the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Nothing has been shown.
    Open,
    /// So many bytes are shown.
    Shown(usize),
    /// The source is read as it comes.
    Over,
}

impl Offer {
    /// For input `from` of the program whose pipe is `to`.
    pub fn new(from: &End<'_>, to: &End<'_>) -> Self {
        let can_be_shown = matches!(from.kind(), Kind::Pipe | Kind::Fifo | Kind::Socket | Kind::File);
        // If the kernel rounds the size up to more than one page, a second piece would fit.
        let one_page = || rustix::pipe::fcntl_setpipe_size(to, SHOWN).is_ok_and(|size| size == SHOWN);
        if can_be_shown && to.kind() == Kind::Pipe && one_page() { Self::Open } else { Self::Over }
    }

    /// Shows the first bytes of `from`; false at its end.
    pub fn show(&mut self, from: &End<'_>, to: &End<'_>) -> rustix::io::Result<bool> {
        let mut bytes = [0u8; SHOWN];
        let shown = match from.kind() {
            Kind::Pipe | Kind::Fifo => rustix::pipe::tee(from, to, SHOWN, SpliceFlags::NONBLOCK),
            Kind::Socket => {
                let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
                rustix::net::recv(from, &mut bytes[..], flags).and_then(|(n, _)| put(to, &bytes[..n]))
            }
            _ => {
                let position = rustix::fs::tell(from)?;
                rustix::io::pread(from, &mut bytes[..], position).and_then(|n| put(to, &bytes[..n]))
            }
        };
        match shown {
            Ok(0) => return Ok(false),
            Ok(count) => *self = Self::Shown(count),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE) => return Err(Errno::PIPE),
            // Not a source that can be shown, after all.
            Err(_) => self.end(to),
        }
        Ok(true)
    }

    /// The program has read what was shown: takes that from the source, and from now on everything that
    /// comes.
    pub fn accept(&mut self, from: &End<'_>, to: &End<'_>) {
        if let Self::Shown(count) = *self {
            take(from, count);
        }
        self.end(to);
    }

    /// The program will read no more: takes from the source only what it has read.
    pub fn settle(&self, from: &End<'_>, to: &End<'_>) {
        if let Self::Shown(count) = *self {
            let unread = rustix::io::ioctl_fionread(to).unwrap_or(0) as usize;
            take(from, count.saturating_sub(unread));
        }
    }

    fn end(&mut self, to: &End<'_>) {
        let _ = rustix::pipe::fcntl_setpipe_size(to, PIPE);
        *self = Self::Over;
    }
}

fn put(to: &End<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    if bytes.is_empty() { Ok(0) } else { to.write(bytes) }
}

/// Reads `count` bytes, which are there, or goes past them.
fn take(from: &End<'_>, mut count: usize) {
    if from.kind() == Kind::File {
        let _ = rustix::fs::seek(from, SeekFrom::Current(count as i64));
        return;
    }
    let mut bytes = [0u8; SHOWN];
    while count > 0 {
        match from.read(&mut bytes[..count.min(SHOWN)]) {
            Ok(n) if n > 0 => count -= n,
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

/// Gives back what of a file was read for a program that has not read it.
pub fn give_back(from: &End<'_>, to: impl AsFd, unsent: usize) {
    let is_pipe = Kind::of(to.as_fd()) == Kind::Pipe;
    if from.kind() == Kind::File && is_pipe {
        let unread = rustix::io::ioctl_fionread(to).unwrap_or(0) as usize + unsent;
        let _ = rustix::fs::seek(from, SeekFrom::Current(-(unread as i64)));
    }
}

/// A file that was read to its end, and an end of its program's pipe. Once the program has ended, the pipe
/// tells how much of the file the program has not read.
pub struct Unread<'a> {
    file: End<'a>,
    pipe: OwnedFd,
}

impl<'a> Unread<'a> {
    /// None where nothing is left in the pipe `to`. That has to close for the program to see the end; another
    /// end to read keeps what it holds.
    pub fn of(file: End<'a>, to: &End<'_>) -> Option<Self> {
        let holds = || rustix::io::ioctl_fionread(to).is_ok_and(|bytes| bytes > 0);
        if file.kind() != Kind::File || to.kind() != Kind::Pipe || !holds() {
            return None;
        }
        let path = format!("/proc/self/fd/{}", to.as_fd().as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Some(Self { file, pipe: rustix::fs::open(path, flags, Mode::empty()).ok()? })
    }

    /// The program has ended.
    pub fn give_back(self) {
        give_back(&self.file, &self.pipe, 0);
    }
}
