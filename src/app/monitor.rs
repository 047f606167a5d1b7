//! Talking to a container's monitor, and giving it one.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::attached::Attached;
use super::context::App;
use super::error::{AppError, AppResult};
use super::{guest_config, layout, limits, lock, network, pool, state};
use crate::host::interface::SpawnOrder;
use crate::model::container::Container;
use crate::model::limits::Limits;
use crate::model::name::Name;
use crate::runtime::protocol::{Reply, Request};
use crate::sys::{Context, SysResult, interrupt, seqpacket};

/// How long a monitor may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it is tried to find a monitor that takes a request. Each that is killed has a successor.
const SUCCESSION: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(5);

/// A connection to a monitor.
pub struct Connection {
    pub socket: OwnedFd,
    name: Name,
    /// It had ended when something was sent.
    was_deaf: Cell<bool>,
}

impl Connection {
    fn new(socket: OwnedFd, container: &Container) -> Self {
        Self { socket, name: container.name.clone(), was_deaf: Cell::default() }
    }
}

/// What became of a request that is not to be done twice.
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
    match dial(app, container) {
        Ok(socket) => return Ok(Connection::new(socket, container)),
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
    if dial(app, container).is_err() {
        adopt(app, container)?;
    }
    drop(held);
    let socket = dial(app, container)?;
    Ok(Connection::new(socket, container))
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
        // One that has lived for long is not one of many that die at once.
        let since = gone_since.filter(|_| begun.elapsed() < SUCCESSION).unwrap_or_else(Instant::now);
        gone_since = Some(since);
        if since.elapsed() >= SUCCESSION {
            let reason = "its monitors end before they answer".to_owned();
            return Err(AppError::Monitor { name: container.name.clone(), reason });
        }
        // What is dying may be found once more.
        std::thread::sleep(GLANCE);
    }
}

fn dial(app: &App, container: &Container) -> SysResult<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let path = layout::control_socket(&app.instance, &container.id);
    let what = || format!("reach the monitor at {}", path.display());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .cannot(what)?;
    let address = SocketAddrUnix::new(&path).cannot(what)?;
    // Without it, a queue that is full is waited for without end.
    let send = rustix::net::sockopt::Timeout::Send;
    rustix::net::sockopt::set_socket_timeout(&socket, send, Some(PATIENCE)).cannot(what)?;
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
        // In this order: what was not read is gone once the other end is reset.
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

    /// The same within `patience`; `Ok(Err(()))` when that is over.
    pub fn receive_within(&self, patience: Duration) -> AppResult<Result<Option<Reply>, ()>> {
        let end = Instant::now() + patience;
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
        self.ask_within(PATIENCE, request, fds)
    }

    pub fn ask_within(&self, patience: Duration, request: &Request, fds: &[BorrowedFd<'_>]) -> AppResult<()> {
        match self.outcome_within(patience, request, fds)? {
            None => Ok(()),
            Some(reason) => Err(AppError::Monitor { name: self.name.clone(), reason }),
        }
    }

    /// The same for something that may come about though it has failed at first: why it has then.
    pub fn ask_or_try(&self, request: &Request) -> AppResult<Option<String>> {
        self.outcome_within(PATIENCE, request, &[])
    }

    /// None when it is done; why it has failed, where it is still tried.
    fn outcome_within(
        &self,
        patience: Duration,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> AppResult<Option<String>> {
        self.send(request, fds)?;
        let failed = |reason: String| AppError::Monitor { name: self.name.clone(), reason };
        match self.receive_within(patience)? {
            Ok(Some(Reply::Done)) => Ok(None),
            Ok(Some(Reply::Failed { reason, still_tried: true })) => Ok(Some(reason)),
            Ok(Some(Reply::Failed { reason, .. })) => Err(failed(reason)),
            Ok(Some(_)) => Err(failed("its monitor is out of step".to_owned())),
            Ok(None) => Err(AppError::NotRunning(self.name.clone())),
            Err(()) => Err(failed(format!("its monitor has not answered within {} s", patience.as_secs()))),
        }
    }
}

/// What a monitor is given by its owner, open.
struct Files {
    config: OwnedFd,
    control: OwnedFd,
    state: OwnedFd,
    logs: [OwnedFd; 2],
    template: OwnedFd,
    data: OwnedFd,
}

fn open_files(app: &mut App, container: &Container, limits: &Limits, init: Option<i32>) -> AppResult<Files> {
    let template = app
        .store
        .template(&container.template)?
        .ok_or_else(|| crate::store::StoreError::TemplateGone { id: container.template.clone() })?;
    let networks = network::of(app, container)?;
    let resolvers = guest_config::resolvers(&app.instance, &networks);
    if let Some(note) = guest_config::lack_of_resolvers(&container.name, &container.nics, &resolvers)
        && init.is_none()
    {
        (app.tell)(&note);
    }
    let config =
        guest_config::build(container, &template.facts, &limits.rlimits, init, &networks, resolvers)?
            .seal()?;
    let dir = layout::monitor_dir(&app.instance, &container.id);
    std::fs::create_dir_all(&dir).cannot(|| format!("make {}", dir.display()))?;
    let control = listen(&layout::control_socket(&app.instance, &container.id))?;
    // A new record, not the old one's file: a monitor that still has that open must not write here.
    let record = layout::state_record(&app.instance, &container.id);
    let _ = std::fs::remove_file(&record);
    let open = |path: &std::path::Path| -> SysResult<OwnedFd> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(path).map(OwnedFd::from).cannot(|| format!("open {}", path.display()))
    };
    let [log, other_log] = layout::console_logs(&app.instance, &container.id);
    let (tree, data) = (layout::template_in_pool(&container.template), layout::data_in_pool(&container.id));
    let pool = app.pool()?;
    let in_pool = |path: &str| pool::open(pool, path).cannot(|| format!("open {path} in the pool"));
    Ok(Files {
        config,
        control,
        state: open(&record)?,
        logs: [open(&log)?, open(&other_log)?],
        template: in_pool(&tree)?,
        data: in_pool(&data)?,
    })
}

fn listen(path: &std::path::Path) -> SysResult<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let what = || format!("listen at {}", path.display());
    let _ = std::fs::remove_file(path);
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .cannot(what)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).cannot(what)?).cannot(what)?;
    rustix::net::listen(&socket, 128).cannot(what)?;
    Ok(socket)
}

/// Has the broker start a monitor. The caller holds the container's lock. Returns the process
/// number of the guest's init.
pub fn spawn(app: &mut App, container: &Container, adopt: Option<i32>) -> AppResult<i32> {
    let name = &container.name;
    let failed = |e: crate::host::broker::BrokerError| match e {
        crate::host::broker::BrokerError::Failed(reason) => AppError::Start { name: name.clone(), reason },
        other => other.into(),
    };
    let networks = network::of(app, container)?;
    if adopt.is_none() {
        network::ensure(app, &networks)?;
        network::answer_for(app, &networks);
    }
    let limits = match limits::granted(app, name, &container.config, &container.id) {
        // Those that hold are kept.
        Err(_) if adopt.is_some() => Limits::default(),
        other => other?,
    };
    let files = open_files(app, container, &limits, adopt)?;
    if adopt.is_none() {
        Attached::of(container, &networks).write(&app.instance, &container.id)?;
    }
    let order = SpawnOrder {
        container: container.id.to_string(),
        name: name.to_string(),
        slice: container.slice.base(),
        nics: String::new(),
        adopt: adopt.unwrap_or(0),
        limits,
    };
    let fds = [
        files.template.as_fd(),
        files.data.as_fd(),
        files.config.as_fd(),
        files.control.as_fd(),
        files.state.as_fd(),
        files.logs[0].as_fd(),
        files.logs[1].as_fd(),
    ];
    let (_monitor, init) =
        app.broker.spawn(order, &network::orders(container, &networks), &fds).map_err(failed)?;
    Ok(init)
}

/// Gives a guest whose monitor was killed a new one. The caller holds the container's lock.
fn adopt(app: &mut App, container: &Container) -> AppResult<()> {
    let init =
        state::find_init(app, &container.id).ok_or_else(|| AppError::NotRunning(container.name.clone()))?;
    tracing::info!("the monitor of '{}' is gone; taking over process {init}", container.name);
    spawn(app, container, Some(init)).map(drop)
}

/// Removes what a monitor had in the run directory.
pub fn forget(app: &App, container: &Container) {
    let _ = std::fs::remove_dir_all(layout::monitor_dir(&app.instance, &container.id));
}
