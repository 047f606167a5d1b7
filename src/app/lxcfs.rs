//! `lxcfs-attach`: running guests get the lxcfs that the host has now.

use super::context::App;
use super::error::{AppError, AppResult};
use super::state;
use crate::model::container::State;
use crate::model::name::Name;

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
