//! `diff`: what differs in a container from its template, or from one of its snapshots.

use super::list;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, layout, lock};
use crate::app::storage::worker;
use crate::model::snapshot::{SnapshotName, Source};
use crate::sys::fs::copy::{self, Change};
use crate::sys::fs::lock::Lock;

/// The trees in the pool that are compared, the topmost of each first.
pub struct Compared {
    pub above: Vec<String>,
    pub below: Vec<String>,
}

/// Which trees these are; they stay while the lock is held.
pub fn compared(app: &mut App, source: &Source, from: Option<&SnapshotName>) -> AppResult<(Compared, Lock)> {
    let (container, lock) = lock::found(app, &source.container)?;
    let (chain, own) = match list::of_source(app, &container, source)? {
        Some(snapshot) => (snapshot.chain, None),
        None => {
            let upper = format!("{}/upper", layout::data_in_pool(&container.id));
            (app.store.chain(&container.id)?, Some(upper))
        }
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
    let (below, above) = chain.layers.split_at(shared);
    let paths = |layers: &[_]| layers.iter().rev().map(layout::layer_in_pool).collect::<Vec<_>>();
    let above: Vec<String> = own.into_iter().chain(paths(above)).collect();
    let below: Vec<String> =
        paths(below).into_iter().chain([layout::template_in_pool(&chain.template)]).collect();
    Ok((Compared { above, below }, lock))
}

/// The paths of entries that differ, sorted, with what has become of them.
pub fn diff(
    app: &mut App,
    source: &Source,
    from: Option<&SnapshotName>,
) -> AppResult<Vec<(Vec<u8>, Change)>> {
    let (Compared { above, below }, _lock) = compared(app, source, from)?;
    let (found, is_whole) = worker::copying(app, |pool| {
        let open = |paths: &[String]| {
            paths.iter().map(|path| worker::open_tree(pool, path)).collect::<Result<Vec<_>, _>>()
        };
        copy::diff(&open(&above)?, &open(&below)?)
    })?;
    if !is_whole {
        return Err(AppError::Refused(format!(
            "more than {} entries of {source} differ",
            copy::MOST_DIFFERENCES
        )));
    }
    Ok(found)
}
