//! Giving a container a monitor, as planned.

use std::os::fd::OwnedFd;

use super::plan::StartPlan;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::layout::POOL_LAYERS;
use crate::app::instance::{App, layout};
use crate::app::storage::contents;
use crate::host::api::packet::Descriptors;
use crate::host::api::requests::{DEVICES, Layer, Mount, Spawn, usual_devices};
use crate::host::client::BrokerError;
use crate::model::layer::LayerId;
use crate::model::monitor::place;
use crate::sys::{Context, SysResult};

/// The open files that a monitor gets from its owner.
struct Files {
    config: OwnedFd,
    control: OwnedFd,
    state: OwnedFd,
    logs: [OwnedFd; 2],
    template: OwnedFd,
    /// The directory that the layers above it are in, if there are some.
    layers: Option<OwnedFd>,
    data: OwnedFd,
}

fn open_files(app: &mut App, plan: &StartPlan) -> AppResult<Files> {
    let container = &plan.container;
    let config = plan.config.seal()?;
    let dir = layout::monitor_dir(&app.instance, &container.id);
    std::fs::create_dir_all(&dir).cannot(|| format!("make {}", dir.display()))?;
    let control = listen(&layout::control_socket(&app.instance, &container.id))?;
    // A new record, not the old one's file: a monitor that still has that open must not write here.
    let record = layout::state_record(&app.instance, &container.id);
    let _ = std::fs::remove_file(&record);
    let open = |path: &std::path::Path| -> SysResult<OwnedFd> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(path).map(OwnedFd::from).cannot(|| format!("open {}", path.display()))
    };
    let [log, other_log] = layout::console_logs(&app.instance, &container.id);
    let (tree, data) = (layout::template_in_pool(&container.template), layout::data_in_pool(&container.id));
    let in_pool =
        |pool: &OwnedFd, path: &str| contents::open(pool, path).cannot(|| format!("open {path} in the pool"));
    let template = in_pool(app.templates()?, &tree)?;
    let pool = app.pool(&container.pool)?;
    Ok(Files {
        config,
        control,
        state: open(&record)?,
        logs: [open(&log)?, open(&other_log)?],
        template,
        layers: (!plan.layers.is_empty()).then(|| in_pool(pool, POOL_LAYERS)).transpose()?,
        data: in_pool(pool, &data)?,
    })
}

fn listen(path: &std::path::Path) -> SysResult<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let what = || format!("listen at {}", path.display());
    let _ = std::fs::remove_file(path);
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .cannot(what)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).cannot(what)?).cannot(what)?;
    rustix::net::listen(&socket, 128).cannot(what)?;
    Ok(socket)
}

/// Has the broker start a monitor as planned. The caller holds the container's lock, and has claimed the
/// networks for a start. Returns the process number of the guest's init.
pub fn spawn(app: &mut App, plan: &StartPlan) -> AppResult<i32> {
    let container = &plan.container;
    let name = &container.name;
    let failed = |e: BrokerError| match e {
        BrokerError::Failed(reason) => AppError::Start { name: name.clone(), reason, lack: None },
        BrokerError::Exhausted { lack, reason } => {
            AppError::Start { name: name.clone(), reason, lack: Some(lack) }
        }
        other => other.into(),
    };
    let files = open_files(app, plan)?;
    if plan.adopts().is_none() {
        plan.attached.write(&app.instance, &container.id)?;
    }
    let [log, other_log] = files.logs;
    let mut descriptors = Descriptors::of([
        ("template", files.template),
        (place::DATA_MOUNT, files.data),
        ("config", files.config),
        ("control", files.control),
        ("state", files.state),
        ("log", log),
        ("other-log", other_log),
    ]);
    files.layers.into_iter().for_each(|dir| descriptors.add(POOL_LAYERS, dir));
    let template = Layer { descriptor: "template".to_owned(), name: None };
    let above = |id: &LayerId| Layer { descriptor: POOL_LAYERS.to_owned(), name: Some(id.clone()) };
    let mut given = plan.given.clone();
    let opened = given.open(&app.instance, plan.adopts().is_some())?;
    let mut spawn = Spawn {
        container: container.id.to_string(),
        name: name.to_string(),
        first_id: container.id_range.base(),
        layers: std::iter::once(template).chain(plan.layers.iter().map(above)).collect(),
        mounts: vec![Mount { name: place::DATA_MOUNT.to_owned(), is_read_only: false }],
        devices: usual_devices(),
        nodes: given.nodes,
        disks: given.disks.into_iter().map(|(order, _)| order).collect(),
        nics: plan.orders.clone(),
        adopt: plan.adopts(),
        limits: plan.limits.clone(),
        descriptors,
    };
    spawn.descriptors.pack(DEVICES, opened)?;
    let (_monitor, init) = app.broker.spawn(spawn).map_err(failed)?;
    Ok(init)
}
