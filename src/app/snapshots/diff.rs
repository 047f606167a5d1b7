//! `diff`: what differs in a container from its template, or from one of its snapshots.

use super::list;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, lock};
use crate::app::storage::opened::{Opened, Tree};
use crate::app::storage::worker;
use crate::model::pool::PoolName;
use crate::model::snapshot::{SnapshotName, Source};
use crate::sys::fs::copy::{self, Change};
use crate::sys::fs::lock::Lock;
use crate::sys::process::report::Unwatched;

/// The trees that are compared, the topmost of each first.
pub struct Compared {
    pub above: Opened,
    pub below: Opened,
    pub pool: PoolName,
}

/// Which trees these are; they stay while the lock is held.
pub fn compared(app: &mut App, source: &Source, from: Option<&SnapshotName>) -> AppResult<(Compared, Lock)> {
    let (container, lock) = lock::found(app, &source.container)?;
    let (chain, own) = match list::of_source(app, &container, source)? {
        Some(snapshot) => (snapshot.chain, None),
        None => (app.store.chain(&container.id)?, Some(Tree::Own(container.id.clone()))),
    };
    let shared = match from {
        None => 0,
        Some(name) => {
            let before = list::find(app, &container, name)?.chain;
            let is_below = before.template == chain.template && chain.layers.starts_with(&before.layers);
            if !is_below {
                return Err(AppError::advised(
                    format!("{source} does not stand on what snapshot '{name}' stands on"),
                    format!("compare it with its template: nagaya diff {source}"),
                ));
            }
            before.layers.len()
        }
    };
    let trees = own.into_iter().chain(Tree::of_chain(&chain)).collect::<Vec<_>>();
    // Besides the layers that both stand on, the template.
    let (above, below) = trees.split_at(trees.len() - shared - 1);
    let pool = container.pool;
    let above = Opened::of(app, &pool, above.iter().cloned())?;
    let below = Opened::of(app, &pool, below.iter().cloned())?;
    Ok((Compared { above, below, pool }, lock))
}

/// The paths of entries that differ, sorted, with what has become of them.
pub fn diff(
    app: &mut App,
    source: &Source,
    from: Option<&SnapshotName>,
) -> AppResult<Vec<(Vec<u8>, Change)>> {
    let (Compared { above, below, pool }, _lock) = compared(app, source, from)?;
    let kept: Vec<_> = above.dirs().chain(below.dirs()).collect();
    let (found, is_whole) = worker::copying_from(app, &pool, &kept, &mut Unwatched, |_, _| {
        copy::diff(&above.open()?, &below.open()?)
    })?;
    if !is_whole {
        return Err(AppError::Refused(format!(
            "more than {} entries of {source} differ",
            copy::MOST_DIFFERENCES
        )));
    }
    Ok(found)
}
