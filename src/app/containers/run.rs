//! `run`: a container as a service, followed from its start to its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::console;
use super::monitor::{self, Connection};
use super::{lifecycle, state};
use crate::app::config::boot::boot_settings;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::container::State;
use crate::model::name::Name;
use crate::runtime::protocol::{Ended, Reply, Request};

/// A running container that is followed, through one monitor.
pub struct Watch {
    readiness: Connection,
    end: Connection,
    console: console::Attached,
}

/// Starts the container unless it runs. Its desired state stays as it is.
pub fn ensure_started(app: &mut App, name: &Name) -> AppResult<()> {
    let container = app.find(name)?;
    match state::of(app, &container) {
        State::Stopped => match lifecycle::start_as_it_is(app, name) {
            Err(AppError::AlreadyRunning(_) | AppError::Frozen(_)) => Ok(()),
            other => other,
        },
        _ => Ok(()),
    }
}

/// Follows a running container; one whose monitor is gone gets a new one.
pub fn watch(app: &mut App, name: &Name) -> AppResult<Watch> {
    let container = app.find(name)?;
    let end = monitor::connect(app, &container)?;
    end.send(&Request::WaitStopped, &[])?;
    let readiness = monitor::connect(app, &container)?;
    readiness.send(&Request::WaitReady, &[])?;
    Ok(Watch { readiness, end, console: console::attach(app, name)? })
}

impl Watch {
    /// What the guest prints.
    pub fn console(&self) -> BorrowedFd<'_> {
        self.console.stream()
    }

    pub fn readiness(&self) -> &OwnedFd {
        &self.readiness.socket
    }

    /// Readable when `end` has something to say.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.end.socket.as_fd()
    }

    /// Call it when `readiness` is readable. Returns whether the guest is up.
    pub fn is_ready(&self) -> AppResult<bool> {
        Ok(matches!(self.readiness.receive()?, Some((Reply::Done, _))))
    }

    /// Call it when `end` is readable. Returns whether the guest has ended, or its monitor.
    pub fn is_over(&self) -> AppResult<bool> {
        // Other messages answer the request for a shutdown.
        Ok(matches!(self.end.receive()?, None | Some((Reply::Stopped(_), _))))
    }

    pub fn ask_shutdown(&self) -> AppResult<()> {
        self.end.send(&Request::Shutdown, &[])
    }
}

/// How the guest has ended, after its monitor has; none if the guest lives on without a monitor, or with a
/// new one.
pub fn ended(app: &mut App, name: &Name) -> AppResult<Option<Ended>> {
    let container = app.find(name)?;
    if state::guest_lives(app, &container.id) {
        return Ok(None);
    }
    let ended = state::record(app, &container.id).and_then(|record| record.ended);
    lifecycle::clear_ended(app, &container, false)?;
    let unknown = || Ended { reason: "its monitor is gone".to_owned(), clean: false, asked: false };
    Ok(Some(ended.unwrap_or_else(unknown)))
}

/// How long it may take to shut down.
pub fn shutdown_timeout(app: &mut App, name: &Name) -> AppResult<Duration> {
    Ok(boot_settings(&app.find(name)?).host_shutdown_timeout)
}

/// Ends the guest by force.
pub fn kill(app: &mut App, name: &Name) -> AppResult<()> {
    let container = app.find(name)?;
    lifecycle::kill(app, &container)
}
