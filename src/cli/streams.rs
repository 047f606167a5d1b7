//! What a program in a guest gets as 0, 1 and 2: pipes, and nothing of the user's own. A description
//! that is shared with a guest has its flags and position changed by it, and would outlive us there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};

use super::relay::{Direction, End, Flow, Relay};

/// The guest's ends of the pipes.
pub struct Streams([OwnedFd; 3]);

impl Streams {
    /// For the user's descriptors `ours`; `relay` serves our ends.
    pub fn new<'a>(relay: &mut Relay<'a>, ours: [BorrowedFd<'a>; 3]) -> io::Result<Self> {
        let [stdin, stdout, stderr] = ours;
        let (theirs, input) = pipe()?;
        relay.add(Flow::new(Direction::ToGuest, End::lent(stdin), End::ours(input)).offered());
        let (output, theirs_out) = pipe()?;
        relay.add(Flow::new(Direction::FromGuest, End::ours(output), End::lent(stdout)));
        if are_same(stdout, stderr) {
            // One pipe for both keeps the order in which the program writes.
            let theirs_err = theirs_out.try_clone()?;
            return Ok(Self([theirs, theirs_out, theirs_err]));
        }
        let (errors, theirs_err) = pipe()?;
        relay.add(Flow::new(Direction::FromGuest, End::ours(errors), End::lent(stderr)));
        Ok(Self([theirs, theirs_out, theirs_err]))
    }

    pub fn for_guest(&self) -> [BorrowedFd<'_>; 3] {
        self.0.each_ref().map(AsFd::as_fd)
    }
}

/// The end to read and the end to write. Whoever in the guest has an end may open it by
/// `/dev/stdout`, which it could not where a pipe belongs to a user of the host.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fchmod(&read, Mode::from_raw_mode(0o666))?;
    Ok((read, write))
}

/// Whether both are the same terminal, pipe or opened file.
fn are_same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    let look = |fd| Some((rustix::fs::fstat(fd).ok()?, rustix::fs::fcntl_getfl(fd).ok()?));
    match (look(a), look(b)) {
        (Some((a, flags)), Some((b, others))) => (a.st_dev, a.st_ino, flags) == (b.st_dev, b.st_ino, others),
        _ => false,
    }
}
