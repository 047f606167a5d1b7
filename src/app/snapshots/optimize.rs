//! `storage optimize`: a container stands on its template alone again.

use super::layering;
use super::overwrite::{Overwrite, overwrite};
use crate::app::Progress;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, lock};
use crate::app::progress::Bytes;
use crate::model::layer::Chain;
use crate::model::name::Name;
use crate::model::operation::OperationKind;
use crate::sys::process::interrupt;

/// Merges the layers of a stopped container into what it has of its own. Returns how many there were.
pub fn optimize(app: &mut App, name: &Name, progress: &dyn Progress) -> AppResult<usize> {
    interrupt::arm();
    let (container, _lock) = lock::found(app, name)?;
    layering::refuse_unfinished(app, &container)?;
    if layering::is_running(app, &container)? {
        return Err(AppError::MustBeStopped(name.clone()));
    }
    let before = app.store.chain(&container.id)?;
    let count = before.layers.len();
    if count == 0 {
        return Ok(0);
    }
    progress.stage(&format!("merging {count} layers of {name}"), None);
    let mut watch = Bytes::of(progress, None);
    let chain = Chain { layers: Vec::new(), ..before };
    let params = serde_json::json!({ "layers": count });
    let wanted = Overwrite { container, chain, config: None, merged: Some(&mut watch) };
    overwrite(app, OperationKind::Optimize, params, wanted)?;
    Ok(count)
}
