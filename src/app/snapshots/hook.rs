//! The guest's own program around the moment of which a copy of the running guest is: `PROGRAM freeze` before it is
//! frozen, and `PROGRAM thaw` after it goes on. What the program prints is the guest's word: little of it is kept, and
//! what is shown can do nothing to a terminal.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::app::containers::running::Known;
use crate::app::containers::{monitor, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::byte_string::ByteString;
use crate::model::container::{Container, State};
use crate::model::instance::Instance;
use crate::model::operation::{Operation, OperationKind};
use crate::model::snapshot::Source;
use crate::model::text;
use crate::model::waits;
use crate::runtime::protocol::{ExecRequest, Reply, Request};
use crate::sys::process::interrupt;
use crate::sys::{Context, SysError, error_text, timespec};

/// How much of what the program prints is kept, in bytes: the last of it.
const KEPT: usize = 4096;
/// How many lines of that are shown.
const SHOWN: usize = 5;

/// What a container has the guest run.
pub struct Hook {
    instance: Instance,
    container: Known,
    program: String,
}

/// What the program is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Freeze,
    Thaw,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
        }
    }
}

impl Hook {
    /// None where none is set.
    pub fn of(app: &App, container: &Container) -> Option<Self> {
        let program = container.config.expanded().get("snapshots.hook")?.to_owned();
        Some(Self { instance: app.instance.clone(), container: Known::of(app, container), program })
    }

    /// Refuses a guest in which no program runs now.
    pub fn check(&self, app: &App, container: &Container) -> AppResult<()> {
        let name = &container.name;
        match state::of(app, container) {
            State::Frozen => Err(AppError::advised(
                format!("container '{name}' is paused, so its snapshots.hook cannot run"),
                format!("let it go on first: nagaya resume {name}"),
            )),
            _ => Ok(()),
        }
    }

    /// Has the guest get ready for it.
    ///
    /// # Errors
    /// The program has failed or takes too long, or the user has interrupted the command. What it has begun has to be
    /// taken back, by `thaw`.
    pub fn freeze(&self) -> AppResult<()> {
        let (name, program) = (&self.container.name, &self.program);
        self.run(Word::Freeze).map_err(|why| match why {
            Failure::Interrupted => AppError::Interrupted,
            Failure::Said(why) => AppError::advised(
                format!("'{program} freeze' in container '{name}' {why}"),
                format!(
                    "nothing was made of it. See what it does: nagaya exec {name} -- {program} freeze; to do without: \
                     nagaya config unset {name} snapshots.hook"
                ),
            ),
        })
    }

    /// Has the guest go on. Returns what went wrong, for whoever is told: what was made is made.
    pub fn thaw(&self) -> Option<String> {
        let why = self.run(Word::Thaw).err()?;
        let Failure::Said(why) = why else { return None };
        let (name, program) = (&self.container.name, &self.program);
        Some(format!("'{program} thaw' in container '{name}' {why}: see that it works as before"))
    }

    fn run(&self, word: Word) -> Result<(), Failure> {
        let failed = |error: AppError| Failure::Said(format!("cannot be run: {}", error_text(&error)));
        let Known { id, name, .. } = &self.container;
        let gone = || Failure::Said("cannot be run: the container's monitor has ended".to_owned());
        let connection = monitor::try_connect(&self.instance, id, name).ok_or_else(gone)?;
        let pipe = || -> AppResult<(OwnedFd, OwnedFd)> {
            let (reader, writer) = io::pipe().cannot(|| "make a pipe")?;
            Ok((reader.into(), writer.into()))
        };
        let (stdin, _) = pipe().map_err(failed)?;
        let (output, given) = pipe().map_err(failed)?;
        // The guest may read from the pipe too, so that there is nothing to read when it is our turn.
        rustix::io::ioctl_fionbio(&output, true).cannot(|| "prepare a pipe").map_err(|e| failed(e.into()))?;
        let request = Request::Exec(self.request(word, false));
        connection.send(&request, &[stdin.as_fd(), given.as_fd(), given.as_fd()]).map_err(failed)?;
        drop((stdin, given));
        let end = Instant::now() + waits::SNAPSHOT_HOOK;
        let mut said = Tail::default();
        let mut output = Some(output);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The monitor ends it when the connection closes.
                let seconds = waits::SNAPSHOT_HOOK.as_secs();
                return Err(Failure::Said(format!("has not ended within {seconds} seconds{}", said.shown())));
            }
            let mut polled = vec![PollFd::new(&connection.socket, PollFlags::IN)];
            polled.extend(output.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            match rustix::event::poll(&mut polled, Some(&timespec(left))) {
                // What was begun is always ended.
                Err(Errno::INTR) if word == Word::Freeze && interrupt::pending() => {
                    return Err(Failure::Interrupted);
                }
                Err(Errno::INTR) => continue,
                Err(e) => return Err(failed(SysError::new("wait for the guest's program", e).into())),
                Ok(_) => {}
            }
            let has_ended = !polled[0].revents().is_empty();
            if output.take_if(|fd| !said.take(fd)).is_some() && !has_ended {
                // Its output is closed, and it runs on.
                continue;
            }
            if has_ended {
                let reply = connection.receive().map_err(failed)?.map(|(reply, _)| reply);
                return ended(reply, &said);
            }
        }
    }

    fn request(&self, word: Word, detach: bool) -> ExecRequest {
        let owned = |(key, value): &(String, String)| {
            (ByteString::from(key.as_str()), ByteString::from(value.as_str()))
        };
        ExecRequest {
            argv: [self.program.as_str(), word.as_str()].map(ByteString::from).into(),
            env: self.container.environment.iter().map(owned).collect(),
            cwd: None,
            user: "root".to_owned(),
            tty: None,
            null: [true, false, false],
            detach,
        }
    }

    /// Begins `thaw`, and does not wait for it: the command at hand is about something else.
    fn begin_thaw(&self) -> AppResult<()> {
        let Known { id, name, .. } = &self.container;
        let Some(connection) = monitor::try_connect(&self.instance, id, name) else { return Ok(()) };
        connection.ask(&Request::Exec(self.request(Word::Thaw, true)), &[])
    }
}

/// Has the guest go on of which a command that was killed was making a copy.
pub fn thaw_left(app: &App, operation: &Operation, container: &Container) {
    let source: Option<Source> = serde_json::from_value(operation.params["source"].clone()).ok();
    let source = source.filter(|source| source.snapshot.is_none());
    let frozen = match (operation.kind, source) {
        (OperationKind::Copy, Some(source)) => app.store.container(&source.container).ok().flatten(),
        (OperationKind::Copy, None) => None,
        _ => Some(container.clone()),
    };
    let Some(container) = frozen else { return };
    if state::of(app, &container) == State::Running
        && let Some(hook) = Hook::of(app, &container)
    {
        hook.begin_thaw().unwrap_or_else(|e| tracing::warn!("{}", error_text(&e)));
    }
}

/// Why a program did not do what it should.
enum Failure {
    Interrupted,
    /// Continues the sentence "'PROGRAM freeze' …".
    Said(String),
}

fn ended(reply: Option<Reply>, said: &Tail) -> Result<(), Failure> {
    Err(Failure::Said(match reply {
        Some(Reply::Exited(0)) => return Ok(()),
        Some(Reply::Exited(code)) => format!("has failed with exit code {code}{}", said.shown()),
        Some(Reply::NotStarted { reason, .. } | Reply::Failed { reason, .. }) => {
            format!("cannot be run: {}", text::line(&reason))
        }
        Some(_) => "cannot be run: the container's monitor is out of step".to_owned(),
        None => "was cut off: the guest or its monitor has ended".to_owned(),
    }))
}

/// The last of what was printed.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    /// Takes what there is, up to a bound. False: there will be no more.
    fn take(&mut self, from: &OwnedFd) -> bool {
        let mut buffer = [0u8; KEPT];
        for _ in 0..16 {
            match rustix::io::read(from, &mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.push(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let more = self.0.len().saturating_sub(KEPT);
        self.0.drain(..more);
    }

    /// Its last lines, in one, which continues a sentence.
    fn shown(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let all = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = all.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(SHOWN)..];
        match last.is_empty() {
            true => String::new(),
            false => format!(": {}", text::line(&last.join(" | "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_and_do_nothing_to_a_terminal() {
        let mut tail = Tail::default();
        assert_eq!(tail.shown(), "");
        (0..9000).for_each(|n| tail.push(format!("line {n}\n").as_bytes()));
        assert!(tail.0.len() <= KEPT);
        tail.push(b"\n\x1b[2Jcleared\xff\r\n");
        let shown = tail.shown();
        assert!(shown.starts_with(": line 8996 | line 8997 | line 8998 | line 8999 | "), "{shown}");
        assert!(shown.contains("cleared") && !shown.contains(['\x1b', '\r', '\n']), "{shown:?}");
    }

    #[test]
    fn what_is_not_taken_at_once_stays() {
        let (reader, writer) = io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let mut tail = Tail::default();
        assert!(tail.take(&reader));
        rustix::io::write(&writer, b"a").unwrap();
        assert!(tail.take(&reader) && tail.shown() == ": a");
        drop(writer);
        assert!(!tail.take(&reader));
    }
}
