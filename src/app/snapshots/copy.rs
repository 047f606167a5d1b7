//! `copy`: a new container that begins as another one is, or was when a snapshot of it was made.

use std::time::Duration;

use super::layering::{self, Wanted};
use super::overwrite::{Overwrite, overwrite};
use super::{list, running};
use crate::app::Progress;
use crate::app::config::limits;
use crate::app::containers::create::{self, Blueprint, Making};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::layout::POOL_LAYERS;
use crate::app::instance::{App, layout, lock};
use crate::app::network;
use crate::app::network::Connect;
use crate::app::operations::{self, Procedure, Step};
use crate::app::progress::Bytes;
use crate::app::storage::opened::{Opened, Tree};
use crate::app::storage::{contents, quota, worker};
use crate::model::config::Config;
use crate::model::container::Container;
use crate::model::device::{Device, DeviceKind};
use crate::model::layer::{Chain, LayerId};
use crate::model::name::{ContainerId, Name};
use crate::model::nic::{Nic, NicRequest, Wanted as WantedAddress};
use crate::model::operation::OperationKind;
use crate::model::pool::PoolName;
use crate::model::snapshot::Source;
use crate::sys::fs::copy::{self as file_copy, Marks};
use crate::sys::kernel::random::random;
use crate::sys::process::interrupt;

/// What the user wants.
pub struct CopyRequest {
    pub source: Source,
    /// None: a random name is chosen.
    pub name: Option<Name>,
    /// Keys that differ from the source's.
    pub config: Vec<(String, String)>,
    /// None: as the source's, with free addresses.
    pub connect: Option<Connect>,
    /// The source's snapshots are copied too.
    pub snapshots: bool,
    /// The copy is there already, and becomes what the source is.
    pub refresh: bool,
    /// None: where the source is.
    pub pool: Option<PoolName>,
}

/// What was made.
pub struct Copied {
    pub name: Name,
    /// For how long the source's guest was frozen; none where it does not run.
    pub frozen: Option<Duration>,
}

/// Makes the copy, which is not started. The data is shared until one of both changes it.
pub fn copy(app: &mut App, request: CopyRequest, progress: &dyn Progress) -> AppResult<Copied> {
    interrupt::arm();
    let (source, _lock) = lock::found(app, &request.source.container)?;
    layering::refuse_unfinished(app, &source)?;
    let snapshot = list::of_source(app, &source, &request.source)?;
    let is_running = snapshot.is_none() && layering::is_running(app, &source)?;
    if request.refresh {
        return refresh(
            app,
            &request,
            &source,
            snapshot.map(|snapshot| snapshot.chain),
            is_running,
            progress,
        );
    }
    if request.name.as_ref() == Some(&source.name) {
        return Err(AppError::Store(crate::store::StoreError::NameTaken { name: source.name }));
    }
    let own = snapshot.as_ref().map_or(source.config.own(), |snapshot| &snapshot.config);
    let config = overridden(app, &source, own, &request.config)?;
    let nics = match &request.connect {
        Some(connect) => network::requests(app, connect)?,
        None => source.nics.iter().map(like).collect(),
    };
    let pool = request.pool.clone().unwrap_or_else(|| source.pool.clone());
    app.pool(&pool)?;
    let is_across = pool != source.pool;
    if is_across && request.snapshots {
        return Err(AppError::advised(
            format!("snapshots cannot be copied to another storage pool, {pool}"),
            "leave out --snapshots, or --storage".to_owned(),
        ));
    }
    for device in devices_of_copy(&source) {
        quota::check(app, &pool, &device)?;
    }
    let mut copied = None;
    let mut merged = None;
    let chain = match snapshot.map(|snapshot| snapshot.chain) {
        // Nothing is shared with the source: the copy stands on the template alone.
        chain if is_across => {
            let own = chain.is_none();
            let whole = chain.map_or_else(|| app.store.chain(&source.id), Ok)?;
            let alone = Chain { layers: Vec::new(), ..whole.clone() };
            merged = Some(Merged { chain: whole, own, is_running });
            alone
        }
        Some(chain) => chain,
        None if is_running => {
            let layer = LayerId::from_random(random()?);
            copied = Some(layer.clone());
            app.store.chain(&source.id)?.with(layer)
        }
        None => seal(app, &source, progress)?,
    };
    let snapshots = if request.snapshots { app.store.snapshots(&source.id)? } else { Vec::new() };
    app.expect_storage();
    let id = ContainerId::from_random(random()? as u32);
    let _new_lock = lock::new_container(&app.instance, &id)?;
    let Chain { template, template_name, layers } = chain;
    let top = layers.last().cloned();
    let devices = devices_of_copy(&source);
    let profiles = source.config.profile_names().cloned().collect();
    let blueprint = Blueprint {
        template,
        template_name,
        layers,
        pool,
        snapshots,
        config,
        profiles,
        devices,
        fleet: None,
        start: false,
    };
    let params = serde_json::json!({ "source": request.source });
    let (operation, container) =
        create::insert(app, request.name.as_ref(), &blueprint, &id, &nics, OperationKind::Copy, params)?;
    let name = container.name.clone();
    // Nobody tidies up the pool meanwhile.
    let _work = merged.is_some().then(|| lock::pool_work(&app.instance)).transpose()?;
    let mut copying = Copying {
        making: Making { container, nics, top },
        source,
        copied,
        merged,
        work: operation.as_str().to_owned(),
        progress,
        frozen: None,
    };
    operations::run(app, &operation, &procedure(&steps()), &mut copying)?;
    Ok(Copied { name, frozen: copying.frozen })
}

/// Its own devices are the copy's too. The ports that it has by its profiles lead to it alone.
fn devices_of_copy(source: &Container) -> Vec<Device> {
    let none = |(name, _): (&str, _)| Device { name: name.to_owned(), kind: DeviceKind::None {} };
    source.devices.iter().cloned().chain(source.shared_proxies().into_iter().map(none)).collect()
}

/// Makes what a stopped container has of its own a layer, for others to stand on.
fn seal(app: &mut App, source: &Container, progress: &dyn Progress) -> AppResult<Chain> {
    let wanted = Wanted { kind: OperationKind::Seal, snapshot: None, rebuilt: None, progress };
    let layered = layering::layer(app, source, wanted)?;
    create::write_manifest(app, source)?;
    Ok(layered.chain)
}

/// What a copy in another pool is made of.
struct Merged {
    chain: Chain,
    /// What the source has written since is copied too.
    own: bool,
    is_running: bool,
}

struct Copying<'a> {
    making: Making,
    source: Container,
    /// What the running source has of its own is copied into this layer.
    copied: Option<LayerId>,
    /// What is copied into another pool.
    merged: Option<Merged>,
    /// Names a temporary directory.
    work: String,
    progress: &'a dyn Progress,
    frozen: Option<Duration>,
}

fn steps<'a>() -> [Step<Copying<'a>>; 3] {
    [
        // The layer goes with its row, which goes with the container.
        Step { act: copy_running, undo: discard },
        Step {
            act: |app, copying| create::fill(app, &mut copying.making),
            undo: |app, copying| create::unfill(app, &mut copying.making),
        },
        Step { act: merge, undo: |app, copying| contents::discard(app, &copying.work) },
    ]
}

fn procedure<'s, 'a>(steps: &'s [Step<Copying<'a>>]) -> Procedure<'s, Copying<'a>> {
    Procedure {
        steps,
        finish: |app, id, copying| Ok(app.store.end_making(id, &copying.making.container.id)?),
        give_up: |app, id, copying, why| create::give_up(app, id, &copying.making, why),
        container: |copying| &copying.making.container,
        makes: true,
    }
}

fn copy_running(app: &mut App, copying: &mut Copying<'_>) -> AppResult<()> {
    let Some(layer) = &copying.copied else { return Ok(()) };
    copying.progress.stage(&format!("copying {}", copying.source.name), None);
    let frozen = running::copy(app, &copying.source, &layout::layer_in_pool(layer), copying.progress)?;
    copying.frozen = Some(frozen);
    Ok(())
}

/// Copies all that the source stands on, but for its template, into what the copy has of its own.
fn merge(app: &mut App, copying: &mut Copying<'_>) -> AppResult<()> {
    let Copying { making, source, merged, work, progress, frozen, .. } = copying;
    let Some(Merged { chain, own, is_running }) = merged else { return Ok(()) };
    progress.stage(&format!("copying {} to {}", source.name, making.container.pool), None);
    let own = match (*own, *is_running) {
        (false, _) => None,
        (true, false) => Some(Tree::Own(source.id.clone())),
        (true, true) => {
            let dir = contents::work_dir(work);
            *frozen = Some(running::copy(app, source, &format!("{dir}/upper"), *progress)?);
            Some(Tree::Copy(dir))
        }
    };
    let layers = chain.layers.iter().rev().cloned().map(Tree::Layer);
    let trees = Opened::of(app, &source.pool, own.into_iter().chain(layers))?;
    let kept: Vec<_> = trees.dirs().collect();
    let target = format!("{}/upper", layout::data_in_pool(&making.container.id));
    let mut watch = Bytes::of(*progress, None);
    worker::copying_from(app, &making.container.pool, &kept, &mut watch, |pool, tell| {
        let upper = worker::open_tree(pool, &target)?;
        match trees.open()? {
            none if none.is_empty() => Ok(()),
            trees => file_copy::copy(&trees, &upper, Marks::Kept, tell).map(drop),
        }
    })?;
    match is_running {
        true => contents::discard(app, work),
        false => Ok(()),
    }
}

/// At once, not in the background: the disk may be full.
fn discard(app: &mut App, copying: &mut Copying<'_>) -> AppResult<()> {
    match &copying.copied {
        Some(layer) => contents::delete_in(app, &copying.source.pool, POOL_LAYERS, layer.as_str()),
        None => Ok(()),
    }
}

/// The same interface for another container, with addresses of its own.
fn like(nic: &Nic) -> NicRequest {
    fn wanted<A, B>(address: Option<A>) -> WantedAddress<B> {
        address.map_or(WantedAddress::None, |_| WantedAddress::Auto)
    }
    NicRequest {
        device: nic.device.clone(),
        name: Some(nic.name.clone()),
        kind: nic.kind.clone(),
        mac: None,
        ipv4: wanted(nic.ipv4),
        ipv6: wanted(nic.ipv6),
        outside4: None,
        outside6: None,
        settings: nic.settings.clone(),
    }
}

/// Gives a container that is there the root that the source has, or had.
fn refresh(
    app: &mut App,
    request: &CopyRequest,
    source: &Container,
    chain: Option<Chain>,
    is_running: bool,
    progress: &dyn Progress,
) -> AppResult<Copied> {
    let Some(name) = &request.name else {
        return Err(AppError::advised(
            "the copy that is to be refreshed is not named",
            format!("name it: nagaya copy --refresh {} NAME", request.source),
        ));
    };
    if *name == source.name {
        return Err(AppError::Refused(format!("'{name}' cannot be a copy of itself")));
    }
    let (target, _lock) = lock::found(app, name)?;
    layering::refuse_unfinished(app, &target)?;
    if layering::is_running(app, &target)? {
        return Err(AppError::MustBeStopped(name.clone()));
    }
    let config = overridden(app, &target, target.config.own(), &request.config)?;
    if target.pool != source.pool {
        return Err(AppError::advised(
            format!("'{name}' is in storage pool {}, and '{}' in {}", target.pool, source.name, source.pool),
            format!("copy it anew: nagaya copy {} NEW --storage {}", request.source, target.pool),
        ));
    }
    let chain = match chain {
        Some(chain) => chain,
        None if is_running => {
            return Err(AppError::advised(
                format!("container '{}' is running", source.name),
                format!(
                    "refresh the copy from a snapshot: nagaya snapshot create {0}; nagaya copy --refresh {0}/SNAPSHOT {name}",
                    source.name
                ),
            ));
        }
        None => seal(app, source, progress)?,
    };
    let params = serde_json::json!({ "source": request.source });
    let wanted = Overwrite { container: target, chain, config: Some(config), merged: None };
    overwrite(app, OperationKind::Restore, params, wanted)?;
    Ok(Copied { name: name.clone(), frozen: None })
}

/// `own` with the keys that differ, whose limits are granted with the profiles that `container` uses.
fn overridden(
    app: &App,
    container: &Container,
    own: &Config,
    pairs: &[(String, String)],
) -> AppResult<Config> {
    let mut own = own.clone();
    pairs.iter().try_for_each(|(key, value)| own.set(key, value))?;
    let asked = limits::of(app, container.config.with_own(own.clone()).expanded(), None)?;
    limits::check_granted(app, &asked, |_| true)?;
    Ok(own)
}
