//! `snapshot restore`: a container is again what it was when the snapshot was made.

use super::layering;
use super::list;
use super::overwrite::{Overwrite, overwrite};
use crate::app::containers::lifecycle;
use crate::app::containers::lifecycle::StopOptions;
use crate::app::containers::state;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, lock};
use crate::model::container::State;
use crate::model::name::Name;
use crate::model::operation::OperationKind;
use crate::model::snapshot::SnapshotName;
use crate::sys::error_text;

/// Puts the root and the configuration back. What the container has written since is lost. A running container is
/// refused unless `stop` says how it is to be stopped; it is started again afterwards.
pub fn restore(
    app: &mut App,
    name: &Name,
    snapshot: &SnapshotName,
    stop: Option<StopOptions>,
) -> AppResult<()> {
    // Before it is stopped for nothing.
    let container = app.find(name)?;
    list::find(app, &container, snapshot)?;
    stopped(app, name, stop, |app| put_back(app, name, snapshot))
}

/// Does `body` while the container is stopped: it is stopped for that, and started again, where `stop` says so.
pub fn stopped<T>(
    app: &mut App,
    name: &Name,
    stop: Option<StopOptions>,
    body: impl FnOnce(&mut App) -> AppResult<T>,
) -> AppResult<T> {
    let container = app.find(name)?;
    let was_running = state::of(app, &container) != State::Stopped;
    match stop {
        Some(options) if was_running => lifecycle::stop(app, name, options)?,
        None if was_running => return Err(AppError::RunningAsks(name.clone())),
        _ => {}
    }
    let done = body(app);
    match was_running.then(|| lifecycle::start(app, name)) {
        // Why nothing was done says more than why it does not start now.
        Some(Err(e)) if done.is_ok() => Err(e),
        Some(Err(e)) => {
            tracing::warn!("container '{name}' is not started again: {}", error_text(&e));
            done
        }
        _ => done,
    }
}

fn put_back(app: &mut App, name: &Name, snapshot: &SnapshotName) -> AppResult<()> {
    let (container, _lock) = lock::found(app, name)?;
    layering::refuse_unfinished(app, &container)?;
    if layering::is_running(app, &container)? {
        return Err(AppError::RunningAsks(name.clone()));
    }
    let snapshot = list::find(app, &container, snapshot)?;
    let params = serde_json::json!({ "snapshot": snapshot.name });
    let wanted = Overwrite { container, chain: snapshot.chain, config: Some(snapshot.config), merged: None };
    overwrite(app, OperationKind::Restore, params, wanted)
}
