//! Giving a stopped container another root, or its own in another form. What it has of its own is put aside until that
//! is recorded, and taken back where it cannot be.

use crate::app::containers::create;
use crate::app::error::AppResult;
use crate::app::images::templates;
use crate::app::instance::App;
use crate::app::operations::{self, Procedure, Step};
use crate::app::storage::{quota, trash, trees};
use crate::model::config::Config;
use crate::model::container::Container;
use crate::model::layer::Chain;
use crate::model::operation::{Operation, OperationKind};
use crate::sys::process::report::Watch;

/// What the container is to be.
pub struct Overwrite<'a> {
    pub container: Container,
    pub chain: Chain,
    /// None: it stays.
    pub config: Option<Config>,
    /// Merges the layers that the container stands on with what it has of its own, and follows that; none: what it
    /// has of its own goes.
    pub merged: Option<&'a mut dyn Watch>,
}

/// Does it. The caller holds the container's lock, and has seen that it is stopped.
pub fn overwrite(
    app: &mut App,
    kind: OperationKind,
    params: serde_json::Value,
    mut wanted: Overwrite<'_>,
) -> AppResult<()> {
    let operation =
        operations::of_container(kind, &wanted.container.id, wanted.container.name.as_str(), params)?;
    app.expect_storage();
    app.store.begin_operation(&operation)?;
    // Of a container that has used up its quota too.
    let room = quota::make_room(app, &wanted.container);
    let done = operations::run(app, &operation.id, &procedure(&steps()), &mut wanted);
    quota::take_room_back(app, &wanted.container, room);
    done?;
    if let Some(container) = app.store.container_by_id(&wanted.container.id)? {
        create::write_manifest(app, &container)?;
    }
    trees::drop_former(app, &wanted.container)?;
    templates::clean_doomed(app)
}

fn steps<'a>() -> [Step<Overwrite<'a>>; 1] {
    [Step { act, undo: |app, wanted| trees::take_back(app, &wanted.container) }]
}

fn procedure<'s, 'a>(steps: &'s [Step<Overwrite<'a>>]) -> Procedure<'s, Overwrite<'a>> {
    Procedure {
        steps,
        finish: |app, id, wanted| {
            Ok(app.store.end_replacing(id, &wanted.container.id, &wanted.chain, wanted.config.as_ref())?)
        },
        give_up: |app, id, _, why| {
            app.store.end_operation(id, Some(why))?;
            trash::empty_in_background(app)
        },
        container: |wanted| &wanted.container,
        makes: false,
    }
}

fn act(app: &mut App, wanted: &mut Overwrite<'_>) -> AppResult<()> {
    let container = &wanted.container;
    match &mut wanted.merged {
        Some(watch) => {
            let layers = app.store.chain(&container.id)?.layers;
            trees::merge(app, container, &layers, &mut **watch)
        }
        None => trees::put_aside(app, container, wanted.chain.layers.last()),
    }
}

/// Undoes one whose command was killed. The caller holds the container's lock.
pub fn undo(app: &mut App, operation: &Operation, container: Container, why: &str) -> AppResult<()> {
    app.expect_storage();
    let chain = app.store.chain(&container.id)?;
    let mut wanted = Overwrite { container, chain, config: None, merged: None };
    operations::undo(app, &operation.id, &procedure(&steps()), &mut wanted, why)
}
