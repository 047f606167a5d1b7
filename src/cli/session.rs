//! A program in a guest, seen from the user's side: its streams or its terminal, its signals, its
//! end. What `exec` and `shell` have in common.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::Signal;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

use super::relay::{Direction, End, Filter, Flow, Relay};
use super::report::{CliError, CliResult};
use super::signals::{self, Signals};
use super::terminal::{self, Raw};
use crate::app::App;
use crate::app::exec::{self, Event, Session};
use crate::model::name::Name;
use crate::runtime::protocol::{ExecRequest, WindowSize};
use crate::sys::clone::Exit;

/// Runs `request` in `name` to its end and returns its exit code.
pub fn run(name: &Name, request: ExecRequest) -> CliResult<i32> {
    let app = super::open()?;
    let event = match request.tty {
        Some(_) => with_terminal(app, name, request)?,
        None => with_streams(app, name, request)?,
    };
    match event {
        Event::Exited(code) => Ok(code),
        Event::NotStarted { code, reason } => Err(CliError::NotStarted { code, reason }),
    }
}

/// The program has standard input, output and error of ours, or pipes that we serve in their place.
fn with_streams(mut app: App, name: &Name, request: ExecRequest) -> CliResult<Event> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut relay = Relay::default();
    let streams =
        Streams::new(&mut relay, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]).map_err(CliError::Relay)?;
    let mut session = exec::exec(&mut app, name, request, Some(streams.for_guest()))?;
    // Our copies of the guest's ends would keep its pipes open; the broker has nothing more to do.
    drop(streams);
    drop(app);
    let signals = Signals::take(signals::PASSED_ON).map_err(CliError::Relay)?;
    loop {
        let step = relay.step(&[session.socket(), signals.as_fd()], None).map_err(CliError::Relay)?;
        if step.watched[1] {
            pass_signals(&session, &signals, |_| ());
        }
        if step.watched[0] {
            let event = session.wait();
            relay.finish(signals.as_fd()).map_err(CliError::Relay)?;
            return Ok(event?);
        }
    }
}

/// What a program gets as 0, 1 and 2: the user's own descriptor where a guest may have it, else the
/// far end of a pipe.
struct Streams<'a> {
    ours: [BorrowedFd<'a>; 3],
    pipes: [Option<OwnedFd>; 3],
}

impl<'a> Streams<'a> {
    fn new(relay: &mut Relay<'a>, ours: [BorrowedFd<'a>; 3]) -> io::Result<Self> {
        let mut pipes = [None, None, None];
        for number in 0..3 {
            if exec::may_lend(ours[number]) {
                continue;
            }
            if number == 2 && pipes[1].is_some() && are_same(ours[1], ours[2]) {
                // One pipe for both keeps the order in which the program writes.
                pipes[2] = pipes[1].as_ref().map(OwnedFd::try_clone).transpose()?;
                continue;
            }
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            let (theirs, flow) = if number == 0 {
                // A program that does not read must not hold up its output.
                rustix::io::ioctl_fionbio(&write, true)?;
                (read, Flow::new(Direction::ToGuest, End::Lent(ours[0]), End::Ours(write)))
            } else {
                (write, Flow::new(Direction::FromGuest, End::Ours(read), End::Lent(ours[number])))
            };
            relay.add(flow);
            pipes[number] = Some(theirs);
        }
        Ok(Self { ours, pipes })
    }

    fn for_guest(&self) -> [BorrowedFd<'_>; 3] {
        std::array::from_fn(|n| self.pipes[n].as_ref().map_or(self.ours[n], AsFd::as_fd))
    }
}

/// Whether both are the same terminal or file.
fn are_same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

/// The program has a terminal of its own, which the user's is a window to.
fn with_terminal(mut app: App, name: &Name, request: ExecRequest) -> CliResult<Event> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut session = exec::exec(&mut app, name, request, None)?;
    // A shell may be open for days: meanwhile neither broker nor database is ours.
    drop(app);
    let Some(master) = session.terminal() else { return Ok(session.wait()?) };
    let master = master.try_clone_to_owned().map_err(CliError::Terminal)?;
    rustix::io::ioctl_fionbio(&master, true).map_err(|e| CliError::Terminal(e.into()))?;

    let wanted = signals::PASSED_ON.into_iter().chain(signals::OF_TERMINAL);
    let signals = Signals::take(wanted).map_err(CliError::Terminal)?;
    let raw = io::IsTerminal::is_terminal(&stdin).then(Raw::enter).transpose()?;
    let typed = Flow::new(Direction::ToGuest, End::Lent(stdin.as_fd()), End::Lent(master.as_fd()));
    let mut relay = Relay::default();
    relay.add(if raw.is_some() { typed } else { typed.filtered(EndOfFile { midline: false }) });
    relay.add(Flow::new(Direction::FromGuest, End::Lent(master.as_fd()), End::Lent(stdout.as_fd())));
    loop {
        let step = relay.step(&[session.socket(), signals.as_fd()], None).map_err(CliError::Relay)?;
        let mut hung_up = relay.has_lost_reader() || (raw.is_some() && relay.has_lost_writer());
        if step.watched[1] {
            pass_signals(&session, &signals, |signal| match signal {
                Signal::SIGCONT => raw.iter().for_each(|raw| drop(raw.again())),
                Signal::SIGWINCH => resize(&master),
                signal => hung_up |= signal == Signal::SIGHUP,
            });
        }
        if step.watched[0] {
            let event = session.wait();
            relay.finish(signals.as_fd()).map_err(CliError::Relay)?;
            return Ok(event?);
        }
        if hung_up {
            // Nobody sits there any more. The terminal closes with us, which tells the program; a
            // signal tells one that does not look at its terminal.
            let _ = session.signal(Signal::SIGHUP as i32);
            return Ok(Event::Exited(Exit::Signal(Signal::SIGHUP as i32).code()));
        }
    }
}

/// Passes signals on to the program; those of our terminal go to `own` alone.
fn pass_signals(session: &Session, signals: &Signals, mut own: impl FnMut(Signal)) {
    while let Some(signal) = signals.next() {
        if !signals::OF_TERMINAL.contains(&signal) {
            // A program that has ended meanwhile is heard of next.
            let _ = session.signal(signal as i32);
        }
        own(signal);
    }
}

fn resize(master: &OwnedFd) {
    if let Some(WindowSize { rows, cols }) = terminal::size() {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = tcsetwinsize(master, size);
    }
}

/// The end of input for a program that has a terminal: Ctrl-D, twice within a line, where the first
/// only sends off what the line holds so far.
struct EndOfFile {
    midline: bool,
}

impl Filter for EndOfFile {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.midline = bytes.last() != Some(&b'\n');
        bytes.to_vec()
    }

    fn end(&mut self) -> Vec<u8> {
        if self.midline { vec![4, 4] } else { vec![4] }
    }
}
