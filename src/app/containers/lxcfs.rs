//! `lxcfs-attach`: running guests get the lxcfs that the host has now.

use std::time::{Duration, Instant};

use super::state;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::host::services::lxcfs;
use crate::model::container::State;
use crate::model::name::Name;
use crate::model::waits;

/// Waits until lxcfs is mounted: its unit counts as started before.
pub fn wait(timeout: Duration) {
    let end = Instant::now() + timeout;
    while !lxcfs::is_there() && Instant::now() < end {
        std::thread::sleep(waits::LXCFS_POLL);
    }
}

/// Gives it to every running container; returns those that could not have it.
pub fn attach_all(app: &mut App) -> AppResult<Vec<(Name, AppError)>> {
    let mut failed = Vec::new();
    for container in app.store.containers()? {
        if !matches!(state::of(app, &container), State::Running | State::Frozen) {
            continue;
        }
        if let Err(e) = app.broker.attach_lxcfs(container.id.as_str()) {
            failed.push((container.name, e.into()));
        }
    }
    Ok(failed)
}
