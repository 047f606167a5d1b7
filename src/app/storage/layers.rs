//! Layers that nothing stands on any more.

use super::{pools, trash, worker};
use crate::app::error::AppResult;
use crate::app::instance::layout::POOL_LAYERS;
use crate::app::instance::{App, layout};
use crate::model::operation::Operation;

/// Moves the trees of doomed layers to the trash, and forgets them. What is interrupted is taken up by the next
/// command.
pub fn clean(app: &mut App) -> AppResult<()> {
    let doomed = app.store.doomed_layers()?;
    if doomed.is_empty() {
        return Ok(());
    }
    let present = pools::present(app)?;
    // The others' wait until their disks are mounted.
    for (name, layers) in doomed.into_iter().filter(|(name, _)| present.contains(name)) {
        let paths: Vec<String> = layers.iter().map(layout::layer_in_pool).collect();
        worker::work(app, &name, |pool| paths.iter().try_for_each(|path| trash::discard(pool, path)))?;
        app.store.forget_layers(&layers)?;
    }
    trash::empty_in_background(app)
}

/// Moves trees to the trash that the database does not know: a power cut has lost that they were moved, or a
/// database was made anew. The caller has the whole pool locked.
pub fn sweep(app: &mut App) -> AppResult<()> {
    let mut known = app.store.layers()?;
    // A database that was made anew knows some only from the operation that makes them, which is still to be undone.
    known.extend(app.store.unfinished_operations()?.iter().filter_map(Operation::layer));
    for pool in pools::present(app)? {
        let names = super::contents::names(app, &pool, POOL_LAYERS)?;
        let unknown: Vec<String> = names
            .into_iter()
            .filter(|name| known.iter().all(|id| id.as_str() != name))
            .map(|name| format!("{POOL_LAYERS}/{name}"))
            .collect();
        if !unknown.is_empty() {
            worker::work(app, &pool, |pool| unknown.iter().try_for_each(|path| trash::discard(pool, path)))?;
        }
    }
    trash::empty_in_background(app)
}
