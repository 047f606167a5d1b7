//! `autostop`: every running container shuts down, because the host does.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::app::config::boot::boot_settings;
use crate::app::containers::monitor;
use crate::app::containers::monitor::Connection;
use crate::app::containers::{lifecycle, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::container::{Container, Phase, State};
use crate::model::name::Name;
use crate::runtime::protocol::{Reply, Request};
use crate::sys::{Context, error_text};

/// A guest that was asked to shut down.
struct Asked {
    container: Container,
    connection: Connection,
    deadline: Instant,
}

/// Shuts all containers down: those of one stop priority at once, higher priorities first. A guest that
/// takes too long is ended by force. The containers' desired states stay as they are. Returns the
/// containers that could not be stopped.
pub fn stop_all(app: &mut App) -> AppResult<Vec<(Name, AppError)>> {
    let containers = app.store.containers()?.into_iter();
    let mut running: Vec<(i64, Container)> = containers
        // A container that is being made or deleted belongs to another command, which finishes or is
        // undone.
        .filter(|c| !matches!(c.phase, Phase::Creating | Phase::Deleting))
        .filter(|c| state::of(app, c) != State::Stopped)
        .map(|c| (boot_settings(&c).stop_priority, c))
        .collect();
    running.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let mut failed = Vec::new();
    for group in running.chunk_by(|(a, _), (b, _)| a == b) {
        stop_group(app, group.iter().map(|(_, c)| c), &mut failed)?;
    }
    Ok(failed)
}

fn stop_group<'a>(
    app: &mut App,
    group: impl Iterator<Item = &'a Container>,
    failed: &mut Vec<(Name, AppError)>,
) -> AppResult<()> {
    let mut asked = Vec::new();
    for container in group {
        match ask(app, container) {
            Ok(one) => asked.push(one),
            Err(e) => {
                (app.tell)(&format!("{} cannot be asked to shut down: {}", container.name, error_text(&e)));
                settle(app, container, true, failed);
            }
        }
    }
    while let Some(deadline) = asked.iter().map(|a| a.deadline).min() {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let mut over = wait(&asked, timeout, app.tell)?.into_iter();
        let now = Instant::now();
        let done: Vec<_> =
            asked.extract_if(.., |a| over.next().unwrap_or(false) || a.deadline <= now).collect();
        for Asked { container, .. } in done {
            let force = state::guest_lives(app, &container.id);
            settle(app, &container, force, failed);
        }
    }
    Ok(())
}

fn ask(app: &mut App, container: &Container) -> AppResult<Asked> {
    let connection = monitor::connect(app, container)?;
    connection.send(&Request::Shutdown, &[])?;
    connection.send(&Request::WaitStopped, &[])?;
    let deadline = Instant::now() + boot_settings(container).host_shutdown_timeout;
    Ok(Asked { container: container.clone(), connection, deadline })
}

/// Which of them have ended, once one has or `timeout` is over.
fn wait(asked: &[Asked], timeout: Duration, tell: fn(&str)) -> AppResult<Vec<bool>> {
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    let mut fds: Vec<PollFd<'_>> =
        asked.iter().map(|a| PollFd::new(&a.connection.socket, PollFlags::IN)).collect();
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&timeout)))
        .cannot(|| "wait for guests to shut down")?;
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let has_ended = |a: &Asked| match a.connection.receive() {
        // The answer to the request for a shutdown.
        Ok(Some((Reply::Done, _))) => false,
        Ok(Some((Reply::Failed { reason, .. }, _))) => {
            tell(&format!("{} cannot be asked to shut down: {reason}", a.container.name));
            false
        }
        _ => true,
    };
    Ok(asked.iter().zip(ready).map(|(a, ready)| ready && has_ended(a)).collect())
}

/// Removes what is left of the guest, by force if it has not shut down, and reports what happened.
fn settle(app: &mut App, container: &Container, force: bool, failed: &mut Vec<(Name, AppError)>) {
    let name = &container.name;
    let killed = if force { lifecycle::kill(app, container) } else { Ok(()) };
    let cleared = lifecycle::clear_ended(app, container, force);
    // The guest may run no more even if killing it had failed before.
    let lives = state::guest_lives(app, &container.id);
    match cleared.and(if lives { killed } else { Ok(()) }) {
        Err(e) => failed.push((name.clone(), e)),
        // Somebody has started it again.
        Ok(()) if lives => {}
        Ok(()) if force => (app.tell)(&format!("{name} is ended by force")),
        Ok(()) => (app.tell)(&format!("{name} is stopped")),
    }
}
