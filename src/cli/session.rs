//! A program in a guest, seen from the user's side: its streams or its terminal, its signals, its
//! end. What `exec` and `shell` have in common.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use rustix::termios::{Winsize, tcsetwinsize};

use super::relay::{Direction, End, Failure, Filter, Flow, Relay};
use super::report::{CliError, CliResult, DONE};
use super::signals::{self, Signals};
use super::streams::Streams;
use super::terminal::{self, Raw};
use crate::app::App;
use crate::app::exec::{self, Event, Looks, Session};
use crate::model::name::Name;
use crate::runtime::byte_string::ByteString;
use crate::runtime::protocol::{ExecRequest, WindowSize};
use crate::sys::clone::Exit;

/// Runs `request` in `name` to its end and returns its exit code.
pub fn run(name: &Name, request: ExecRequest) -> CliResult<i32> {
    let app = super::open()?;
    let program = request.argv.first().map(ByteString::to_string);
    let event = match request.tty {
        Some(_) => with_terminal(app, name, request)?,
        None if request.detach => detached(app, name, request)?,
        None => with_streams(app, name, request, None)?,
    };
    code(event, program.as_deref(), name)
}

/// The program stays behind: only its start is waited for.
pub(super) fn detached(mut app: App, name: &Name, request: ExecRequest) -> CliResult<Event> {
    Ok(exec::exec(&mut app, name, request, None)?.wait()?)
}

pub(super) fn code(event: Event, program: Option<&str>, name: &Name) -> CliResult<i32> {
    match event {
        Event::Exited(code) => Ok(code),
        Event::Runs => Ok(DONE),
        Event::NotStarted { code, reason } => {
            // Nearly always a line for a shell, in quotes.
            let line = program.filter(|text| code == 127 && text.contains([' ', '|', ';', '&', '>', '$']));
            let hint = line.map(|text| {
                format!(
                    "for a line of a shell: nagaya exec {name} -- sh -c '{}'",
                    text.replace('\'', r"'\''")
                )
            });
            Err(CliError::NotStarted { code, reason, hint })
        }
    }
}

/// The program has pipes in place of our standard input, output and error. One of several has no
/// input, and its lines are labelled.
pub(super) fn with_streams(
    mut app: App,
    name: &Name,
    request: ExecRequest,
    label: Option<&Name>,
) -> CliResult<Event> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut relay = Relay::default();
    let ours = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let streams = Streams::new(&mut relay, ours, label).map_err(CliError::Relay)?;
    let request = ExecRequest { null: streams.null(), ..request };
    let mut session = exec::exec(&mut app, name, request, Some(streams.for_guest()))?;
    let signals = Signals::take(signals::PASSED_ON).map_err(CliError::Relay)?;
    let mut held = Some((streams, app));
    let mut looks = Looks::default();
    let mut _broker = None;
    loop {
        if let Some((streams, app)) = &mut held
            && session.is_settled(app, streams.for_guest())?
        {
            // Our copies of the guest's ends would keep its pipes open; the broker has nothing more to do.
            _broker = held.take().map(|(_, app)| app.close());
        }
        let patience = held.is_some().then(|| looks.pause());
        let step = relay.step(&[session.socket(), signals.as_fd()], patience).map_err(CliError::Relay)?;
        if step.watched[1] {
            pass_signals(&session, &signals, |_| ());
            // What is not read now may be the signal.
            held = None;
        }
        if step.watched[0] && held.is_none() {
            let event = session.wait();
            relay.finish(signals.as_fd()).map_err(CliError::Relay)?;
            return whole(event?, &relay);
        }
    }
}

/// The end of a program all of whose input and output has gone its way.
fn whole(event: Event, relay: &Relay<'_>) -> CliResult<Event> {
    match (relay.failure(), event) {
        (Some(failure), Event::Exited(_)) => Err(failed(failure)),
        (_, event) => Ok(event),
    }
}

/// What a program cannot see, for it has a pipe.
pub fn failed(Failure { direction, cause }: Failure) -> CliError {
    match direction {
        Direction::ToGuest => CliError::Input(cause.into()),
        Direction::FromGuest => CliError::Printed(cause.into()),
    }
}

/// The program has a terminal of its own, which the user's is a window to.
fn with_terminal(mut app: App, name: &Name, request: ExecRequest) -> CliResult<Event> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut session = exec::exec(&mut app, name, request, None)?;
    // A shell may be open for days: meanwhile neither broker nor database is ours.
    let _broker = app.close();
    let Some(master) = session.terminal() else { return Ok(session.wait()?) };
    let master = master.try_clone_to_owned().map_err(CliError::Terminal)?;
    rustix::io::ioctl_fionbio(&master, true).map_err(|e| CliError::Terminal(e.into()))?;

    let wanted = signals::PASSED_ON.into_iter().chain(signals::OF_TERMINAL);
    let signals = Signals::take(wanted).map_err(CliError::Terminal)?;
    let raw = io::IsTerminal::is_terminal(&stdin).then(Raw::enter).transpose()?;
    let typed = Flow::new(Direction::ToGuest, End::lent(stdin.as_fd()), End::lent(master.as_fd()));
    let mut relay = Relay::default();
    relay.add(if raw.is_some() { typed } else { typed.filtered(EndOfFile { midline: false }) });
    relay.add(Flow::new(Direction::FromGuest, End::lent(master.as_fd()), End::lent(stdout.as_fd())));
    loop {
        let step = relay.step(&[session.socket(), signals.as_fd()], None).map_err(CliError::Relay)?;
        let nobody = relay.has_lost_reader() || (raw.is_some() && relay.has_lost_writer());
        let mut ending = nobody.then_some(Signal::SIGHUP);
        if step.watched[1] {
            pass_signals(&session, &signals, |signal| match signal {
                Signal::SIGCONT => raw.iter().for_each(|raw| drop(raw.again())),
                Signal::SIGWINCH => resize(&master),
                Signal::SIGTERM | Signal::SIGHUP => ending = Some(signal),
                _ => {}
            });
        }
        if step.watched[0] {
            let event = session.wait();
            relay.finish(signals.as_fd()).map_err(CliError::Relay)?;
            return whole(event?, &relay);
        }
        if let Some(signal) = ending {
            // Nobody sits there any more, or is not to: a shell would ignore SIGTERM. The terminal
            // closes with us, which tells the program; a signal tells one that does not look at it.
            let _ = session.signal(Signal::SIGHUP as i32);
            return whole(Event::Exited(Exit::Signal(signal as i32).code()), &relay);
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
