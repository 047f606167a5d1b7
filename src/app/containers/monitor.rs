//! Talking to a container's monitor; a guest that has lost its monitor gets a new one.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{plan, running, spawn, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, layout, lock};
use crate::model::container::Container;
use crate::model::instance::Instance;
use crate::model::name::{ContainerId, Name};
use crate::model::waits;
use crate::runtime::protocol::{Reply, Request};
use crate::sys::net::seqpacket;
use crate::sys::process::interrupt;
use crate::sys::{Context, SysResult};

/// A connection to a monitor.
pub struct Connection {
    pub socket: OwnedFd,
    name: Name,
    /// It had ended when something was sent.
    was_deaf: Cell<bool>,
}

impl Connection {
    fn new(socket: OwnedFd, name: &Name) -> Self {
        Self { socket, name: name.clone(), was_deaf: Cell::default() }
    }
}

/// What happened to a request that must not be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The monitor has read it; or has ended, when `receive` tells that.
    Yes,
    NotYet,
    /// The monitor has ended and has not read it: its successor may be asked.
    Never,
}

/// Connects to the monitor of a running container; one that has lost its monitor gets a new one.
pub fn connect(app: &mut App, container: &Container) -> AppResult<Connection> {
    match dial(&app.instance, &container.id) {
        Ok(socket) => return Ok(Connection::new(socket, &container.name)),
        // It is there, and full of clients.
        Err(e) if e.errno() == Some(libc::EAGAIN) => {
            let reason = "its monitor takes no connections".to_owned();
            return Err(AppError::Monitor { name: container.name.clone(), reason });
        }
        Err(_) => {}
    }
    if !state::guest_lives(app, &container.id) {
        return Err(AppError::NotRunning(container.name.clone()));
    }
    let held = lock::container(&app.instance, &container.id, &container.name)?;
    // Another command may have been quicker.
    if dial(&app.instance, &container.id).is_err() {
        adopt(app, container)?;
    }
    drop(held);
    let socket = dial(&app.instance, &container.id)?;
    Ok(Connection::new(socket, &container.name))
}

/// Connects to the monitor of a container, if it has one that takes connections.
pub fn try_connect(instance: &Instance, id: &ContainerId, name: &Name) -> Option<Connection> {
    dial(instance, id).ok().map(|socket| Connection::new(socket, name))
}

/// Asks for something that is answered at once, and that may be asked for twice.
pub fn ask(
    app: &mut App,
    container: &Container,
    request: &Request,
    fds: &[BorrowedFd<'_>],
) -> AppResult<Connection> {
    let asked = until_heard(app, container, |connection| match connection.ask(request, fds) {
        Err(AppError::NotRunning(_)) => Ok(None),
        other => other.map(Some),
    });
    asked.map(|(connection, ())| connection)
}

/// Has `ask` done with a connection to the container's monitor, and with one to its successor where it
/// is killed before it has answered: then `ask` returns none.
pub fn until_heard<T>(
    app: &mut App,
    container: &Container,
    mut ask: impl FnMut(&Connection) -> AppResult<Option<T>>,
) -> AppResult<(Connection, T)> {
    let mut gone_since = None;
    loop {
        let begun = Instant::now();
        let connection = connect(app, container)?;
        if let Some(answer) = ask(&connection)? {
            return Ok((connection, answer));
        }
        if !state::guest_lives(app, &container.id) {
            return Err(AppError::NotRunning(container.name.clone()));
        }
        // A monitor that has lived long is not one of several that die one after the other.
        let since =
            gone_since.filter(|_| begun.elapsed() < waits::MONITOR_SUCCESSOR).unwrap_or_else(Instant::now);
        gone_since = Some(since);
        if since.elapsed() >= waits::MONITOR_SUCCESSOR {
            let reason = "its monitors end before they answer".to_owned();
            return Err(AppError::Monitor { name: container.name.clone(), reason });
        }
        // The next look may find the same dying monitor again.
        std::thread::sleep(waits::MONITOR_POLL);
    }
}

/// Whether the request is one that the monitor, of an earlier version, does not know. Those give no code for that, only
/// the words of serde.
pub fn is_unknown(error: &AppError) -> bool {
    matches!(error, AppError::Monitor { reason, .. } if reason.contains("unknown variant"))
}

fn dial(instance: &Instance, id: &ContainerId) -> SysResult<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let path = layout::control_socket(instance, id);
    let what = || format!("reach the monitor at {}", path.display());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .cannot(what)?;
    let address = SocketAddrUnix::new(&path).cannot(what)?;
    // Without a timeout, a full queue would be waited for without end.
    let send = rustix::net::sockopt::Timeout::Send;
    rustix::net::sockopt::set_socket_timeout(&socket, send, Some(waits::MONITOR_ANSWER)).cannot(what)?;
    rustix::net::connect(&socket, &address).cannot(what)?;
    Ok(socket)
}

impl Connection {
    /// A monitor that has ended meanwhile is no error here: what is received next tells its end.
    pub fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> AppResult<()> {
        match seqpacket::send(&self.socket, request, fds) {
            Err(e) if matches!(e.errno(), Some(libc::EPIPE | libc::ECONNRESET)) => {
                self.was_deaf.set(true);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// What has become of the one request that was sent.
    pub fn taken(&self) -> AppResult<Taken> {
        // In this order: once the other end is reset, what it had not read is gone.
        let is_read = seqpacket::is_read(&self.socket)?;
        Ok(match self.was_deaf.get() || seqpacket::is_reset(&self.socket) {
            true => Taken::Never,
            false if is_read => Taken::Yes,
            false => Taken::NotYet,
        })
    }

    /// The next reply; none when the monitor has gone.
    pub fn receive(&self) -> AppResult<Option<(Reply, Vec<OwnedFd>)>> {
        Ok(seqpacket::recv(&self.socket)?)
    }

    /// The same within `timeout`; `Ok(Err(()))` when that is over.
    pub fn receive_within(&self, timeout: Duration) -> AppResult<Result<Option<Reply>, ()>> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(Err(())),
                Ok(_) => return Ok(Ok(self.receive()?.map(|(reply, _)| reply))),
                Err(rustix::io::Errno::INTR) if interrupt::pending() => return Err(AppError::Interrupted),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(crate::sys::SysError::new("wait for the monitor", e).into()),
            }
        }
    }

    /// Asks for something that is answered at once.
    pub fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> AppResult<()> {
        self.ask_within(waits::MONITOR_ANSWER, request, fds)
    }

    pub fn ask_within(&self, timeout: Duration, request: &Request, fds: &[BorrowedFd<'_>]) -> AppResult<()> {
        match self.outcome_within(timeout, request, fds)? {
            None => Ok(()),
            Some(reason) => Err(AppError::Monitor { name: self.name.clone(), reason }),
        }
    }

    /// The same for a request that may still succeed after it has failed at first: then it returns why it
    /// has failed.
    pub fn ask_or_try(&self, request: &Request) -> AppResult<Option<String>> {
        self.outcome_within(waits::MONITOR_ANSWER, request, &[])
    }

    /// None once it is done; the reason if it has failed but is still being tried.
    fn outcome_within(
        &self,
        timeout: Duration,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> AppResult<Option<String>> {
        self.send(request, fds)?;
        let failed = |reason: String| AppError::Monitor { name: self.name.clone(), reason };
        match self.receive_within(timeout)? {
            Ok(Some(Reply::Done)) => Ok(None),
            Ok(Some(Reply::Failed { reason, still_tried: true })) => Ok(Some(reason)),
            Ok(Some(Reply::Failed { reason, .. })) => Err(failed(reason)),
            Ok(Some(_)) => Err(failed("its monitor is out of step".to_owned())),
            Ok(None) => Err(AppError::NotRunning(self.name.clone())),
            Err(()) => Err(failed(format!("its monitor has not answered within {} s", timeout.as_secs()))),
        }
    }
}

/// Gives a guest whose monitor was killed a new one. The caller holds the container's lock.
fn adopt(app: &mut App, container: &Container) -> AppResult<()> {
    let init =
        state::find_init(app, &container.id).ok_or_else(|| AppError::NotRunning(container.name.clone()))?;
    tracing::info!("the monitor of '{}' is gone; taking over process {init}", container.name);
    let plan = plan::plan(app, container, Some(init))?;
    spawn::spawn(app, &plan).map(drop)
}

/// Removes what a monitor had in the run directory.
pub fn forget(app: &App, container: &Container) {
    running::forget(&app.instance, &container.name);
    let _ = std::fs::remove_dir_all(layout::monitor_dir(&app.instance, &container.id));
}
