//! Bytes on their way from one descriptor to another.

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::end::{End, Kind, PIECE};
use super::offer::{self, Offer, Unread};
use super::through::Through;

/// Bytes that are copied at once: half of what the pipe of a busy flow holds, so that its program goes on
/// meanwhile.
const BUFFER: usize = ROOM / 2;
/// Most bytes that a splice(2) is asked for, and how many follow one another while others wait.
const SPLICED: usize = 1 << 20;
const ROUNDS: usize = 16;
/// Bytes at once from which a flow counts as busy, and what its pipes hold then: with the usual 64 KiB
/// of each, three processes would mostly wait for one another.
const BUSY: usize = 32 * 1024;
const ROOM: usize = 1 << 20;
/// A busy flow that has moved less than this at once pauses, so that its source gets ahead or its
/// destination catches up. Looking after each of a program's small writes or reads would cost more than
/// moving the bytes.
const LITTLE: usize = ROOM / 2;
/// Bytes that a terminal may still hold when its program has ended: the kernel's limit for a tty's
/// buffers is 64 KiB (drivers/tty/tty_buffer.c), doubled for line ends.
const LEFT_IN_TERMINAL: u64 = 128 * 1024;

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

/// Why a flow on the user's side broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub direction: Direction,
    pub cause: Errno,
}

/// Bytes on their way from one descriptor to another.
pub struct Flow<'a> {
    pub direction: Direction,
    from: End<'a>,
    to: End<'a>,
    filter: Option<Box<dyn Filter + 'a>>,
    /// Read and not yet written: from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    /// Whether the kernel moves the bytes, without a copy.
    spliced: bool,
    /// The way of a busy flow from a pipe into a file.
    through: Option<Through>,
    /// Something is there to be spliced, and no room for it.
    full: bool,
    grown: bool,
    /// The next look can wait a moment.
    pauses: bool,
    offer: Offer,
    /// The source will give no more.
    pub ended: bool,
    /// The destination takes no more.
    pub refused: bool,
    pub failure: Option<Failure>,
    /// Bytes still to be read, where that is bounded.
    limit: Option<u64>,
}

impl<'a> Flow<'a> {
    pub fn new(direction: Direction, from: End<'a>, to: End<'a>) -> Self {
        // splice(2) needs a pipe at one end, and waits for a socket or terminal whatever it is told.
        let spliced = match (from.kind(), to.kind()) {
            // Into a file there is a way of its own, once there is much.
            (from, to) if from.is_pipe() => !matches!(to, Kind::Socket | Kind::Terminal | Kind::File),
            (Kind::File, to) => to.is_pipe(),
            _ => false,
        };
        Self {
            direction,
            from,
            to,
            filter: None,
            waiting: Vec::new(),
            sent: 0,
            spliced,
            through: None,
            full: false,
            grown: false,
            pauses: false,
            offer: Offer::Over,
            ended: false,
            refused: false,
            failure: None,
            limit: None,
        }
    }

    pub fn filtered(mut self, filter: impl Filter + 'a) -> Self {
        self.filter = Some(Box::new(filter));
        self.spliced = false;
        self
    }

    /// Takes from the source only what the other side reads, as far as the kernel can tell.
    pub fn offered(mut self) -> Self {
        self.offer = Offer::new(&self.from, &self.to);
        self
    }

    pub fn is_over(&self) -> bool {
        self.refused || (self.ended && self.waiting.is_empty())
    }

    /// Whether it waits for its destination.
    pub fn is_held_up(&self) -> bool {
        self.full || !self.waiting.is_empty() || matches!(self.offer, Offer::Shown(_))
    }

    /// What it waits for, and the destination, whose readers may leave meanwhile.
    pub fn poll_fds(&self) -> (PollFd<'_>, Option<PollFd<'_>>) {
        let left = (self.to.kind() == Kind::Pipe).then(|| PollFd::new(&self.to, PollFlags::empty()));
        if self.is_held_up() {
            return (PollFd::new(&self.to, PollFlags::OUT), left);
        }
        (PollFd::new(&self.from, PollFlags::IN), left)
    }

    /// All readers of the destination have gone.
    pub fn lose_reader(&mut self) {
        self.refused = true;
    }

    pub fn advance(&mut self) {
        self.pauses = false;
        match self.offer {
            Offer::Open => match self.offer.show(&self.from, &self.to) {
                Ok(true) => {}
                Ok(false) => self.end(),
                Err(_) => self.refused = true,
            },
            Offer::Shown(_) => self.offer.accept(&self.from, &self.to),
            Offer::Over if self.spliced => self.splice(),
            Offer::Over if !self.waiting.is_empty() => self.empty(),
            Offer::Over if self.through.is_some() => self.pour(),
            Offer::Over => self.fill(),
        }
    }

    /// Whether the next look is to find more.
    pub fn pauses(&self) -> bool {
        self.pauses
    }

    fn splice(&mut self) {
        self.full = false;
        let mut moved = 0;
        for _ in 0..ROUNDS {
            let most = self.limit.map_or(SPLICED, |left| left.min(SPLICED as u64) as usize);
            // Neither end waits then, whatever its own flags are.
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            match rustix::pipe::splice(&self.from, None, &self.to, None, most, flags) {
                Ok(0) => return self.end(),
                Ok(count) => {
                    self.count(count);
                    if self.ended {
                        return;
                    }
                    moved += count;
                    self.widen(count);
                }
                Err(Errno::AGAIN) => {
                    let there = || rustix::io::ioctl_fionread(&self.from).is_ok_and(|bytes| bytes > 0);
                    let is_file = self.from.kind() == Kind::File;
                    self.full = is_file || there();
                    // A file is always ready: only the destination has to be waited for.
                    self.pauses = self.grown && !is_file && moved < LITTLE;
                    return;
                }
                Err(Errno::INTR) => {}
                // A file that is opened for appending, or a device that cannot splice.
                Err(Errno::INVAL) => {
                    self.spliced = false;
                    return;
                }
                Err(e) => return self.refuse(e),
            }
        }
    }

    fn pour(&mut self) {
        let Some(through) = &self.through else { return };
        let most = self.limit.map_or(ROOM, |left| left.min(ROOM as u64) as usize);
        let count = match through.take(&self.from, most) {
            Ok(0) => return self.end(),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            // What can be read is read.
            Err(_) => return self.through = None,
        };
        if let Err(left) = through.put(&self.to, count) {
            match left.cause {
                // A file that is opened for appending, or a file system that cannot splice.
                Errno::INVAL => {
                    self.waiting = left.bytes;
                    self.through = None;
                }
                cause => self.refuse(cause),
            }
        }
        self.pauses = count < LITTLE;
        self.count(count);
    }

    fn fill(&mut self) {
        match self.read() {
            Ok(0) => self.end(),
            Ok(count) => {
                self.widen(count);
                self.pauses = self.grown && count < LITTLE;
                if let Some(filter) = &mut self.filter {
                    self.waiting = filter.pass(&self.waiting);
                }
                self.count(count);
                if self.to.never_waits() {
                    self.empty();
                }
            }
            Err(e) => {
                if !matches!(e, Errno::AGAIN | Errno::INTR) {
                    self.end();
                    // A terminal whose other side is closed says EIO.
                    let hung_up = e == Errno::IO && self.from.kind() == Kind::Terminal;
                    if self.direction == Direction::ToGuest && !hung_up {
                        self.fail(e);
                    }
                }
            }
        }
    }

    fn read(&mut self) -> rustix::io::Result<usize> {
        match self.limit {
            None => {
                self.waiting.reserve(BUFFER);
                self.from.read(spare_capacity(&mut self.waiting))
            }
            Some(left) => {
                let mut bytes = vec![0; left.min(BUFFER as u64) as usize];
                let count = self.from.read(&mut bytes)?;
                self.waiting.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
        }
    }

    /// More room in the pipes of a flow that moves so many bytes at once.
    fn widen(&mut self, count: usize) {
        if count >= BUSY && !std::mem::replace(&mut self.grown, true) {
            self.from.grow(ROOM);
            self.to.grow(ROOM);
            if self.from.kind().is_pipe() && self.to.kind() == Kind::File && self.filter.is_none() {
                self.through = Through::new(ROOM).ok();
            }
        }
    }

    fn count(&mut self, count: usize) {
        self.limit = self.limit.map(|left| left.saturating_sub(count as u64));
        if self.limit == Some(0) {
            self.end();
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(filter) = &mut self.filter {
            self.waiting.extend(filter.end());
        }
    }

    fn empty(&mut self) {
        match self.to.write(self.piece()) {
            Ok(count) => self.sent += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => self.refuse(e),
        }
        if self.sent == self.waiting.len() {
            self.waiting.clear();
            self.sent = 0;
        }
    }

    /// What is written next. Lines of several processes do not mix where each comes in one write.
    fn piece(&self) -> &[u8] {
        let rest = &self.waiting[self.sent..];
        if self.filter.is_none() || self.to.never_waits() {
            return rest;
        }
        let most = &rest[..rest.len().min(PIECE)];
        most.iter().rposition(|b| *b == b'\n').map_or(most, |end| &most[..=end])
    }

    fn refuse(&mut self, cause: Errno) {
        self.refused = true;
        let hung_up = cause == Errno::IO && self.to.kind() == Kind::Terminal;
        let left = matches!(cause, Errno::PIPE | Errno::CONNRESET) || hung_up;
        if self.direction == Direction::FromGuest && !left {
            self.fail(cause);
        }
    }

    fn fail(&mut self, cause: Errno) {
        self.failure = Some(Failure { direction: self.direction, cause });
    }

    /// Gives the source back what the other side has not read, if that is possible: now or, if the program
    /// can still read some of it, once the program has ended.
    pub fn settle(self) -> Option<Unread<'a>> {
        if self.direction == Direction::FromGuest {
            return None;
        }
        match self.offer {
            Offer::Over if self.ended && !self.refused => return Unread::of(self.from, &self.to),
            Offer::Over => offer::give_back(&self.from, &self.to, self.waiting.len() - self.sent),
            _ => self.offer.settle(&self.from, &self.to),
        }
        None
    }

    /// From now on passes on only what is there already: other processes of the guest may hold the other
    /// end open for ever.
    pub fn bound(&mut self) {
        let left = match self.from.kind() {
            Kind::Terminal => LEFT_IN_TERMINAL,
            _ => rustix::io::ioctl_fionread(&self.from).unwrap_or(0),
        };
        self.limit = Some(left);
        if left == 0 && !self.ended {
            self.end();
        }
    }
}
