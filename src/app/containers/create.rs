//! `launch` and `create`: a new container from a template.

use super::delete;
use super::given;
use super::lifecycle;
use super::running;
use crate::app::Progress;
use crate::app::config::{limits, proxies};
use crate::app::error::AppResult;
use crate::app::images::templates;
use crate::app::instance::App;
use crate::app::instance::{daemonless, later, layout, lock};
use crate::app::network;
use crate::app::network::Connect;
use crate::app::operations::{self, Procedure, Step};
use crate::app::profiles;
use crate::app::storage::{contents, quota, volumes};
use crate::model::config::Config;
use crate::model::container::{Container, NewContainer, Phase};
use crate::model::device::Device;
use crate::model::layer::LayerId;
use crate::model::mac::Mac;
use crate::model::manifest;
use crate::model::manifest::Manifest;
use crate::model::name::{ContainerId, Name};
use crate::model::nic::NicRequest;
use crate::model::operation::{OperationId, OperationKind};
use crate::model::pool::PoolName;
use crate::model::profile::ProfileName;
use crate::model::snapshot::Snapshot;
use crate::model::template::TemplateId;
use crate::model::words;
use crate::store::StoreError;
use crate::sys::fs::atomic_file;
use crate::sys::fs::atomic_file::Lasting;
use crate::sys::kernel::clock::now;
use crate::sys::kernel::random::random;
use crate::sys::{Context, SysResult};

/// What the user wants.
pub struct LaunchRequest {
    pub template: String,
    /// None: a random name is chosen.
    pub name: Option<Name>,
    /// False for `create`.
    pub start: bool,
    pub config: Config,
    pub profiles: Vec<ProfileName>,
    pub connect: Connect,
    /// Devices besides interfaces.
    pub devices: Vec<Device>,
    /// The file that describes it.
    pub fleet: Option<String>,
    /// Where its files are to be.
    pub pool: PoolName,
}

/// Makes the container, and starts it if that is wanted; a missing template is built first. On
/// failure nothing of it is left.
pub fn launch(app: &mut App, request: &LaunchRequest, progress: &dyn Progress) -> AppResult<Name> {
    if request.start {
        // Checked first, so that no template is built in vain.
        daemonless::prepare_start(app)?;
    }
    // Checked before anything is made: the pool, limits that this host cannot enforce, or that are above the grant.
    app.pool(&request.pool)?;
    let config = profiles::expand(app, &request.config, &request.profiles)?;
    let asked = limits::of(app, config.expanded(), None)?;
    limits::check_granted(app, &asked, |_| true)?;
    let is_own = |name: &str| request.devices.iter().any(|device| device.name == name);
    for device in request.devices.iter().chain(config.devices(is_own).into_iter().map(|(_, device)| device)) {
        given::check(&app.instance, device)?;
        volumes::check(app, device)?;
        quota::check(app, &request.pool, device)?;
    }
    let template = templates::ensure(app, &request.template, progress)?;
    let nics = network::requests(app, &request.connect)?;
    app.expect_storage();
    let id = ContainerId::from_random(random()? as u32);
    // Taken before the row exists, so that no other command takes the row for abandoned.
    let _lock = lock::new_container(&app.instance, &id)?;
    let kind = if request.start { OperationKind::Launch } else { OperationKind::Create };
    let blueprint = Blueprint {
        template: template.id,
        template_name: request.template.clone(),
        layers: Vec::new(),
        pool: request.pool.clone(),
        snapshots: Vec::new(),
        config: request.config.clone(),
        devices: request.devices.clone(),
        profiles: request.profiles.clone(),
        fleet: request.fleet.clone(),
        start: request.start,
    };
    let params = serde_json::json!({ "template": request.template });
    let (operation, container) = insert(app, request.name.as_ref(), &blueprint, &id, &nics, kind, params)?;
    let name = container.name.clone();
    let mut making = Making { container, nics, top: None };
    operations::run(app, &operation, procedure(kind), &mut making)?;
    if request.start {
        running::keep(app, &making.container);
    }
    Ok(name)
}

/// What a container is made of, besides its name and its interfaces.
pub struct Blueprint {
    pub template: TemplateId,
    /// The name under which the template was found.
    pub template_name: String,
    /// Those above the template, the lowest first.
    pub layers: Vec<LayerId>,
    /// Where they are, and its own files will be.
    pub pool: PoolName,
    /// Those that it has from its beginning.
    pub snapshots: Vec<Snapshot>,
    /// Its own.
    pub config: Config,
    /// Devices besides interfaces.
    pub devices: Vec<Device>,
    pub profiles: Vec<ProfileName>,
    /// The file that describes it.
    pub fleet: Option<String>,
    /// Whether it is started.
    pub start: bool,
}

/// What the steps share.
pub struct Making {
    pub container: Container,
    /// As they were asked for.
    pub nics: Vec<NicRequest>,
    /// The layer that it stands on, if that is not its template.
    pub top: Option<LayerId>,
}

const FILES: Step<Making> = Step { act: fill, undo: unfill };
const START: Step<Making> = Step {
    act: |app, making| lifecycle::boot(app, &making.container),
    // The broker of a command that was killed may be about to start it, and is waited for.
    undo: |app, making| lifecycle::clear(app, &making.container),
};
const CREATE: Procedure<'static, Making> = Procedure {
    steps: &[FILES],
    finish: |app, id, making| Ok(app.store.end_making(id, &making.container.id)?),
    give_up,
    container: |making| &making.container,
    makes: true,
};
const LAUNCH: Procedure<'static, Making> = Procedure { steps: &[FILES, START], ..CREATE };

fn procedure(kind: OperationKind) -> &'static Procedure<'static, Making> {
    if kind == OperationKind::Launch { &LAUNCH } else { &CREATE }
}

/// Undoes the making of a container whose command was killed.
pub fn undo(
    app: &mut App,
    operation: &OperationId,
    kind: OperationKind,
    container: Container,
    why: &str,
) -> AppResult<()> {
    app.expect_storage();
    operations::undo(
        app,
        operation,
        procedure(kind),
        &mut Making { container, nics: Vec::new(), top: None },
        why,
    )
}

/// Takes name, id range and address, and records the operation, in one transaction.
pub fn insert(
    app: &mut App,
    name: Option<&Name>,
    blueprint: &Blueprint,
    id: &ContainerId,
    nics: &[NicRequest],
    kind: OperationKind,
    params: serde_json::Value,
) -> AppResult<(OperationId, Container)> {
    const TRIES: u32 = 20;
    for attempt in 1.. {
        let drawn_name = match name {
            Some(name) => name.clone(),
            None => words::random_name(random()?),
        };
        let new = NewContainer {
            id: id.clone(),
            name: drawn_name,
            template: blueprint.template.clone(),
            template_name: blueprint.template_name.clone(),
            layers: blueprint.layers.clone(),
            pool: blueprint.pool.clone(),
            snapshots: blueprint.snapshots.clone(),
            uuid: format!("{:016x}{:016x}", random()?, random()?),
            created_at: now(),
            phase: Phase::Creating,
            wanted_up: blueprint.start,
            devices: blueprint.devices.clone(),
            nics: nics.iter().map(with_mac).collect::<SysResult<_>>()?,
            config: blueprint.config.clone(),
            profiles: blueprint.profiles.clone(),
            fleet: blueprint.fleet.clone(),
        };
        let operation = operations::of_container(kind, id, new.name.as_str(), params.clone())?;
        match app.store.begin_making(&new, &operation) {
            // Only what we have drawn ourselves can be drawn again.
            Err(StoreError::NameTaken { .. }) if name.is_none() && attempt < TRIES => {}
            Err(StoreError::MacTaken { mac }) if drawn(nics, mac) && attempt < TRIES => {}
            other => return Ok((operation.id, other?)),
        }
    }
    unreachable!("the last try returns")
}

/// The request with an Ethernet address: its own, or one that is drawn.
pub fn with_mac(request: &NicRequest) -> SysResult<NicRequest> {
    let [a, b, c, d, e, ..] = random()?.to_ne_bytes();
    Ok(NicRequest { mac: Some(request.mac.unwrap_or(Mac::guest([a, b, c, d, e]))), ..request.clone() })
}

/// Whether `mac` was none of those that were asked for.
pub fn drawn(nics: &[NicRequest], mac: Mac) -> bool {
    nics.iter().all(|nic| nic.mac != Some(mac))
}

/// What is left of a container whose making was given up.
pub fn give_up(app: &mut App, id: &OperationId, making: &Making, why: &str) -> AppResult<()> {
    delete::forget(app, id, &making.container, Some(why))
}

/// Removes the container's directories and its manifest.
pub fn unfill(app: &mut App, making: &mut Making) -> AppResult<()> {
    delete::empty(app, &mut making.container)
}

/// The container's directories and its manifest.
pub fn fill(app: &mut App, making: &mut Making) -> AppResult<()> {
    let container = &making.container;
    if container.wanted_up {
        // Not before it is recorded: from then on nobody deletes the networks.
        network::expect(app, &making.nics)?;
    }
    let tree = contents::make_container(app, container, making.top.as_ref())?;
    let dir = layout::container_dir(&app.instance, &container.id);
    std::fs::create_dir_all(&dir).cannot(|| format!("make {}", dir.display()))?;
    write_manifest(app, container)?;
    if !container.shared_proxies().is_empty() {
        proxies::follow(app, container)?;
    }
    tree.finish()
}

/// The manifest of a container, with all that the database knows of it.
fn manifest_of(app: &App, container: &Container) -> AppResult<String> {
    let networks = network::of(app, container)?;
    let layers = app.store.chain(&container.id)?.layers;
    let snapshots = app.store.snapshots(&container.id)?;
    let pool = app.store.pool(&container.pool)?;
    Ok(manifest::to_toml(&Manifest { container: container.clone(), pool, networks, layers, snapshots }))
}

/// Makes the manifest agree with the database. Nobody waits until a manifest is on disk, so one that was
/// written just before a power cut may be empty; and the desired state may have changed.
pub fn renew_manifest(app: &App, container: &Container) -> AppResult<()> {
    let path = layout::manifest(&app.instance, &container.id);
    let wanted = manifest_of(app, container)?;
    match std::fs::read_to_string(&path) {
        Ok(text) if text == wanted => Ok(()),
        _ => write_manifest(app, container),
    }
}

/// Writes the manifest that stands beside the container's data, in place of an older one.
pub fn write_manifest(app: &App, container: &Container) -> AppResult<()> {
    let path = layout::manifest(&app.instance, &container.id);
    if later::has_written(app, &path, manifest::VERSION) {
        return Ok(());
    }
    let text = manifest_of(app, container)?;
    if let (Some(dir), Some(name)) = (path.parent().filter(|_| path.exists()), path.file_name()) {
        // An earlier writer may have been killed.
        atomic_file::sweep(dir, name.to_str());
    }
    atomic_file::replace(&path, text, 0o600, Lasting::UntilPowerCut)?;
    running::renew(app, container);
    Ok(())
}
