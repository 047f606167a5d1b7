//! Passing bytes on between the user's descriptors and a guest's. The user's are shared with other
//! processes, so their flags must not change: nothing is read or written before poll(2) allows it, and no
//! more at once than a pipe or terminal that has room takes.

mod end;
mod flow;
mod offer;
#[cfg(test)]
mod tests;
mod through;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::model::waits;

pub use end::End;
pub use flow::{Direction, Failure, Filter, Flow};
use offer::Unread;

/// The result of one wait.
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
    /// Files that may get unread bytes back when the program has ended.
    unread: Vec<Unread<'a>>,
    lost_reader: bool,
    lost_writer: bool,
    failure: Option<Failure>,
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

    /// The first error on the user's side; a reader who leaves is no error.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Waits until something can be passed on, or one of `watch` be read, and does the former.
    pub fn step(&mut self, watch: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Step> {
        if self.flows.iter().any(Flow::pauses) {
            std::thread::sleep(waits::FLOW_PAUSE);
        }
        let timeout =
            timeout.map(|p| Timespec { tv_sec: p.as_secs() as i64, tv_nsec: p.subsec_nanos().into() });
        let mut fds: Vec<PollFd<'_>> =
            watch.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let mut readers = Vec::new();
        for (number, flow) in self.flows.iter().enumerate() {
            let (waited_for, reader) = flow.poll_fds();
            fds.push(waited_for);
            readers.extend(reader.map(|fd| (number, fd)));
        }
        let first_reader = fds.len();
        let (numbers, readers): (Vec<usize>, Vec<PollFd<'_>>) = readers.into_iter().unzip();
        fds.extend(readers);
        let count = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout.as_ref()))?;
        let watched: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let left = fds[first_reader..].iter().map(|fd| fd.revents().contains(PollFlags::ERR)).collect();
        drop(fds);
        self.act(&watched[watch.len()..first_reader], numbers, left);
        Ok(Step { watched: watched[..watch.len()].to_vec(), idle: count == 0 })
    }

    /// `ready` are the flows that can do something; of those in `numbers`, `left` says whose readers
    /// have gone.
    fn act(&mut self, ready: &[bool], numbers: Vec<usize>, left: Vec<bool>) {
        for (number, left) in numbers.into_iter().zip(left) {
            if left {
                self.flows[number].lose_reader();
            }
        }
        for (flow, ready) in self.flows.iter_mut().zip(ready) {
            if *ready && !flow.is_over() {
                flow.advance();
            }
        }
        self.lost_reader |= self.flows.iter().any(|f| f.refused && f.direction == Direction::FromGuest);
        self.lost_writer |= self.flows.iter().any(|f| f.ended && f.direction == Direction::ToGuest);
        self.failure = self.failure.or_else(|| self.flows.iter().find_map(|f| f.failure));
        for flow in self.flows.extract_if(.., |f| f.is_over()) {
            self.unread.extend(flow.settle());
        }
    }

    /// Passes on what the guest's program left behind, until something can be read from `stop`.
    pub fn finish(&mut self, stop: BorrowedFd<'_>) -> io::Result<()> {
        for flow in self.flows.extract_if(.., |f| f.direction == Direction::ToGuest) {
            self.unread.extend(flow.settle());
        }
        self.unread.drain(..).for_each(Unread::give_back);
        self.flows.iter_mut().for_each(Flow::bound);
        self.flows.retain(|f| !f.is_over());
        while !self.flows.is_empty() {
            let step = self.step(&[stop], Some(waits::TERMINAL_REST))?;
            // A reader that is slow is waited for, a guest is not.
            let held_up = self.flows.iter().any(Flow::is_held_up);
            if step.watched[0] || (step.idle && !held_up) {
                break;
            }
        }
        Ok(())
    }
}
