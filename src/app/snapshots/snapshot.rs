//! `snapshot create|rename|delete`, and what has expired.

use std::time::Duration;

use super::layering::{self, Wanted};
use super::list;
use crate::app::Progress;
use crate::app::containers::create;
use crate::app::error::{AppError, AppResult};
use crate::app::images::templates;
use crate::app::instance::{App, lock};
use crate::model::container::Container;
use crate::model::name::Name;
use crate::model::operation::OperationKind;
use crate::model::schedule::{Expiry, Pattern};
use crate::model::snapshot::{MOST_SNAPSHOTS, Snapshot, SnapshotName};
use crate::sys::kernel::clock::now;

/// What the user wants.
pub struct SnapshotRequest {
    pub container: Name,
    /// None: as the key `snapshots.pattern` has it.
    pub name: Option<SnapshotName>,
    pub comment: Option<String>,
    /// Seconds since 1970.
    pub expires_at: Option<i64>,
    /// A schedule makes it.
    pub is_automatic: bool,
}

/// What was made.
pub struct Made {
    pub name: SnapshotName,
    /// For how long the guest was frozen; none for a container that does not run.
    pub frozen: Option<Duration>,
}

/// Makes a snapshot of a container as it is now.
pub fn create(app: &mut App, request: SnapshotRequest, progress: &dyn Progress) -> AppResult<Made> {
    let (container, _lock) = lock::found(app, &request.container)?;
    let others = app.store.snapshots(&container.id)?;
    if others.len() >= MOST_SNAPSHOTS {
        return Err(AppError::TooManySnapshots(container.name));
    }
    let name = match request.name {
        Some(name) => name,
        None => free_name(&container, &others)?,
    };
    let manual = container.config.expanded().get("snapshots.expiry.manual").filter(|_| !request.is_automatic);
    let manual = manual.and_then(Expiry::parse).and_then(|expiry| expiry.after(now(), &chrono::Local));
    let snapshot = Snapshot {
        name: name.clone(),
        created_at: now(),
        expires_at: request.expires_at.or(manual),
        was_running: layering::is_running(app, &container)?,
        is_automatic: request.is_automatic,
        comment: request.comment,
        chain: app.store.chain(&container.id)?,
        config: container.config.own().clone(),
    };
    let wanted = Wanted { kind: OperationKind::Snapshot, snapshot: Some(snapshot), rebuilt: None, progress };
    let layered = layering::layer(app, &container, wanted)?;
    create::write_manifest(app, &container)?;
    Ok(Made { name, frozen: layered.frozen })
}

/// As the container's pattern has it: usually `snap0`, `snap1` and so on.
fn free_name(container: &Container, others: &[Snapshot]) -> AppResult<SnapshotName> {
    let pattern =
        container.config.expanded().get("snapshots.pattern").and_then(Pattern::parse).unwrap_or_default();
    let name = pattern.name(now(), others.iter().map(|other| other.name.as_str()));
    name.ok_or_else(|| {
        AppError::advised(
            "snapshots.pattern gives no name that is free",
            "name it: nagaya snapshot create NAME SNAPSHOT",
        )
    })
}

/// Gives a snapshot another name.
pub fn rename(app: &mut App, container: &Name, from: &SnapshotName, to: &SnapshotName) -> AppResult<()> {
    let (container, _lock) = lock::found(app, container)?;
    list::find(app, &container, from)?;
    app.store.rename_snapshot(&container.id, from, to)?;
    create::write_manifest(app, &container)
}

/// Sets when a snapshot expires; `None`: it is kept until it is deleted.
pub fn expire(
    app: &mut App,
    container: &Name,
    name: &SnapshotName,
    expires_at: Option<i64>,
) -> AppResult<()> {
    let (container, _lock) = lock::found(app, container)?;
    list::find(app, &container, name)?;
    app.store.set_expiry(&container.id, name, expires_at)?;
    create::write_manifest(app, &container)
}

/// Deletes snapshots of a container: all of them or, where one is not there, none. What only they stood on is freed in
/// the background.
pub fn delete(app: &mut App, container: &Name, names: &[SnapshotName]) -> AppResult<()> {
    let (container, _lock) = lock::found(app, container)?;
    for name in names {
        list::find(app, &container, name)?;
    }
    app.expect_storage();
    app.store.delete_snapshots(&container.id, names)?;
    create::write_manifest(app, &container)?;
    templates::clean_doomed(app)
}
