//! `autostop`: every running container shuts down, because the host does.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::boot_settings::boot_settings;
use super::context::App;
use super::error::{AppError, AppResult};
use super::monitor::{self, Connection};
use super::{lifecycle, state};
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

/// Shuts all down, those of one stop priority at once, higher ones first. A guest that takes longer
/// than it may is ended by force. What is wanted of the containers stays as it is. Returns those
/// that could not be stopped.
pub fn stop_all(app: &mut App) -> AppResult<Vec<(Name, AppError)>> {
    let containers = app.store.containers()?.into_iter();
    let mut running: Vec<(i64, Container)> = containers
        // What is being made or deleted is another command's, which finishes or is undone.
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
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut over = wait(&asked, patience, app.tell)?.into_iter();
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

/// Which of them have ended, once one has or `patience` is over.
fn wait(asked: &[Asked], patience: Duration, tell: fn(&str)) -> AppResult<Vec<bool>> {
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
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

/// Clears away what is left, by force if the guest has not shut down, and says what became of it.
fn settle(app: &mut App, container: &Container, force: bool, failed: &mut Vec<(Name, AppError)>) {
    let name = &container.name;
    let killed = if force { lifecycle::kill(app, container) } else { Ok(()) };
    let cleared = lifecycle::clear_ended(app, container, force);
    // What was cleared away runs no more, whatever kept it from being killed before.
    let lives = state::guest_lives(app, &container.id);
    match cleared.and(if lives { killed } else { Ok(()) }) {
        Err(e) => failed.push((name.clone(), e)),
        // Somebody has started it again.
        Ok(()) if lives => {}
        Ok(()) if force => (app.tell)(&format!("{name} is ended by force")),
        Ok(()) => (app.tell)(&format!("{name} is stopped")),
    }
}
