//! Looking at snapshots.

use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, layout};
use crate::app::storage::worker;
use crate::model::container::Container;
use crate::model::layer::LayerId;
use crate::model::name::Name;
use crate::model::pool::PoolName;
use crate::model::snapshot::{Snapshot, SnapshotName, Source};
use crate::model::suggest;
use crate::sys::fs::usage;

/// A snapshot of a container.
pub fn find(app: &App, container: &Container, name: &SnapshotName) -> AppResult<Snapshot> {
    if let Some(snapshot) = app.store.snapshot(&container.id, name)? {
        return Ok(snapshot);
    }
    let others = app.store.snapshots(&container.id)?;
    let nearest = suggest::nearest(name.as_str(), others.iter().map(|other| other.name.as_str()));
    let nearest = nearest.map(|other| format!("{}/{other}", container.name));
    Err(AppError::NoSnapshot { container: container.name.clone(), name: name.clone(), nearest })
}

/// The snapshot of `container` that `source` names, if it names one.
pub fn of_source(app: &App, container: &Container, source: &Source) -> AppResult<Option<Snapshot>> {
    source.snapshot.as_ref().map(|name| find(app, container, name)).transpose()
}

/// All snapshots of a container, the oldest first.
pub fn list(app: &App, container: &Name) -> AppResult<Vec<Snapshot>> {
    let container = app.find(container)?;
    Ok(app.store.snapshots(&container.id)?)
}

/// How much disk a snapshot takes, if nothing else stands on its topmost layer.
pub struct Size {
    /// Of blocks that are allocated to its topmost layer.
    pub bytes: u64,
    pub files: u64,
    /// Whether deleting the snapshot frees that.
    pub is_own: bool,
}

/// A snapshot with its size.
pub fn show(app: &mut App, container: &Name, name: &SnapshotName) -> AppResult<(Snapshot, Size)> {
    let container = app.find(container)?;
    let snapshot = find(app, &container, name)?;
    let size = match snapshot.chain.layers.last() {
        None => Size { bytes: 0, files: 0, is_own: true },
        Some(top) => size_of(app, &container.pool, top)?,
    };
    Ok((snapshot, size))
}

fn size_of(app: &mut App, pool: &PoolName, layer: &LayerId) -> AppResult<Size> {
    let is_own = app.store.uses_of_layer(layer)? == 1;
    let path = layout::layer_in_pool(layer);
    let used = worker::work(app, pool, |pool| usage::of_tree(&worker::open_tree(pool, &path)?))?;
    Ok(Size { bytes: used.bytes, files: used.files, is_own })
}
