//! `exec` and `shell`: a program in a running container.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;

use super::lifecycle;
use super::monitor::{self, Connection, Taken};
use super::running::Known;
use crate::api::programs::Ended;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, Lazy};
use crate::model::byte_string::ByteString;
use crate::model::container::Container;
use crate::model::file_job::FileJob;
use crate::model::name::Name;
use crate::model::pattern;
use crate::model::waits;
use crate::runtime::protocol::{ExecRequest, Reply, Request};
use crate::sys::{Context, cgroup};

/// When to look whether the monitor has taken a request: soon at first, for most are taken at once.
#[derive(Debug, Default)]
pub struct Looks(u32);

impl Looks {
    const MOST_DOUBLED: u32 = 6;

    /// How long to wait for the next look.
    pub fn pause(&mut self) -> Duration {
        let pause = waits::EXEC_FIRST_POLL * (1 << self.0);
        self.0 = (self.0 + 1).min(Self::MOST_DOUBLED);
        pause
    }
}

/// A program under way.
pub struct Session {
    connection: Connection,
    terminal: Option<OwnedFd>,
    container: Known,
    request: Request,
}

/// Starts `request` in container `name`. Without a terminal the program gets `stdio` itself as its
/// standard input, output and error: ends of pipes that were made for it. They and `lazy` are to be kept
/// until the session `is_settled`. One that is to stay has neither.
///
/// # Errors If a descriptor must not be passed to a guest, or the container does not run.
pub fn exec(
    lazy: &mut Lazy,
    name: &Name,
    mut request: ExecRequest,
    stdio: Option<[BorrowedFd<'_>; 3]>,
) -> AppResult<Session> {
    let fds: &[BorrowedFd<'_>] = stdio.as_ref().map_or(&[], |fds| fds);
    if let Some(number) = fds.iter().position(|fd| !is_pipe(*fd)) {
        return Err(AppError::Refused(format!("descriptor {number} may not be handed to a guest")));
    }
    let (container, connection) = reach(lazy, name)?;
    // The container's variables first: those of this one program come in their place.
    let owned =
        |(key, value): &(String, String)| (ByteString::from(key.as_str()), ByteString::from(value.as_str()));
    request.env = container.environment.iter().map(owned).chain(request.env).collect();
    let tty = request.tty.is_some();
    let request = Request::Exec(request);
    connection.send(&request, fds)?;
    let mut session = Session { connection, terminal: None, container, request };
    if stdio.is_none() {
        session.wait_taken(lazy, fds)?;
    }
    if tty {
        session.receive_terminal()?;
    }
    Ok(session)
}

/// Starts work on the files of a container that runs. `pipes` are what is pushed, what is pulled and what is told; once
/// this returns, the monitor has them.
pub fn work_on_files(
    lazy: &mut Lazy,
    container: &Container,
    job: FileJob,
    pipes: [BorrowedFd<'_>; 3],
) -> AppResult<Session> {
    let app = lazy.app()?;
    let connection = monitor::connect(app, container)?;
    let container = Known::of(app, container);
    let request = Request::Files(job);
    connection.send(&request, &pipes)?;
    let mut session = Session { connection, terminal: None, container, request };
    session.wait_taken(lazy, &pipes)?;
    Ok(session)
}

/// The container, and a connection to its monitor. A monitor that is there is reached without the database.
fn reach(lazy: &mut Lazy, name: &Name) -> AppResult<(Known, Connection)> {
    if let Some(known) = Known::look(&lazy.instance, name)
        && let Some(connection) = monitor::try_connect(&lazy.instance, &known.id, name)
    {
        return Ok((known, connection));
    }
    let app = lazy.app()?;
    let container = lifecycle::running(app, name)?;
    let connection = monitor::connect(app, &container)?;
    Ok((Known::of(app, &container), connection))
}

/// The containers that `given` stands for: names and patterns, separated by commas. Each comes once.
///
/// # Errors
/// Where something is no name, or a pattern stands for none.
pub fn several(app: &mut App, given: &str) -> AppResult<Vec<Name>> {
    let mut names: Vec<Name> = Vec::new();
    for part in given.split(',') {
        if !pattern::is_pattern(part) {
            let name = Name::new(part).map_err(|e| AppError::Refused(e.to_string()))?;
            names.push(app.find(&name)?.name);
            continue;
        }
        let before = names.len();
        let all = app.store.containers()?.into_iter().map(|container| container.name);
        names.extend(all.filter(|name| pattern::matches(part, name.as_str())));
        if names.len() == before {
            return Err(AppError::Refused(format!("no container's name is like '{part}'")));
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// What a guest is handed is shared with it, flags, position and all: a terminal would let it type
/// on the operator's behalf, a file be written anywhere, a directory lead it into the host.
fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

impl Session {
    /// Whether the monitor has taken the request. One that was killed before it had is none: its
    /// successor is asked. To be asked again as long as it has not, and at once when `socket` is readable.
    pub fn is_settled(&mut self, lazy: &mut Lazy, stdio: [BorrowedFd<'_>; 3]) -> AppResult<bool> {
        self.is_taken(lazy, &stdio)
    }

    fn is_taken(&mut self, lazy: &mut Lazy, fds: &[BorrowedFd<'_>]) -> AppResult<bool> {
        match self.connection.taken()? {
            Taken::Yes => Ok(true),
            Taken::NotYet => Ok(false),
            Taken::Never => {
                let request = &self.request;
                let ask = |connection: &Connection| {
                    connection.send(request, fds)?;
                    Ok((connection.taken()? != Taken::Never).then_some(()))
                };
                let app = lazy.app()?;
                let gone = || AppError::NotRunning(self.container.name.clone());
                let container = app.store.container_by_id(&self.container.id)?.ok_or_else(gone)?;
                self.connection = monitor::until_heard(app, &container, ask)?.0;
                Ok(false)
            }
        }
    }

    fn wait_taken(&mut self, lazy: &mut Lazy, fds: &[BorrowedFd<'_>]) -> AppResult<()> {
        let mut looks = Looks::default();
        while !self.is_taken(lazy, fds)? {
            let mut polled = [PollFd::new(&self.connection.socket, PollFlags::IN)];
            let timeout = Timespec { tv_sec: 0, tv_nsec: looks.pause().subsec_nanos().into() };
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&timeout)))
                .cannot(|| "wait for the monitor")?;
        }
        Ok(())
    }

    fn receive_terminal(&mut self) -> AppResult<()> {
        let failed = |reason: String| AppError::Monitor { name: self.container.name.clone(), reason };
        match self.connection.receive()? {
            Some((Reply::Terminal, fds)) => {
                self.terminal = fds.into_iter().next();
                Ok(())
            }
            Some((Reply::NotStarted { reason, .. } | Reply::Failed { reason, .. }, _)) => Err(failed(reason)),
            Some(_) => Err(failed("its monitor is out of step".to_owned())),
            None => Err(self.unknown()),
        }
    }

    /// The monitor has taken the request, and has ended without an answer.
    fn unknown(&self) -> AppError {
        let name = &self.container.name;
        if !self.container.payload.as_deref().is_some_and(cgroup::populated) {
            let reason = "the guest ended before the program did".to_owned();
            return AppError::Ended { name: name.clone(), reason };
        }
        AppError::advised(
            format!(
                "the monitor of container '{name}' has ended before the program did: that may have been \
                 started, and may run on"
            ),
            format!("see what runs: nagaya exec {name} -- ps"),
        )
    }

    /// Becomes readable when `wait` need not wait.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.connection.socket.as_fd()
    }

    /// Master side of the program's terminal, when one was asked for.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// Blocks until the program has ended; until it runs, if it is to stay.
    pub fn wait(&mut self) -> AppResult<Ended> {
        match self.connection.receive()? {
            Some((Reply::Exited(code), _)) => Ok(Ended::Exited(code)),
            Some((Reply::Done, _)) => Ok(Ended::Runs),
            Some((Reply::NotStarted { code, reason }, _)) => Ok(Ended::NotStarted { code, reason }),
            Some((Reply::Failed { reason, .. }, _)) => {
                Err(AppError::Monitor { name: self.container.name.clone(), reason })
            }
            Some(_) => Err(AppError::Monitor {
                name: self.container.name.clone(),
                reason: "its monitor is out of step".to_owned(),
            }),
            None => Err(self.unknown()),
        }
    }

    /// Passes a signal on to the program.
    pub fn signal(&self, number: i32) -> AppResult<()> {
        self.connection.send(&Request::Signal(number), &[])
    }
}
