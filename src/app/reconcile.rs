//! Finishing or undoing what a killed command has begun.

use super::context::App;
use super::delete;
use super::error::AppResult;
use super::{firewall, lifecycle, lock, templates};
use crate::model::container::Phase;

/// Looks for operations that were recorded as begun and whose lock nobody holds. Cheap where there
/// are none: two queries.
pub fn unsettled(app: &mut App) -> AppResult<()> {
    for found in app.store.unsettled()? {
        // Whoever holds the lock is at work on it.
        let Some(_lock) = lock::try_container(&app.instance, &found.id)? else { continue };
        // It may have been settled between the query and the lock.
        let Some(container) = app.store.container_by_id(&found.id)? else { continue };
        let done = match container.phase {
            Phase::Settled => continue,
            Phase::Creating | Phase::Deleting => delete::erase(app, &container),
            Phase::Starting => lifecycle::clear(app, &container)
                .and_then(|()| Ok(app.store.set_phase(&container.id, Phase::Settled, None)?)),
        };
        match done {
            Ok(()) => tracing::info!("tidied up container '{}' after a killed command", container.name),
            Err(e) => tracing::warn!("cannot tidy up container '{}' yet: {e}", container.name),
        }
    }
    // No reason to refuse what the user wants, and there is another look at the next command.
    firewall::catch_up(app)
        .unwrap_or_else(|e| tracing::warn!("the firewall is behind what is stored of it: {e}"));
    firewall::roll_back_due(app).map(drop).unwrap_or_else(|e| {
        tracing::warn!("cannot go back to the firewall's policy that was confirmed last: {e}");
    });
    if !app.store.unfinished_work()?.is_empty() || !app.store.doomed_templates()?.is_empty() {
        // It may well be what the user wants that makes this possible again.
        templates::clean(app).unwrap_or_else(|e| tracing::warn!("cannot tidy up the pool yet: {e}"));
    }
    Ok(())
}
