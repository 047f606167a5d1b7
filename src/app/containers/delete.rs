//! `delete`: a container and all that is its own.

use super::{given, lifecycle, monitor, running, state};
use crate::app::error::{AppError, AppResult};
use crate::app::images::templates;
use crate::app::instance::App;
use crate::app::instance::{layout, lock};
use crate::app::operations::{self, Procedure, Step, nothing};
use crate::app::storage::contents::Working;
use crate::app::storage::{contents, trash};
use crate::app::{firewall, network};
use crate::model::container::{Container, Phase, State};
use crate::model::name::Name;
use crate::model::operation::{OperationId, OperationKind};
use crate::sys::Context;

/// Its steps, after the record that the container is to go.
const DELETE: Procedure<'static, Container> = Procedure {
    steps: &[Step { act: stop, undo: nothing }, Step { act: empty, undo: nothing }],
    finish: |app, id, container| forget(app, id, container, None),
    // A deletion is never undone: see `resume`.
    give_up: |_, _, _, _| Ok(()),
    container: |container| container,
    makes: false,
};

/// Deletes a stopped container; a running one only with `force`.
pub fn delete(app: &mut App, name: &Name, force: bool) -> AppResult<()> {
    let (container, _lock) = lock::found(app, name)?;
    match state::of(app, &container) {
        State::Stopped => {}
        State::Unknown => return Err(AppError::Unknown(name.clone())),
        _ if !force => return Err(AppError::Running(name.clone())),
        State::Running | State::Frozen | State::Busy => {}
    }
    if !app.has_lost(&container.pool) {
        app.pool(&container.pool)?;
    }
    app.expect_storage();
    let params = serde_json::json!({ "force": force });
    let operation =
        operations::of_container(OperationKind::Delete, &container.id, container.name.as_str(), params)?;
    running::forget(&app.instance, &container.name);
    // From now on others leave it out of what they tell the kernel.
    app.store.begin_deleting(&container.id, &operation)?;
    resume(app, &operation.id, container)
}

/// Goes on with a deletion that is recorded, up to its end. What an interrupted run has removed already is
/// fine. Where it fails, the next command goes on.
pub fn resume(app: &mut App, operation: &OperationId, mut container: Container) -> AppResult<()> {
    operations::finish(app, operation, &DELETE, &mut container)
}

/// Ends what runs of it. The broker of a command that was killed may be about to start it, and is waited for
/// then.
fn stop(app: &mut App, container: &mut Container) -> AppResult<()> {
    if container.phase != Phase::Settled || state::has_traces(app, container) {
        lifecycle::clear(app, container)?;
    }
    Ok(())
}

/// Removes its files and what the firewall has of it.
pub(super) fn empty(app: &mut App, container: &mut Container) -> AppResult<()> {
    // The files go while the rest is forgotten.
    let files = match app.has_lost(&container.pool) {
        true => None,
        false => Some(contents::delete_container(app, container)?),
    };
    monitor::forget(app, container);
    firewall::forget(app, container)?;
    // What fails here fails below, too.
    let records = layout::console_logs(&app.instance, &container.id).into_iter();
    for path in records.chain([layout::state_record(&app.instance, &container.id)]) {
        let _ = std::fs::remove_file(path);
    }
    files.map_or(Ok(()), Working::finish)?;
    // The manifest goes last: from it, a database that is made anew knows of the container.
    let dir = layout::container_dir(&app.instance, &container.id);
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).cannot(|| format!("delete {}", dir.display())).map_err(AppError::from)
        }
        _ => Ok(()),
    }
}

/// Forgets a container of which nothing else is left, and ends the operation: one that failed, where `error`
/// says why.
pub(super) fn forget(
    app: &mut App,
    operation: &OperationId,
    container: &Container,
    error: Option<&str>,
) -> AppResult<()> {
    let networks = network::of(app, container)?;
    app.store.end_without(operation, &container.id, error)?;
    network::answer_for(app, &networks);
    given::keep_sources(app, container);
    lock::sweep(&app.instance);
    templates::clean_doomed(app)?;
    trash::empty_in_background(app)
}
