//! Passing bytes on between the user's descriptors and those of a guest. The user's are shared with
//! other processes, so they stay blocking: nothing is read or written before poll(2) allows it, and
//! no more at once than a pipe or terminal that has room takes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// PIPE_BUF: what fits whenever poll(2) says that something does.
const PIECE: usize = 4096;
const BUFFER: usize = 16 * 1024;
/// Bytes that a terminal may still hold when its program has ended: the kernel's limit for a tty's
/// buffers is 64 KiB (drivers/tty/tty_buffer.c), doubled for line ends.
const LEFT_IN_TERMINAL: u64 = 128 * 1024;
/// How long the kernel may take to bring the rest of a terminal's output.
const PATIENCE: Duration = Duration::from_millis(100);

/// One end of a flow.
pub enum End<'a> {
    /// Closed when the flow is over.
    Ours(OwnedFd),
    Lent(BorrowedFd<'a>),
}

impl AsFd for End<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Ours(fd) => fd.as_fd(),
            End::Lent(fd) => *fd,
        }
    }
}

/// Changes what passes.
pub trait Filter {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8>;
    /// What is sent once the source has ended.
    fn end(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToGuest,
    FromGuest,
}

/// Bytes on their way from one descriptor to another.
pub struct Flow<'a> {
    direction: Direction,
    from: End<'a>,
    to: End<'a>,
    filter: Option<Box<dyn Filter + 'a>>,
    waiting: Vec<u8>,
    /// The source will give no more.
    ended: bool,
    /// The destination takes no more.
    refused: bool,
    /// Bytes still to be read, where that is bounded.
    limit: Option<u64>,
}

impl<'a> Flow<'a> {
    pub fn new(direction: Direction, from: End<'a>, to: End<'a>) -> Self {
        let (waiting, filter) = (Vec::new(), None);
        Self { direction, from, to, filter, waiting, ended: false, refused: false, limit: None }
    }

    pub fn filtered(mut self, filter: impl Filter + 'a) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    fn is_over(&self) -> bool {
        self.refused || (self.ended && self.waiting.is_empty())
    }

    fn poll_fd(&self) -> PollFd<'_> {
        if self.waiting.is_empty() {
            PollFd::new(&self.from, PollFlags::IN)
        } else {
            PollFd::new(&self.to, PollFlags::OUT)
        }
    }

    fn advance(&mut self) {
        if self.waiting.is_empty() { self.fill() } else { self.empty() }
    }

    fn fill(&mut self) {
        let mut bytes = [0u8; BUFFER];
        let most = self.limit.map_or(BUFFER, |left| left.min(BUFFER as u64) as usize);
        match rustix::io::read(&self.from, &mut bytes[..most]) {
            Ok(0) => self.end(),
            Ok(n) => {
                match &mut self.filter {
                    Some(filter) => self.waiting = filter.pass(&bytes[..n]),
                    None => self.waiting.extend_from_slice(&bytes[..n]),
                }
                self.limit = self.limit.map(|left| left - n as u64);
                if self.limit == Some(0) {
                    self.end();
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal whose other side is closed says EIO; a directory cannot be read at all.
            Err(_) => self.end(),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(filter) = &mut self.filter {
            self.waiting.extend(filter.end());
        }
    }

    fn empty(&mut self) {
        let piece = self.waiting.len().min(PIECE);
        match rustix::io::write(&self.to, &self.waiting[..piece]) {
            Ok(n) => drop(self.waiting.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.refused = true,
        }
    }

    /// From now on only what is there already: other processes of the guest may hold the other end
    /// for ever.
    fn bound(&mut self) {
        let left = if rustix::termios::isatty(&self.from) {
            LEFT_IN_TERMINAL
        } else {
            rustix::io::ioctl_fionread(&self.from).unwrap_or(0)
        };
        self.limit = Some(left);
        if left == 0 && !self.ended {
            self.end();
        }
    }
}

/// What came of one wait.
pub struct Step {
    /// Which of the watched descriptors have something to read.
    pub watched: Vec<bool>,
    /// Nothing happened in the given time.
    pub idle: bool,
}

/// Flows under way.
#[derive(Default)]
pub struct Relay<'a> {
    flows: Vec<Flow<'a>>,
    lost_reader: bool,
    lost_writer: bool,
}

impl<'a> Relay<'a> {
    pub fn add(&mut self, flow: Flow<'a>) {
        self.flows.push(flow);
    }

    pub fn has(&self, direction: Direction) -> bool {
        self.flows.iter().any(|f| f.direction == direction)
    }

    /// Nobody reads what the guest prints.
    pub fn has_lost_reader(&self) -> bool {
        self.lost_reader
    }

    /// Nobody will send the guest anything more.
    pub fn has_lost_writer(&self) -> bool {
        self.lost_writer
    }

    /// Waits until something can be passed on, or one of `watch` be read, and does the former.
    pub fn step(&mut self, watch: &[BorrowedFd<'_>], patience: Option<Duration>) -> io::Result<Step> {
        let patience =
            patience.map(|p| Timespec { tv_sec: p.as_secs() as i64, tv_nsec: p.subsec_nanos().into() });
        let mut fds: Vec<PollFd<'_>> =
            watch.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        fds.extend(self.flows.iter().map(Flow::poll_fd));
        let count = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, patience.as_ref()))?;
        let mut watched: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let ready = watched.split_off(watch.len());
        for (flow, ready) in self.flows.iter_mut().zip(ready) {
            if ready {
                flow.advance();
            }
        }
        self.lost_reader |= self.flows.iter().any(|f| f.refused && f.direction == Direction::FromGuest);
        self.lost_writer |= self.flows.iter().any(|f| f.ended && f.direction == Direction::ToGuest);
        self.flows.retain(|f| !f.is_over());
        Ok(Step { watched, idle: count == 0 })
    }

    /// Passes on what the guest's program left behind, until something can be read from `stop`.
    pub fn finish(&mut self, stop: BorrowedFd<'_>) -> io::Result<()> {
        self.flows.retain(|f| f.direction == Direction::FromGuest);
        self.flows.iter_mut().for_each(Flow::bound);
        self.flows.retain(|f| !f.is_over());
        while !self.flows.is_empty() {
            let step = self.step(&[stop], Some(PATIENCE))?;
            // A reader that is slow is waited for, a guest is not.
            let held_up = self.flows.iter().any(|f| !f.waiting.is_empty());
            if step.watched[0] || (step.idle && !held_up) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
