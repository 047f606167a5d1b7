//! Finishing or undoing what a killed command has begun.

use crate::app::containers::{create, delete, lifecycle};
use crate::app::error::AppResult;
use crate::app::firewall;
use crate::app::images::templates;
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::app::profiles;
use crate::app::snapshots::{hook, layering, overwrite};
use crate::app::storage::{contents, layers, trash};
use crate::model::container::Phase;
use crate::model::operation::{Operation, OperationKind};

/// Looks for operations that were recorded as begun and whose lock nobody holds. Cheap where there
/// are none: one query.
pub fn unsettled(app: &mut App) -> AppResult<()> {
    let pending = app.store.pending()?;
    let mut pool = pending.templates;
    if pending.operations {
        for operation in app.store.unfinished_operations()? {
            pool |= operation.kind.is_about_pool();
            match operation.kind {
                OperationKind::ProfileChange => settle_profile(app, &operation)?,
                _ => settle(app, &operation)?,
            }
        }
    }
    if pending.starts {
        starts(app)?;
    }
    // No reason to refuse what the user wants, and there is another look at the next command.
    firewall::catch_up(app)
        .unwrap_or_else(|e| tracing::warn!("the firewall is behind what is stored of it: {e}"));
    firewall::roll_back_due(app).map(drop).unwrap_or_else(|e| {
        tracing::warn!("cannot go back to the firewall's policy that was confirmed last: {e}");
    });
    let tidied = match pending.layers {
        true => layers::clean(app),
        false => trash::empty_in_background(app),
    };
    tidied.unwrap_or_else(|e| tracing::warn!("cannot delete yet what nobody needs: {e}"));
    if pool {
        // It may well be what the user wants that makes this possible again.
        templates::clean(app).unwrap_or_else(|e| tracing::warn!("cannot tidy up the pool yet: {e}"));
    }
    Ok(())
}

/// Undoes or finishes one operation about a container, as its kind says.
fn settle(app: &mut App, operation: &Operation) -> AppResult<()> {
    let Some(id) = &operation.container else { return Ok(()) };
    // Whoever holds the lock is at work on it.
    let Some(_lock) = lock::try_container(&app.instance, id)? else { return Ok(()) };
    // It may have been ended between the query and the lock.
    if app.store.unfinished_operations()?.iter().all(|other| other.id != operation.id) {
        return Ok(());
    }
    let Some(container) = app.store.container_by_id(id)? else {
        app.store.end_operation(&operation.id, Some("the container is not there"))?;
        return Ok(());
    };
    let name = container.name.clone();
    let why = operation.error.as_deref().unwrap_or("its command was killed");
    let done = match operation.kind {
        OperationKind::Launch | OperationKind::Create | OperationKind::Copy => {
            if operation.kind == OperationKind::Copy {
                hook::thaw_left(app, operation, &container);
                // What was on its way to another pool. What fails here is found when the pools are tidied up.
                contents::discard(app, operation.id.as_str()).unwrap_or_else(|e| tracing::warn!("{e}"));
            }
            create::undo(app, &operation.id, operation.kind, container, why)
        }
        OperationKind::Snapshot | OperationKind::Seal | OperationKind::Rebuild => {
            layering::undo(app, operation, container, why)
        }
        OperationKind::Restore | OperationKind::Optimize => overwrite::undo(app, operation, container, why),
        _ => delete::resume(app, &operation.id, container),
    };
    match done {
        Ok(()) => tracing::info!("tidied up container '{name}' after a killed command"),
        Err(e) => {
            tracing::warn!("cannot tidy up container '{name}' yet: {e}");
            // Where not even that can be stored, as on a full disk, the user's own command goes on.
            app.store.note_operation(&operation.id, &e.to_string()).unwrap_or_else(|e| tracing::warn!("{e}"));
        }
    }
    Ok(())
}

/// Brings a change of a profile to its containers.
fn settle_profile(app: &mut App, operation: &Operation) -> AppResult<()> {
    let Some(_lock) = lock::try_profiles(&app.instance)? else { return Ok(()) };
    if app.store.unfinished_operations()?.iter().all(|other| other.id != operation.id) {
        return Ok(());
    }
    match profiles::resume(app, operation) {
        Ok(()) => tracing::info!("changed profile '{}' after a killed command", operation.subject),
        Err(e) => {
            tracing::warn!("cannot change profile '{}' yet: {e}", operation.subject);
            app.store.note_operation(&operation.id, &e.to_string()).unwrap_or_else(|e| tracing::warn!("{e}"));
        }
    }
    Ok(())
}

/// Ends what is left of containers whose start was cut short.
fn starts(app: &mut App) -> AppResult<()> {
    for found in app.store.starting()? {
        let Some(_lock) = lock::try_container(&app.instance, &found.id)? else { continue };
        let Some(container) = app.store.container_by_id(&found.id)? else { continue };
        if container.phase != Phase::Starting {
            continue;
        }
        let done = lifecycle::clear(app, &container)
            .and_then(|()| Ok(app.store.set_phase(&container.id, Phase::Settled, None)?));
        match done {
            Ok(()) => tracing::info!("tidied up container '{}' after a killed command", container.name),
            Err(e) => tracing::warn!("cannot tidy up container '{}' yet: {e}", container.name),
        }
    }
    Ok(())
}
