//! `lxcfs-attach`: running guests get the lxcfs that the host has now.

use std::time::{Duration, Instant};

use super::context::App;
use super::error::{AppError, AppResult};
use super::state;
use crate::host::lxcfs;
use crate::model::container::State;
use crate::model::name::Name;

const GLANCE: Duration = Duration::from_millis(50);

/// Waits until lxcfs is mounted: its unit counts as started before.
pub fn wait(patience: Duration) {
    let end = Instant::now() + patience;
    while !lxcfs::is_there() && Instant::now() < end {
        std::thread::sleep(GLANCE);
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
