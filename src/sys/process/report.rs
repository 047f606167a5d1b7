//! What a child process reports to its parent: how far it is, and its result, of any type and length.

use std::io::{self, IoSlice, Write};
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::child::{Child, Exit};
use super::interrupt;
use crate::sys::net::seqpacket;
use crate::sys::{Context, SysError, SysResult, timespec};

/// The first byte of a packet: what follows is how far the work is, a part of the result, or its last part.
const PROGRESS: u8 = b'#';
const PART: u8 = b'+';
const LAST: u8 = b'.';
/// A part of the result, in bytes; a child has it on its stack.
const PART_SIZE: usize = 8 << 10;
/// A longer result is not heard to its end: a child may be the prey of those who wrote what it reads.
const MOST: usize = 16 << 20;

/// Tells how far the work is.
pub type Tell<'a> = &'a mut dyn FnMut(u64);

/// The child's side.
pub struct Reporter<'a> {
    socket: BorrowedFd<'a>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(socket: BorrowedFd<'a>) -> Self {
        Self { socket }
    }

    /// How far the work is. A parent that is gone needs no report.
    pub fn progress(&self, done: u64) {
        let _ = self.send(PROGRESS, &done.to_ne_bytes());
    }

    /// The result, at the end; it asks for no memory but what `outcome` needs to be written.
    pub(super) fn outcome<T: Serialize>(&self, outcome: &T) -> io::Result<()> {
        let mut parts = Parts { reporter: self, bytes: [0; PART_SIZE], length: 0 };
        serde_json::to_writer(&mut parts, outcome)?;
        self.send(LAST, &parts.bytes[..parts.length])
    }

    fn send(&self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let packet = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(bytes)];
        rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(
                self.socket,
                &packet,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            )
        })?;
        Ok(())
    }
}

/// Collects a part of the result at a time.
struct Parts<'a> {
    reporter: &'a Reporter<'a>,
    bytes: [u8; PART_SIZE],
    length: usize,
}

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length == PART_SIZE {
            self.flush()?;
        }
        let count = bytes.len().min(PART_SIZE - self.length);
        self.bytes[self.length..self.length + count].copy_from_slice(&bytes[..count]);
        self.length += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.reporter.send(PART, &self.bytes[..self.length])?;
        self.length = 0;
        Ok(())
    }
}

/// Follows long work.
pub trait Watch {
    /// How far the child is; false ends it.
    fn progress(&mut self, done: u64) -> bool;
    /// Something else to wait for meanwhile.
    fn side(&self) -> Option<BorrowedFd<'_>>;
    /// That has become readable, or was closed.
    fn side_ready(&mut self);
}

/// Nobody follows the work.
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&mut self, _: u64) -> bool {
        true
    }
    fn side(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn side_ready(&mut self) {}
}

/// A child that is at work, and will say how that went. Dropped, it is ended wherever it is.
#[must_use]
pub struct Running<T> {
    /// Continues the sentence "cannot …".
    what: &'static str,
    /// None once it has been collected.
    child: Option<Child>,
    socket: OwnedFd,
    until: Option<Instant>,
    result: PhantomData<fn() -> T>,
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
        }
    }
}

impl<T> Running<T> {
    /// Asks it to end (SIGTERM), so that it can tidy up; after `timeout` it is ended wherever it is.
    pub fn end(mut self, timeout: Duration) {
        if self.child.as_ref().is_some_and(|child| child.end(timeout)) {
            self.child = None;
        }
    }
}

impl<T: DeserializeOwned> Running<T> {
    pub(super) fn new(what: &'static str, child: Child, socket: OwnedFd, timeout: Option<Duration>) -> Self {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        Self { what, child: Some(child), socket, until, result: PhantomData }
    }

    /// Waits for its end and hands back what it returns.
    ///
    /// # Errors
    /// When there is no result, because it has died, takes too long, or the user has interrupted it.
    pub fn finish(self) -> SysResult<T> {
        self.follow(&mut Unwatched)
    }

    /// The same, with somebody who is told how far it is.
    pub fn follow(mut self, watch: &mut dyn Watch) -> SysResult<T> {
        let interrupted = || io::Error::from(io::ErrorKind::Interrupted);
        let mut said = Vec::new();
        loop {
            self.wait_for_word(watch)?;
            let packet = seqpacket::recv_bytes(&self.socket)?;
            match packet.split_first() {
                Some((&PROGRESS, done)) => {
                    let done = done.try_into().map(u64::from_ne_bytes).unwrap_or_default();
                    if !watch.progress(done) {
                        return Err(self.failed(interrupted()));
                    }
                }
                Some((kind @ (&PART | &LAST), part)) => {
                    if said.len() + part.len() > MOST {
                        return Err(self.failed(io::Error::other("its result is too long")));
                    }
                    said.extend_from_slice(part);
                    if *kind == LAST {
                        self.collect()?;
                        return self.result(&said);
                    }
                }
                Some(_) => return Err(self.failed(io::Error::other("its process speaks in riddles"))),
                None => {
                    let exit = self.collect()?;
                    return Err(self.failed(io::Error::other(format!("its process has died: {exit}"))));
                }
            }
        }
    }

    fn result(&self, said: &[u8]) -> SysResult<T> {
        let outcome: Result<T, (String, i32)> =
            serde_json::from_slice(said).map_err(|e| self.failed(io::Error::from(e)))?;
        outcome.map_err(|(what, errno)| SysError::new(what, io::Error::from_raw_os_error(errno)))
    }

    /// Waits until the child has said something, serving the watcher's side meanwhile.
    fn wait_for_word(&self, watch: &mut dyn Watch) -> SysResult<()> {
        loop {
            let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
            fds.extend(watch.side().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let timeout = self.until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Err(self.failed(io::Error::from(io::ErrorKind::TimedOut))),
                Err(rustix::io::Errno::INTR) if interrupt::pending() => {
                    return Err(self.failed(io::Error::from(io::ErrorKind::Interrupted)));
                }
                Err(rustix::io::Errno::INTR) => continue,
                other => other.cannot(|| self.what)?,
            };
            let (has_word, has_side) =
                (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|fd| !fd.revents().is_empty()));
            if has_side {
                watch.side_ready();
            }
            if has_word {
                return Ok(());
            }
        }
    }

    fn failed(&self, why: io::Error) -> SysError {
        SysError::new(self.what, why)
    }

    fn collect(&mut self) -> SysResult<Exit> {
        self.child.take().map_or(Ok(Exit::Code(0)), |child| child.wait())
    }
}
