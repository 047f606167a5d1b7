//! `rebuild`: a fresh root for a container, which keeps its name, addresses, limits and keys.

use super::layering::{self, Wanted};
use super::restore;
use crate::app::Progress;
use crate::app::containers::create;
use crate::app::containers::lifecycle::StopOptions;
use crate::app::error::{AppError, AppResult};
use crate::app::images::templates;
use crate::app::instance::{App, lock};
use crate::model::layer::Chain;
use crate::model::name::Name;
use crate::model::operation::OperationKind;
use crate::model::snapshot::{Snapshot, SnapshotName};
use crate::model::template::TemplateId;
use crate::sys::kernel::clock::now;

/// What the user wants.
pub struct RebuildRequest {
    pub container: Name,
    /// None: the template that it was launched from, as that name stands for it now.
    pub template: Option<String>,
    /// A running container is stopped so, and started again; none: it is refused.
    pub stop: Option<StopOptions>,
}

/// Gives the container the template's root. Its old one is kept as a snapshot, whose name is returned.
pub fn rebuild(app: &mut App, request: RebuildRequest, progress: &dyn Progress) -> AppResult<SnapshotName> {
    let container = app.find(&request.container)?;
    let name = request.template.unwrap_or(container.template_name);
    // Before the container is stopped: it may have to be built.
    let template = templates::ensure(app, &name, progress)?;
    restore::stopped(app, &request.container, request.stop, |app| {
        give(app, &request.container, template.id, name, progress)
    })
}

fn give(
    app: &mut App,
    name: &Name,
    template: TemplateId,
    template_name: String,
    progress: &dyn Progress,
) -> AppResult<SnapshotName> {
    let (container, _lock) = lock::found(app, name)?;
    if layering::is_running(app, &container)? {
        return Err(AppError::RunningAsks(name.clone()));
    }
    let snapshot = Snapshot {
        name: free_name(&app.store.snapshots(&container.id)?)?,
        created_at: now(),
        expires_at: None,
        was_running: false,
        is_automatic: false,
        comment: Some(format!("before it was rebuilt from '{template_name}'")),
        chain: app.store.chain(&container.id)?,
        config: container.config.own().clone(),
    };
    let kept = snapshot.name.clone();
    let rebuilt = Some(Chain { template, template_name, layers: Vec::new() });
    let wanted = Wanted { kind: OperationKind::Rebuild, snapshot: Some(snapshot), rebuilt, progress };
    layering::layer(app, &container, wanted)?;
    if let Some(container) = app.store.container_by_id(&container.id)? {
        create::write_manifest(app, &container)?;
    }
    Ok(kept)
}

/// `rebuild0`, `rebuild1` and so on.
fn free_name(others: &[Snapshot]) -> AppResult<SnapshotName> {
    let taken = |name: &str| others.iter().any(|other| other.name.as_str() == name);
    let name = (0u32..).map(|n| format!("rebuild{n}")).find(|name| !taken(name)).unwrap_or_default();
    SnapshotName::new(&name).map_err(|e| AppError::Refused(e.to_string()))
}
