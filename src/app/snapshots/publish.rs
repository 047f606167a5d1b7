//! `publish`: a template that is as a container is, or was when a snapshot of it was made.

use std::os::fd::AsFd;

use super::{layering, list, running};
use crate::app::Progress;
use crate::app::error::{AppError, AppResult};
use crate::app::images::templates::{self, Entry, Unpacked};
use crate::app::instance::{App, lock};
use crate::app::progress::Bytes;
use crate::app::storage::opened::{Opened, Tree};
use crate::app::storage::{contents, worker};
use crate::model::layer::Chain;
use crate::model::operation::OperationKind;
use crate::model::pool::PoolName;
use crate::model::snapshot::Source;
use crate::model::template::TemplateId;
use crate::sys::fs::copy;
use crate::sys::{SysError, error_text};
use crate::template::detect;

/// Makes the template. `replace`: the name may stand for another one.
pub fn publish(
    app: &mut App,
    source: &Source,
    name: &str,
    replace: bool,
    progress: &dyn Progress,
) -> AppResult<Entry> {
    let (container, _lock) = lock::found(app, &source.container)?;
    layering::refuse_unfinished(app, &container)?;
    let snapshot = list::of_source(app, &container, source)?;
    let is_running = snapshot.is_none() && layering::is_running(app, &container)?;
    progress.stage(&format!("publishing {source} as {name}"), None);
    app.expect_storage();
    let chain = match &snapshot {
        Some(snapshot) => snapshot.chain.clone(),
        None => app.store.chain(&container.id)?,
    };
    templates::make(app, OperationKind::TemplatePublish, name, replace, |app, work| {
        let own = match (&snapshot, is_running) {
            (Some(_), _) => None,
            (None, false) => Some(Tree::Own(container.id.clone())),
            (None, true) => {
                // In the container's pool, and not in the one of templates.
                let dir = contents::work_dir(work);
                running::copy(app, &container, &format!("{dir}/upper"), progress)?;
                Some(Tree::Copy(dir))
            }
        };
        flatten(app, work, &container.pool, own, &chain, progress)
    })
}

/// Makes one tree of all layers.
fn flatten(
    app: &mut App,
    work: &str,
    pool: &PoolName,
    own: Option<Tree>,
    chain: &Chain,
    progress: &dyn Progress,
) -> AppResult<Unpacked> {
    let layers = Opened::of(app, pool, own.into_iter().chain(Tree::of_chain(chain)))?;
    let kept: Vec<_> = layers.dirs().collect();
    let target = format!("{}/tree", contents::work_dir(work));
    let mut watch = Bytes::of(progress, None);
    let templates = PoolName::default_one();
    let (digest, bytes, facts) = worker::copying_from(app, &templates, &kept, &mut watch, |pool, tell| {
        let tree = worker::open_tree(pool, &target)?;
        copy::copy(&layers.open()?, &tree, copy::Marks::Applied, tell)?;
        let (digest, bytes) = copy::digest(&tree)?;
        let facts = detect::detect(tree.as_fd())
            .map_err(|e| SysError::new("see what system it is", std::io::Error::other(error_text(&e))))?;
        Ok((digest, bytes, facts))
    })?;
    let id = TemplateId::new(&digest).map_err(|e| AppError::Refused(e.to_string()))?;
    Ok((id, bytes, facts))
}
