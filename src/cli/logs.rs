use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags};

use super::output::print_bytes;
use super::report::{CliError, CliResult, DONE};
use super::text::Plain;
use crate::app::console::{self, Followed};

/// Show what a container's console has printed
///
/// Also of a container that is stopped. Control sequences are left out, for a guest can print any.
///
/// Examples:
///   nagaya logs web01 -n 50
///   nagaya logs web01 -f
///   nagaya logs web01 --raw > console.bin
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct LogsArgs {
    /// The container
    name: String,
    /// Go on with what comes, through starts and stops, until Ctrl-C or the container's deletion
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines, so many
    #[arg(short = 'n', long, value_name = "NUMBER")]
    lines: Option<usize>,
    /// The bytes as the guest printed them
    #[arg(long)]
    raw: bool,
}

pub fn run(args: LogsArgs) -> CliResult<i32> {
    let name = super::name(&args.name)?;
    let mut app = super::open()?;
    let (history, followed) = if args.follow {
        let (history, followed) = console::follow(&mut app, &name)?;
        (history, Some(followed))
    } else {
        (console::history(&mut app, &name)?, None)
    };
    drop(app);
    let mut plain = (!args.raw).then(Plain::default);
    let mut show = |bytes: &[u8]| match &mut plain {
        Some(plain) => print_bytes(plain.push(bytes).as_bytes()),
        None => print_bytes(bytes),
    };
    show(args.lines.map_or(&history, |number| last_lines(&history, number)))?;
    match followed {
        Some(followed) => follow(followed, show),
        None => Ok(DONE),
    }
}

fn follow(mut followed: Followed, mut show: impl FnMut(&[u8]) -> CliResult<()>) -> CliResult<i32> {
    let stdout = io::stdout();
    loop {
        let changes = PollFd::from_borrowed_fd(followed.changes(), PollFlags::IN);
        let mut fds = [changes, PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))
            .map_err(|e| CliError::Relay(e.into()))?;
        if fds[1].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            // Nobody reads any more.
            return Ok(DONE);
        }
        match followed.news()? {
            Some(news) => show(&news)?,
            None => return Ok(DONE),
        }
    }
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
