//! What a container has of its own becomes a layer: sealed where the container is stopped, copied where it runs.

use std::time::Duration;

use super::{hook, running};
use crate::app::Progress;
use crate::app::containers::{create, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::layout::POOL_LAYERS;
use crate::app::instance::{App, layout};
use crate::app::operations::{self, Procedure, Step};
use crate::app::storage::{contents, layers, pools, quota, trees};
use crate::model::container::{Container, State};
use crate::model::layer::{Chain, LayerId};
use crate::model::monitor::MOST_LAYERS;
use crate::model::operation::{Operation, OperationKind};
use crate::model::snapshot::Snapshot;
use crate::store::Sealing;
use crate::sys::error_text;
use crate::sys::kernel::random::random;
use crate::sys::process::interrupt;

/// What is wanted of a container's own.
pub struct Wanted<'a> {
    pub kind: OperationKind,
    /// Made of it; its chain is that of the container before.
    pub snapshot: Option<Snapshot>,
    /// What the container stands on afterwards, if that is another root.
    pub rebuilt: Option<Chain>,
    pub progress: &'a dyn Progress,
}

/// What has become of it.
pub struct Layered {
    /// What the snapshot, or a copy of the container as it was, stands on.
    pub chain: Chain,
    /// For how long the guest was frozen.
    pub frozen: Option<Duration>,
}

/// What the steps share.
struct Layering<'a> {
    container: Container,
    sealing: Sealing,
    /// The layer that the container stood on.
    below: Option<LayerId>,
    is_running: bool,
    rebuilt: Option<Chain>,
    progress: &'a dyn Progress,
    is_needed: bool,
    frozen: Option<Duration>,
}

/// Whether the container runs, and its programs may go on meanwhile.
pub fn is_running(app: &App, container: &Container) -> AppResult<bool> {
    match state::of(app, container) {
        State::Stopped => Ok(false),
        State::Running | State::Frozen => Ok(true),
        State::Unknown => Err(AppError::Unknown(container.name.clone())),
        State::Busy => Err(AppError::Busy { name: container.name.clone(), holder: None }),
    }
}

/// Refuses to go on where an earlier operation on the container is not undone, or its pool is not there.
pub fn refuse_unfinished(app: &App, container: &Container) -> AppResult<()> {
    pools::open(app, &container.pool)?;
    let of_this = |operation: &Operation| operation.container.as_ref() == Some(&container.id);
    match app.store.unfinished_operations()?.into_iter().find(of_this) {
        None => Ok(()),
        Some(Operation { kind, error, .. }) => {
            Err(AppError::Unfinished { name: container.name.clone(), kind: kind.as_str(), error })
        }
    }
}

/// Makes the layer. The caller holds the container's lock.
pub fn layer(app: &mut App, container: &Container, wanted: Wanted<'_>) -> AppResult<Layered> {
    interrupt::arm();
    refuse_unfinished(app, container)?;
    let is_running = is_running(app, container)?;
    let before = app.store.chain(&container.id)?;
    // With the template, and the one that is made.
    if before.layers.len() + 2 > MOST_LAYERS {
        return Err(AppError::TooManyLayers(container.name.clone()));
    }
    let layer = LayerId::from_random(random()?);
    let chain = before.with(layer.clone());
    let snapshot = wanted.snapshot.map(|snapshot| Snapshot { chain: chain.clone(), ..snapshot });
    let params = serde_json::json!({
        "layer": layer,
        "running": is_running,
        "snapshot": snapshot.as_ref().map(|snapshot| &snapshot.name),
    });
    let operation = operations::of_container(wanted.kind, &container.id, container.name.as_str(), params)?;
    let sealing = Sealing { container: container.id.clone(), layer, is_of_container: !is_running, snapshot };
    app.expect_storage();
    app.store.begin_sealing(&sealing, &operation)?;
    let mut layering = Layering {
        container: container.clone(),
        sealing,
        below: before.layers.last().cloned(),
        is_running,
        rebuilt: wanted.rebuilt,
        progress: wanted.progress,
        is_needed: true,
        frozen: None,
    };
    // What is sealed takes next to nothing, and is done where the container has used up its quota too.
    let room = !is_running && quota::make_room(app, container);
    let done = operations::run(app, &operation.id, &procedure(&steps()), &mut layering);
    quota::take_room_back(app, container, room);
    done?;
    let chain = if layering.is_needed { chain } else { before };
    Ok(Layered { chain, frozen: layering.frozen })
}

fn steps<'a>() -> [Step<Layering<'a>>; 1] {
    [Step { act: make, undo: unmake }]
}

fn procedure<'s, 'a>(steps: &'s [Step<Layering<'a>>]) -> Procedure<'s, Layering<'a>> {
    Procedure {
        steps,
        finish: |app, id, layering| {
            let Layering { sealing, is_needed, rebuilt, .. } = layering;
            Ok(app.store.end_sealing(id, sealing, *is_needed, rebuilt.as_ref())?)
        },
        give_up: |app, id, layering, why| {
            app.store.fail_sealing(id, &layering.sealing, why)?;
            // On a full disk it names a layer that is not there, which `repair` takes out.
            create::write_manifest(app, &layering.container)
                .unwrap_or_else(|e| tracing::warn!("{}", error_text(&e)));
            layers::clean(app)
        },
        container: |layering| &layering.container,
        makes: false,
    }
}

fn make(app: &mut App, layering: &mut Layering<'_>) -> AppResult<()> {
    let Layering { container, sealing, below, .. } = &*layering;
    if layering.is_running {
        let target = layout::layer_in_pool(&sealing.layer);
        layering.frozen = Some(running::copy(app, container, &target, layering.progress)?);
    } else {
        // Of a container that gets another root, nothing is carried along.
        let carries = layering.rebuilt.is_none();
        // Before the files are sealed: with a database that is made anew, the container still stands on them.
        create::write_manifest(app, container)?;
        layering.is_needed = trees::seal(app, container, &sealing.layer, below.as_ref(), carries)?;
    }
    Ok(())
}

fn unmake(app: &mut App, layering: &mut Layering<'_>) -> AppResult<()> {
    match layering.is_running {
        // At once, not in the background: the disk may be full.
        true => {
            contents::delete_in(app, &layering.container.pool, POOL_LAYERS, layering.sealing.layer.as_str())
        }
        false => trees::unseal(app, &layering.container, &layering.sealing.layer),
    }
}

struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: Option<u8>) {}
    fn bytes(&self, _: u64, _: Option<u64>) {}
}

/// Undoes one whose command was killed. The caller holds the container's lock.
pub fn undo(app: &mut App, operation: &Operation, container: Container, why: &str) -> AppResult<()> {
    app.expect_storage();
    let Some(layer) = operation.layer() else {
        return Ok(app.store.end_operation(&operation.id, Some("its record cannot be read"))?);
    };
    let sealing = Sealing {
        container: container.id.clone(),
        layer,
        is_of_container: true,
        snapshot: app.store.unready_snapshot(&container.id)?,
    };
    let is_running = operation.params["running"] == true;
    if is_running {
        hook::thaw_left(app, operation, &container);
    }
    let mut layering = Layering {
        container,
        sealing,
        below: None,
        is_running,
        rebuilt: None,
        progress: &Silent,
        is_needed: true,
        frozen: None,
    };
    operations::undo(app, &operation.id, &procedure(&steps()), &mut layering, why)
}
