//! `start`, `stop`, `restart`, `pause`, `resume`, and waiting for a container to be up.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::context::App;
use super::error::{AppError, AppResult};
use super::monitor::{self, Connection};
use super::{lock, machine, private_way, state};
use crate::model::container::{Container, Phase, State};
use crate::model::name::Name;
use crate::runtime::protocol::{Ended, Reply, Request};
use crate::sys::{interrupt, process};

/// How long an init is watched for an end at once, and how often it is looked at.
const FIRST_LIGHT: Duration = Duration::from_millis(250);
const GLANCE: Duration = Duration::from_micros(400);
/// Processor time within which a program that cannot be an init has failed.
const FAILING_TAKES: Duration = Duration::from_millis(3);
/// How long a monitor may take to kill its guest, before that is done without it.
const MONITOR_PATIENCE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a container that is killed.
const KILL_PATIENCE: Duration = Duration::from_secs(20);

/// How to stop.
#[derive(Clone, Copy)]
pub struct StopOptions {
    /// For a clean shutdown.
    pub timeout: Duration,
    /// Without one.
    pub force: bool,
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The guest's init says that it is up.
    Running,
    /// That, and the guest's address answers.
    Network,
}

/// Starts a container because the operator wants it up.
pub fn start(app: &mut App, name: &Name) -> AppResult<()> {
    start_wanted(app, name, true)
}

/// Starts a container without taking that for the operator's wish.
pub(super) fn start_as_it_is(app: &mut App, name: &Name) -> AppResult<()> {
    start_wanted(app, name, false)
}

fn start_wanted(app: &mut App, name: &Name, wish: bool) -> AppResult<()> {
    let (container, _lock) = lock::found(app, name)?;
    match state::of(app, &container) {
        State::Stopped => {}
        State::Frozen => return Err(AppError::Frozen(name.clone())),
        State::Unknown => return Err(AppError::Unknown(name.clone())),
        State::Running | State::Busy => return Err(AppError::AlreadyRunning(name.clone())),
    }
    app.store.set_phase(&container.id, Phase::Starting, wish.then_some(true))?;
    let booted = boot(app, &container);
    let wanted = booted.is_ok();
    app.store.set_phase(&container.id, Phase::Settled, wish.then_some(wanted))?;
    booted
}

/// Boots a container that is recorded as being started. On failure nothing of it runs.
pub(super) fn boot(app: &mut App, container: &Container) -> AppResult<()> {
    if state::has_traces(app, container) {
        clear(app, container)?;
    }
    private_way::prepare_start(app)?;
    let booted = monitor::spawn(app, container, None).and_then(|init| first_light(app, container, init));
    match &booted {
        Ok(()) => machine::register(app, container),
        Err(_) if state::has_traces(app, container) => clear(app, container)?,
        Err(_) => {}
    }
    booted
}

/// Sees whether init ends as soon as it has begun. It has come alive when it sleeps, or has worked
/// for longer than a program that only fails would.
fn first_light(app: &mut App, container: &Container, init: i32) -> AppResult<()> {
    let gone = |ended: Option<Ended>| {
        let reason =
            ended.map_or_else(|| "its init ended at once".to_owned(), |e| format!("{} at once", e.reason));
        AppError::Start { name: container.name.clone(), reason }
    };
    let connection = match monitor::connect(app, container) {
        Ok(connection) => connection,
        Err(AppError::NotRunning(_)) => {
            return Err(gone(state::record(app, &container.id).and_then(|r| r.ended)));
        }
        Err(e) => return Err(e),
    };
    connection.send(&Request::WaitStopped, &[])?;
    let begun = Instant::now();
    let cpu_before = process::cpu_time(init).unwrap_or_default();
    loop {
        match connection.receive_within(GLANCE)? {
            Ok(Some(Reply::Stopped(ended))) => return Err(gone(Some(ended))),
            Ok(_) => return Err(gone(state::record(app, &container.id).and_then(|r| r.ended))),
            Err(()) => {}
        }
        let worked =
            process::cpu_time(init).is_some_and(|now| now.saturating_sub(cpu_before) > FAILING_TAKES);
        if worked || process::sleeps(init) || begun.elapsed() > FIRST_LIGHT {
            return Ok(());
        }
    }
}

/// Ends and removes whatever the kernel has of the container. Why its guest ended stays on record
/// until the next start.
pub(super) fn clear(app: &mut App, container: &Container) -> AppResult<()> {
    let left = app.broker.clear(container.id.as_str())?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(AppError::Left { name: container.name.clone(), left: left.join("; ") })
    }
}

/// Stops a container. The lock is not held while the guest shuts down, so that a forced stop need
/// not wait for a patient one.
pub fn stop(app: &mut App, name: &Name, options: StopOptions) -> AppResult<()> {
    let container = app.find(name)?;
    match state::of(app, &container) {
        State::Stopped => return Err(AppError::NotRunning(name.clone())),
        State::Unknown => return Err(AppError::Unknown(name.clone())),
        State::Running | State::Frozen | State::Busy => {}
    }
    interrupt::arm();
    app.store.set_wanted_up(&container.id, false)?;
    if options.force {
        kill(app, &container)?;
    } else {
        shut_down(app, &container, options)?;
    }
    clear_ended(app, &container, options.force)
}

/// Takes away what is left of a guest that has ended; with `force`, whatever there is.
pub(super) fn clear_ended(app: &mut App, container: &Container, force: bool) -> AppResult<()> {
    let _lock = lock::container(&app.instance, &container.id, &container.name)?;
    // Somebody may have started it again before we had the lock.
    if state::guest_lives(app, &container.id) && !force {
        return Ok(());
    }
    clear(app, container)
}

fn shut_down(app: &mut App, container: &Container, options: StopOptions) -> AppResult<()> {
    let (end, tell) = (Instant::now() + options.timeout, app.tell);
    let stopped = monitor::until_heard(app, container, |connection| {
        // What it runs now may fail to reach its init; other ways are tried then.
        match connection.ask_or_try(&Request::Shutdown) {
            Ok(Some(trouble)) => tell(&format!("{}: {trouble}", container.name)),
            Ok(None) => {}
            Err(AppError::NotRunning(_)) => return Ok(None),
            Err(e) => return Err(e),
        }
        wait_stopped(connection, end.saturating_duration_since(Instant::now()), container)
    });
    stopped
        .map(drop)
        .or_else(|e| match e {
            AppError::NotRunning(_) => Ok(()),
            AppError::StopTimeout { name, .. } => {
                Err(AppError::StopTimeout { name, seconds: options.timeout.as_secs() })
            }
            other => Err(other),
        })
        .map_err(|e| match e {
            AppError::Interrupted => {
                AppError::StopInterrupted { name: container.name.clone(), restart: false }
            }
            other => other,
        })
}

/// None where the monitor has ended without a word of its guest.
fn wait_stopped(connection: &Connection, timeout: Duration, container: &Container) -> AppResult<Option<()>> {
    connection.send(&Request::WaitStopped, &[])?;
    match connection.receive_within(timeout)? {
        Ok(reply) => Ok(reply.map(drop)),
        Err(()) => Err(AppError::StopTimeout { name: container.name.clone(), seconds: timeout.as_secs() }),
    }
}

/// Through the monitor where it answers, so that it can say why its guest ended; the broker clears
/// away what is left in any case.
pub(super) fn kill(app: &mut App, container: &Container) -> AppResult<()> {
    if state::monitor_pid(app, &container.id).is_some()
        && let Ok(connection) = monitor::connect(app, container)
    {
        let asked = connection.ask_within(MONITOR_PATIENCE, &Request::Kill, &[]);
        if asked
            .and_then(|()| wait_stopped(&connection, KILL_PATIENCE, container))
            .is_ok_and(|end| end.is_some())
        {
            return Ok(());
        }
    }
    clear(app, container)
}

/// The same, but a container that does not run stays as it is. Whether it was restarted.
pub fn restart_running(app: &mut App, name: &Name, options: StopOptions) -> AppResult<bool> {
    let container = app.find(name)?;
    if state::of(app, &container) == State::Stopped {
        return Ok(false);
    }
    restart(app, name, options).map(|()| true)
}

pub fn restart(app: &mut App, name: &Name, options: StopOptions) -> AppResult<()> {
    match stop(app, name, options) {
        Ok(()) | Err(AppError::NotRunning(_)) => start(app, name),
        Err(AppError::StopInterrupted { name, .. }) => Err(AppError::StopInterrupted { name, restart: true }),
        Err(e) => Err(e),
    }
}

pub fn pause(app: &mut App, name: &Name) -> AppResult<()> {
    let container = running(app, name)?;
    monitor::ask(app, &container, &Request::Freeze, &[]).map(drop)
}

pub fn resume(app: &mut App, name: &Name) -> AppResult<()> {
    let container = app.find(name)?;
    match state::of(app, &container) {
        State::Frozen => monitor::ask(app, &container, &Request::Thaw, &[]).map(drop),
        State::Running => Err(AppError::NotFrozen(name.clone())),
        State::Unknown => Err(AppError::Unknown(name.clone())),
        State::Stopped | State::Busy => Err(AppError::NotRunning(name.clone())),
    }
}

/// The container of that name, if it runs and is not paused.
pub(super) fn running(app: &App, name: &Name) -> AppResult<Container> {
    let container = app.find(name)?;
    match state::of(app, &container) {
        State::Running => Ok(container),
        State::Frozen => Err(AppError::Frozen(name.clone())),
        State::Unknown => Err(AppError::Unknown(name.clone())),
        State::Stopped | State::Busy => Err(AppError::NotRunning(name.clone())),
    }
}

/// Waits until `what` holds of a container that runs, at most for `timeout`. A guest whose network
/// answers has booted as well: before that its init may still clear away what it is given.
pub fn wait(app: &mut App, name: &Name, what: WaitFor, timeout: Duration) -> AppResult<()> {
    interrupt::arm();
    let container = app.find(name)?;
    if what == WaitFor::Network {
        address_of(&container)?;
    }
    let end = Instant::now() + timeout;
    let late = || AppError::WaitTimeout { name: name.clone(), seconds: timeout.as_secs() };
    let mut was_there = false;
    let up = monitor::until_heard(app, &container, |connection| {
        was_there = true;
        connection.send(&Request::WaitReady, &[])?;
        let left = end.saturating_duration_since(Instant::now());
        let reply = connection.receive_within(left)?.map_err(|()| late())?;
        Ok(reply.map(|reply| reply == Reply::Done))
    });
    match up {
        Ok((_, true)) => {}
        Ok((_, false)) => return Err(ended(app, &container)),
        Err(AppError::NotRunning(_)) if was_there => return Err(ended(app, &container)),
        Err(e) => return Err(e),
    }
    match what {
        WaitFor::Running => Ok(()),
        WaitFor::Network => wait_network(app, &container, end, timeout),
    }
}

fn address_of(container: &Container) -> AppResult<std::net::IpAddr> {
    container.address().ok_or_else(|| {
        AppError::Refused(format!("container '{}' has no address that is known here", container.name))
    })
}

fn ended(app: &App, container: &Container) -> AppError {
    let reason = state::record(app, &container.id)
        .and_then(|r| r.ended)
        .map_or_else(|| "its monitor is gone".to_owned(), |e| e.reason);
    AppError::Ended { name: container.name.clone(), reason }
}

/// An address answers when a connection to its discard port is refused: by a machine, not by
/// silence. A guest whose firewall is silent still answers who asks for its Ethernet address.
fn wait_network(app: &App, container: &Container, end: Instant, timeout: Duration) -> AppResult<()> {
    const PORT: u16 = 9;
    const TRY: Duration = Duration::from_millis(250);
    let address = SocketAddr::from((address_of(container)?, PORT));
    let probe = || loop {
        match TcpStream::connect_timeout(&address, TRY) {
            Ok(_) => return Answer::There,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => return Answer::There,
            Err(_) if interrupt::pending() => return Answer::Interrupted,
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut && is_neighbour(address.ip()) => {
                return Answer::There;
            }
            Err(_) if !state::guest_lives(app, &container.id) => return Answer::Ended,
            Err(_) if Instant::now() >= end => return Answer::Late,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    match private_way::in_network(app, probe)? {
        Answer::There => Ok(()),
        Answer::Interrupted => Err(AppError::Interrupted),
        Answer::Ended => Err(ended(app, container)),
        Answer::Late => {
            Err(AppError::WaitTimeout { name: container.name.clone(), seconds: timeout.as_secs() })
        }
    }
}

/// Whether the kernel has learned the Ethernet address of an IPv4 neighbour (`ATF_COM` of
/// linux/if_arp.h in the third column of /proc/net/arp).
fn is_neighbour(address: std::net::IpAddr) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/arp").unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.next() == Some(&address.to_string());
        let flags =
            words.nth(1).and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
        is_it && flags.is_some_and(|flags| flags & 2 != 0)
    })
}

/// How a guest's address was found.
#[derive(serde::Serialize, serde::Deserialize)]
enum Answer {
    There,
    Interrupted,
    Ended,
    Late,
}
