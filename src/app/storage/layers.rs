//! Layers that nothing stands on any more.

use super::trash;
use super::worker;
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
    let paths: Vec<String> = doomed.iter().map(layout::layer_in_pool).collect();
    worker::work(app, |pool| paths.iter().try_for_each(|path| trash::discard(pool, path)))?;
    app.store.forget_layers(&doomed)?;
    trash::empty_in_background(app)
}

/// Moves trees to the trash that the database does not know: a power cut has lost that they were moved, or a
/// database was made anew. The caller has the whole pool locked.
pub fn sweep(app: &mut App) -> AppResult<()> {
    let mut known = app.store.layers()?;
    // A database that was made anew knows some only from the operation that makes them, which is still to be undone.
    known.extend(app.store.unfinished_operations()?.iter().filter_map(Operation::layer));
    let names = super::pool::names(app, POOL_LAYERS)?;
    let unknown: Vec<String> = names
        .into_iter()
        .filter(|name| known.iter().all(|id| id.as_str() != name))
        .map(|name| format!("{POOL_LAYERS}/{name}"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    worker::work(app, |pool| unknown.iter().try_for_each(|path| trash::discard(pool, path)))?;
    trash::empty_in_background(app)
}
