//! `start`, `stop`, `restart`, `pause`, `resume`, and waiting for a container to be up.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::monitor::{self, Connection};
use super::plan::{self, StartPlan};
use super::{machine, running, spawn, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::{daemonless, lock};
use crate::app::network;
use crate::app::storage::quota;
use crate::model::container::{Container, Phase, State};
use crate::model::name::Name;
use crate::model::waits;
use crate::runtime::protocol::{Ended, Reply, Request};
use crate::sys::process;
use crate::sys::process::interrupt;

/// How to stop.
#[derive(Clone, Copy)]
pub struct StopOptions {
    /// For a clean shutdown.
    pub timeout: Duration,
    /// Ends the guest without a clean shutdown.
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
pub fn start_as_it_is(app: &mut App, name: &Name) -> AppResult<()> {
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
    booted?;
    running::keep(app, &container);
    Ok(())
}

/// Boots a container that is recorded as being started. On failure nothing of it runs.
pub fn boot(app: &mut App, container: &Container) -> AppResult<()> {
    if state::has_traces(app, container) {
        clear(app, container)?;
    }
    let plan = plan::plan(app, container, None)?;
    plan.notes.iter().for_each(|note| (app.tell)(note));
    let room = quota::make_room(app, container);
    let spawned = claim(app, &plan).and_then(|()| spawn::spawn(app, &plan));
    quota::take_room_back(app, container, room);
    let booted = spawned.and_then(|init| watch(app, container, init));
    match &booted {
        Ok(()) => machine::register(app, container),
        Err(_) if state::has_traces(app, container) => clear(app, container)?,
        Err(_) => {}
    }
    booted
}

/// Makes sure of what the start needs of the host: cgroups, networks, and who answers guests there.
fn claim(app: &mut App, plan: &StartPlan) -> AppResult<()> {
    daemonless::prepare_start(app)?;
    network::ensure(app, &plan.networks)?;
    network::answer_for(app, &plan.networks);
    Ok(())
}

/// Watches whether init ends as soon as it has begun. An init that sleeps, or has used more processor time
/// than a program that only fails would, is alive.
fn watch(app: &mut App, container: &Container, init: i32) -> AppResult<()> {
    let gone = |ended: Option<Ended>| {
        let reason =
            ended.map_or_else(|| "its init ended at once".to_owned(), |e| format!("{} at once", e.reason));
        AppError::Start { name: container.name.clone(), reason, lack: None }
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
        match connection.receive_within(waits::INIT_POLL)? {
            Ok(Some(Reply::Stopped(ended))) => return Err(gone(Some(ended))),
            Ok(_) => return Err(gone(state::record(app, &container.id).and_then(|r| r.ended))),
            Err(()) => {}
        }
        let worked = process::cpu_time(init)
            .is_some_and(|now| now.saturating_sub(cpu_before) > waits::INIT_FAILURE_CPU);
        if worked || process::sleeps(init) || begun.elapsed() > waits::BOOT_GRACE {
            return Ok(());
        }
    }
}

/// Ends and removes whatever the kernel has of the container. The record of why its guest ended stays until
/// the next start.
pub fn clear(app: &mut App, container: &Container) -> AppResult<()> {
    let left = app.broker.clear(container.id.as_str())?;
    told(container, left)
}

/// What could not be removed is an error.
fn told(container: &Container, left: Vec<String>) -> AppResult<()> {
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
        // Its monitor answers for a while yet.
        running::forget(&app.instance, name);
        if monitor_that_kills(app, &container).is_some() {
            let _lock = lock::container(&app.instance, &container.id, &container.name)?;
            return told(&container, app.broker.clear_killed(container.id.as_str())?);
        }
        clear(app, &container)?;
    } else {
        shut_down(app, &container, options)?;
    }
    clear_ended(app, &container, options.force)
}

/// Removes what is left of a guest that has ended; with `force`, also a guest that runs.
pub fn clear_ended(app: &mut App, container: &Container, force: bool) -> AppResult<()> {
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
        // The program that the monitor runs now may fail to reach init; it then tries other ways.
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

/// None if the monitor has ended without reporting the guest's end.
fn wait_stopped(connection: &Connection, timeout: Duration, container: &Container) -> AppResult<Option<()>> {
    connection.send(&Request::WaitStopped, &[])?;
    match connection.receive_within(timeout)? {
        Ok(reply) => Ok(reply.map(drop)),
        Err(()) => Err(AppError::StopTimeout { name: container.name.clone(), seconds: timeout.as_secs() }),
    }
}

/// Has the monitor kill its guest. It then records why the guest ended, and ends too. None if it does not answer.
fn monitor_that_kills(app: &mut App, container: &Container) -> Option<Connection> {
    state::monitor_pid(app, &container.id)?;
    let connection = monitor::connect(app, container).ok()?;
    connection.ask_within(waits::MONITOR_KILL, &Request::Kill, &[]).ok()?;
    Some(connection)
}

/// Has the monitor kill its guest and waits for its end; where it does not answer, the broker does that.
pub fn kill(app: &mut App, container: &Container) -> AppResult<()> {
    let has_ended = |connection| matches!(wait_stopped(&connection, waits::KILL, container), Ok(Some(())));
    if monitor_that_kills(app, container).is_some_and(has_ended) { Ok(()) } else { clear(app, container) }
}

/// The same, but a stopped container stays as it is. Returns whether it was restarted.
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
pub fn running(app: &App, name: &Name) -> AppResult<Container> {
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

/// An address answers if a connection to its discard port is refused, because then a machine refused it. A
/// guest whose firewall drops such packets still answers ARP.
fn wait_network(app: &App, container: &Container, end: Instant, timeout: Duration) -> AppResult<()> {
    const PORT: u16 = 9;
    let address = SocketAddr::from((address_of(container)?, PORT));
    let probe = || loop {
        match TcpStream::connect_timeout(&address, waits::PORT_TRY) {
            Ok(_) => return Answer::There,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => return Answer::There,
            Err(_) if interrupt::pending() => return Answer::Interrupted,
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut && is_neighbour(address.ip()) => {
                return Answer::There;
            }
            Err(_) if !state::guest_lives(app, &container.id) => return Answer::Ended,
            Err(_) if Instant::now() >= end => return Answer::Late,
            Err(_) => std::thread::sleep(waits::PORT_POLL),
        }
    };
    match daemonless::in_network(app, probe)? {
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
