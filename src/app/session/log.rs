//! What a container's console has printed, passed on to a descriptor of the user's.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::app::App;
use crate::app::containers::console::{self, Followed};
use crate::app::error::{AppError, AppResult};
use crate::model::name::Name;
use crate::model::text::Plain;

/// What is shown, and how.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Only so many of the last lines.
    pub lines: Option<usize>,
    /// What comes too, through starts and stops, until the container is deleted.
    pub follow: bool,
    /// Without control sequences.
    pub plain: bool,
}

/// Passes it on until there is no more, or nobody reads.
pub fn show(mut app: App, name: &Name, wanted: Wanted, output: BorrowedFd<'_>) -> AppResult<()> {
    let (history, followed) = match wanted.follow {
        true => console::follow(&mut app, name).map(|(history, followed)| (history, Some(followed)))?,
        false => (console::history(&mut app, name)?, None),
    };
    // It may be followed for days.
    drop(app);
    let mut sink = Sink { output, plain: wanted.plain.then(Plain::default) };
    let is_read = sink.take(wanted.lines.map_or(&history, |number| last_lines(&history, number)))?;
    match followed.filter(|_| is_read) {
        Some(followed) => follow(followed, sink),
        None => Ok(()),
    }
}

fn follow(mut followed: Followed, mut sink: Sink<'_>) -> AppResult<()> {
    loop {
        let changes = PollFd::from_borrowed_fd(followed.changes(), PollFlags::IN);
        let mut fds = [changes, PollFd::from_borrowed_fd(sink.output, PollFlags::empty())];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))
            .map_err(|e| AppError::Relay(e.into()))?;
        if fds[1].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            // Nobody reads any more.
            return Ok(());
        }
        match followed.news()? {
            Some(news) if sink.take(&news)? => {}
            _ => return Ok(()),
        }
    }
}

struct Sink<'a> {
    output: BorrowedFd<'a>,
    plain: Option<Plain>,
}

impl Sink<'_> {
    /// Whether somebody has taken it.
    fn take(&mut self, bytes: &[u8]) -> AppResult<bool> {
        match &mut self.plain {
            Some(plain) => write(self.output, plain.push(bytes).as_bytes()),
            None => write(self.output, bytes),
        }
    }
}

fn write(output: BorrowedFd<'_>, mut bytes: &[u8]) -> AppResult<bool> {
    while !bytes.is_empty() {
        match rustix::io::write(output, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Whoever has passed it may have made it so.
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::OUT)];
                let _ = rustix::event::poll(&mut fds, None);
            }
            Err(Errno::PIPE) => return Ok(false),
            Err(e) => return Err(AppError::Printed(e.into())),
        }
    }
    Ok(true)
}

/// The end of `text`, which may lack its last line's end.
fn last_lines(text: &[u8], number: usize) -> &[u8] {
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    let mut ends = whole.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    match number.checked_sub(1) {
        Some(others) => &text[ends.nth(others).unwrap_or(0)..],
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        for (text, number, last) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\n\n\n", 2, "\n\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(last_lines(text.as_bytes(), number), last.as_bytes(), "{text:?} {number}");
        }
    }
}
