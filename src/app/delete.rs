//! `delete`: a container and all that is its own.

use super::context::App;
use super::error::{AppError, AppResult};
use super::{firewall, layout, lifecycle, lock, monitor, network, pool, state, templates};
use crate::model::container::{Container, Phase, State};
use crate::model::name::Name;
use crate::sys::Context;

/// Deletes a stopped container; a running one only with `force`.
pub fn delete(app: &mut App, name: &Name, force: bool) -> AppResult<()> {
    let (container, _lock) = lock::found(app, name)?;
    match state::of(app, &container) {
        State::Stopped => {}
        State::Unknown => return Err(AppError::Unknown(name.clone())),
        _ if !force => return Err(AppError::Running(name.clone())),
        State::Running | State::Frozen | State::Busy => {}
    }
    erase(app, &container)
}

/// Removes everything of a container; the record last.
/// Idempotent: what an interrupted run has removed already is fine.
pub(super) fn erase(app: &mut App, container: &Container) -> AppResult<()> {
    app.expect_storage();
    if container.phase != Phase::Deleting {
        // From now on others leave it out of what they tell the kernel.
        app.store.set_phase(&container.id, Phase::Deleting, Some(false))?;
    }
    // The broker of a command that was killed may be about to start it, and is waited for then.
    if container.phase != Phase::Settled || state::has_traces(app, container) {
        lifecycle::clear(app, container)?;
    }
    // The files go while the rest is forgotten.
    let files = pool::delete_container(app, &container.id)?;
    monitor::forget(app, container);
    let networks = network::of(app, container)?;
    firewall::forget(app, container)?;
    files.finish()?;
    // Its manifest is there as long as anything is: a database that is made anew knows of it from there.
    let dir = layout::container_dir(&app.instance, &container.id);
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).cannot(|| format!("delete {}", dir.display())).map_err(AppError::from);
        }
        _ => {}
    }
    let doomed = app.store.delete_container(&container.id)?;
    network::answer_for(app, &networks);
    lock::sweep(&app.instance);
    if doomed.is_some() {
        templates::clean(app)?;
    }
    Ok(())
}
