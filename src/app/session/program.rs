//! A program in a guest, seen from the user's side: its streams or its terminal, its signals, its end.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::Signal;
use rustix::termios::tcsetwinsize;

use super::relay::{Direction, End, Failure, Filter, Flow, Relay};
use super::streams::Streams;
use crate::api::programs::Ended;
use crate::app::Lazy;
use crate::app::containers::exec::{self, Looks, Session};
use crate::app::error::{AppError, AppResult};
use crate::model::name::Name;
use crate::runtime::protocol::ExecRequest;
use crate::sys::process::child::Exit;
use crate::sys::process::signals::{self, Signals};
use crate::sys::terminal::{self, Raw};

/// Runs `request` in `name` to its end. `ours` are the user's own descriptors for what it reads and prints; those
/// that are shared keep their flags. With a label it has no input, and each line of output begins with it. One
/// that is to stay has no streams; only its start is waited for.
pub fn run(
    mut lazy: Lazy,
    name: &Name,
    request: ExecRequest,
    ours: [BorrowedFd<'_>; 3],
    label: Option<&Name>,
) -> AppResult<Ended> {
    match request.tty {
        Some(_) => with_terminal(lazy, name, request, ours),
        None if request.detach => exec::exec(&mut lazy, name, request, None)?.wait(),
        None => with_streams(lazy, name, request, ours, label),
    }
}

/// The program has pipes in place of the user's descriptors.
fn with_streams(
    mut lazy: Lazy,
    name: &Name,
    request: ExecRequest,
    ours: [BorrowedFd<'_>; 3],
    label: Option<&Name>,
) -> AppResult<Ended> {
    let mut relay = Relay::default();
    let streams = Streams::new(&mut relay, ours, label).map_err(AppError::Relay)?;
    let request = ExecRequest { null: streams.null(), ..request };
    let mut session = exec::exec(&mut lazy, name, request, Some(streams.for_guest()))?;
    let signals = Signals::take(signals::PASSED_ON).map_err(AppError::Relay)?;
    let mut held = Some((streams, lazy));
    let mut looks = Looks::default();
    let mut _broker = None;
    loop {
        if let Some((streams, lazy)) = &mut held
            && session.is_settled(lazy, streams.for_guest())?
        {
            // Our copies of the guest's ends would keep its pipes open; the broker has nothing more to do.
            _broker = held.take().map(|(_, lazy)| lazy.close());
        }
        let timeout = held.is_some().then(|| looks.pause());
        let step = relay.step(&[session.socket(), signals.as_fd()], timeout).map_err(AppError::Relay)?;
        if step.watched[1] {
            pass_signals(&session, &signals, |_| ());
            // Input that is not read now may come after the signal.
            held = None;
        }
        if step.watched[0] && held.is_none() {
            let event = session.wait();
            relay.finish(signals.as_fd()).map_err(AppError::Relay)?;
            return whole(event?, &relay);
        }
    }
}

/// The end of a program, once all of its input and output has been passed on.
fn whole(event: Ended, relay: &Relay<'_>) -> AppResult<Ended> {
    match (relay.failure(), event) {
        (Some(failure), Ended::Exited(_)) => Err(failed(failure)),
        (_, event) => Ok(event),
    }
}

/// An error that the program cannot see, because it writes to a pipe.
pub(super) fn failed(Failure { direction, cause }: Failure) -> AppError {
    match direction {
        Direction::ToGuest => AppError::Input(cause.into()),
        Direction::FromGuest => AppError::Printed(cause.into()),
    }
}

/// The program has a terminal of its own, which the user's is a window to.
fn with_terminal(
    mut lazy: Lazy,
    name: &Name,
    request: ExecRequest,
    [stdin, stdout, _]: [BorrowedFd<'_>; 3],
) -> AppResult<Ended> {
    let mut session = exec::exec(&mut lazy, name, request, None)?;
    // A shell may be open for days, so the broker and the database are closed.
    let _broker = lazy.close();
    let Some(master) = session.terminal() else { return session.wait() };
    let master = master.try_clone_to_owned().map_err(AppError::Terminal)?;
    rustix::io::ioctl_fionbio(&master, true).map_err(|e| AppError::Terminal(e.into()))?;

    let wanted = signals::PASSED_ON.into_iter().chain(signals::OF_TERMINAL);
    let signals = Signals::take(wanted).map_err(AppError::Terminal)?;
    let raw = stdin.is_terminal().then(|| Raw::enter(stdin).map_err(AppError::Terminal)).transpose()?;
    let typed = Flow::new(Direction::ToGuest, End::borrowed(stdin), End::borrowed(master.as_fd()));
    let mut relay = Relay::default();
    relay.add(if raw.is_some() { typed } else { typed.filtered(EndOfFile { midline: false }) });
    relay.add(Flow::new(Direction::FromGuest, End::borrowed(master.as_fd()), End::borrowed(stdout)));
    loop {
        let step = relay.step(&[session.socket(), signals.as_fd()], None).map_err(AppError::Relay)?;
        let nobody = relay.has_lost_reader() || (raw.is_some() && relay.has_lost_writer());
        let mut ending = nobody.then_some(Signal::SIGHUP);
        if step.watched[1] {
            pass_signals(&session, &signals, |signal| match signal {
                Signal::SIGCONT => raw.iter().for_each(|raw| drop(raw.again())),
                Signal::SIGWINCH => resize(&master, [stdout, stdin]),
                Signal::SIGTERM | Signal::SIGHUP => ending = Some(signal),
                _ => {}
            });
        }
        if step.watched[0] {
            let event = session.wait();
            relay.finish(signals.as_fd()).map_err(AppError::Relay)?;
            return whole(event?, &relay);
        }
        if let Some(signal) = ending {
            // The user's terminal is gone, or this command is to end. Our end of the program's terminal
            // closes with us, which ends a shell that would ignore SIGTERM; SIGHUP reaches a program that
            // does not read its terminal.
            let _ = session.signal(Signal::SIGHUP as i32);
            return whole(Ended::Exited(Exit::Signal(signal as i32).code()), &relay);
        }
    }
}

/// Passes signals on to the program; those of our terminal go to `own` alone.
fn pass_signals(session: &Session, signals: &Signals, mut own: impl FnMut(Signal)) {
    while let Some(signal) = signals.next() {
        if !signals::OF_TERMINAL.contains(&signal) {
            // If the program has ended meanwhile, its end is reported next.
            let _ = session.signal(signal as i32);
        }
        own(signal);
    }
}

fn resize(master: &OwnedFd, users: [BorrowedFd<'_>; 2]) {
    if let Some(size) = terminal::size(users) {
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
