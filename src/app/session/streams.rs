//! What a program in a guest gets as 0, 1 and 2: pipes, and none of the user's own descriptors. A guest
//! could change the flags and the position of an open file that it shares, and keep it after this command
//! has ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode};
use rustix::pipe::{PipeFlags, pipe_with};

use super::relay::{Direction, End, Filter, Flow, Relay};
use crate::model::name::Name;

/// The guest's ends of the pipes, and whether the user's own descriptors are the null device.
pub struct Streams {
    theirs: [OwnedFd; 3],
    null: [bool; 3],
}

impl Streams {
    /// For the user's descriptors `ours`; `relay` serves our ends. With a label there is no input, and
    /// each line of output begins with it.
    pub fn new<'a>(
        relay: &mut Relay<'a>,
        ours: [BorrowedFd<'a>; 3],
        label: Option<&Name>,
    ) -> io::Result<Self> {
        let [stdin, stdout, stderr] = ours;
        let null = ours.map(is_null);
        let (theirs, input) = pipe()?;
        if label.is_none() {
            relay.add(Flow::new(Direction::ToGuest, End::borrowed(stdin), End::ours(input)).offered());
        }
        let printed = |from, to| {
            let flow = Flow::new(Direction::FromGuest, End::ours(from), End::borrowed(to));
            match label {
                Some(name) => flow.filtered(Labelled::new(name)),
                None => flow,
            }
        };
        let (output, theirs_out) = pipe()?;
        relay.add(printed(output, stdout));
        if label.is_none() && are_same(stdout, stderr) {
            // One pipe for both keeps the order in which the program writes.
            let theirs_err = theirs_out.try_clone()?;
            return Ok(Self { theirs: [theirs, theirs_out, theirs_err], null });
        }
        let (errors, theirs_err) = pipe()?;
        relay.add(printed(errors, stderr));
        Ok(Self { theirs: [theirs, theirs_out, theirs_err], null })
    }

    pub fn for_guest(&self) -> [BorrowedFd<'_>; 3] {
        self.theirs.each_ref().map(AsFd::as_fd)
    }

    /// For which of them the guest's own null device does the same, so that nothing has to be passed on.
    pub fn null(&self) -> [bool; 3] {
        self.null
    }
}

/// Whole lines, each with the container's name before it, so that those of several stay apart.
struct Labelled {
    label: String,
    line: Vec<u8>,
}

impl Labelled {
    /// Bytes of a line that are kept until it ends.
    const LONGEST: usize = 2048;

    fn new(name: &Name) -> Self {
        Self { label: format!("{name}: "), line: Vec::new() }
    }

    fn take_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.label.as_bytes());
        out.append(&mut self.line);
        out.push(b'\n');
    }
}

impl Filter for Labelled {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.label.len());
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || self.line.len() >= Self::LONGEST {
                self.take_line(&mut out);
            }
        }
        out
    }

    fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.line.is_empty() {
            self.take_line(&mut out);
        }
        out
    }
}

/// The end to read and the end to write. Whoever in the guest has an end may open it by
/// `/dev/stdout`, which it could not where a pipe belongs to a user of the host.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fchmod(&read, Mode::from_raw_mode(0o666))?;
    Ok((read, write))
}

fn is_null(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3)
    })
}

/// Whether both are the same terminal, pipe or opened file.
fn are_same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    let look = |fd| Some((rustix::fs::fstat(fd).ok()?, rustix::fs::fcntl_getfl(fd).ok()?));
    match (look(a), look(b)) {
        (Some((a, flags)), Some((b, others))) => (a.st_dev, a.st_ino, flags) == (b.st_dev, b.st_ino, others),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_label() {
        let mut labelled = Labelled::new(&Name::new("web").unwrap());
        assert_eq!(labelled.pass(b"one\ntw"), b"web: one\n");
        assert_eq!(labelled.pass(b"o\n\n"), b"web: two\nweb: \n");
        assert_eq!(labelled.pass(b"rest"), b"");
        assert_eq!(labelled.end(), b"web: rest\n");
        assert_eq!(labelled.end(), b"");
        let long = labelled.pass(&[b'x'; 5000]);
        assert_eq!(long.iter().filter(|b| **b == b'\n').count(), 2);
    }
}
