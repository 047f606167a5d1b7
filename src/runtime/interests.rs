//! What the monitor waits for: descriptors and a point in time. Each part of the monitor adds what it waits
//! for; nothing else in the monitor waits.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::sys::{Context, SysResult};

/// Numbers that are used once, so that something that is gone is never taken for something newer.
pub type Id = u64;

/// Something that can become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Init,
    Listener,
    Notify,
    Console,
    Watcher(Id),
    Client(Id),
    /// A program's end.
    Program(Id),
    /// A program's report on whether it has begun.
    Begun(Id),
    /// The outcome of a change of the guest's devices.
    Change(Id),
    Frozen,
    Signal,
}

/// One wait.
#[derive(Default)]
pub struct Interests<'a> {
    sources: Vec<Source>,
    fds: Vec<PollFd<'a>>,
    until: Option<Instant>,
}

impl<'a> Interests<'a> {
    pub fn read(&mut self, source: Source, fd: &'a impl AsFd) {
        self.add(source, fd.as_fd(), PollFlags::IN);
    }

    pub fn add(&mut self, source: Source, fd: BorrowedFd<'a>, flags: PollFlags) {
        self.sources.push(source);
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
    }

    /// Not to wait any longer than until `when`.
    pub fn wake(&mut self, when: Option<Instant>) {
        self.until = [self.until, when].into_iter().flatten().min();
    }

    /// Waits; what is ready, and for what. Nothing when a signal or the time came first.
    pub fn wait(mut self) -> SysResult<Vec<(Source, PollFlags)>> {
        let timeout = self.until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        match rustix::event::poll(&mut self.fds, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(Vec::new()),
            other => other.cannot(|| "wait for events")?,
        };
        let ready = self.sources.into_iter().zip(self.fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }
}
