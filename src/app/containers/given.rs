//! What a start gives a guest of the host's besides interfaces: directories and device nodes.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, layout};
use crate::app::storage::pools;
use crate::host::api::requests::{DiskOrder, NodeOrder};
use crate::model::container::Container;
use crate::model::device::{Device, DeviceKind, Disk, DiskSource, UnixChar};
use crate::model::instance::Instance;
use crate::model::monitor::{GuestMount, MountSource, place};
use crate::model::profile::Profile;
use crate::sys::{Context, error_text};

/// All of a container's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// For the monitor, those further up first.
    pub mounts: Vec<GuestMount>,
    /// Each with the directory's path.
    pub disks: Vec<(DiskOrder, String)>,
    pub nodes: Vec<NodeOrder>,
}

impl Given {
    /// # Errors
    /// What the owner cannot give, or the host does not have.
    pub fn of(app: &App, container: &Container) -> AppResult<Self> {
        let mut given = Self::default();
        let mut devices = container.mounted();
        // Of two, the one further up is mounted first.
        devices.sort_by(|a, b| a.path().cmp(b.path()));
        for (number, device) in devices.into_iter().enumerate() {
            check(&app.instance, &device)?;
            given.add(app, &device, number)?;
        }
        Ok(given)
    }

    /// Of one device.
    pub fn one(app: &App, device: &Device) -> AppResult<Self> {
        let mut given = Self::default();
        given.add(app, device, 0)?;
        Ok(given)
    }

    fn add(&mut self, app: &App, device: &Device, number: usize) -> AppResult<()> {
        let (source, required) = match &device.kind {
            DeviceKind::Disk(disk) => match disk.source() {
                DiskSource::Tmpfs => (MountSource::Tmpfs { size: disk.size, readonly: disk.readonly }, true),
                DiskSource::Root => return Ok(()),
                DiskSource::Volume(pool, volume) => {
                    let name = format!("disk-{number}");
                    let path = pools::path(app, pool)?.join(layout::volume_in_pool(volume));
                    let order = DiskOrder { is_volume: true, ..disk_order(&app.instance, disk, &name, None) };
                    self.disks.push((order, path.to_string_lossy().into_owned()));
                    (MountSource::Place(format!("{}/{name}", place::MOUNTS)), disk.required)
                }
                DiskSource::Directory(path) => {
                    let name = format!("disk-{number}");
                    self.disks.push((disk_order(&app.instance, disk, &name, Some(path)), path.to_owned()));
                    (MountSource::Place(format!("{}/{name}", place::MOUNTS)), disk.required)
                }
            },
            DeviceKind::UnixChar(node) if !node.required && !Path::new(&node.source).exists() => {
                return Ok(());
            }
            DeviceKind::UnixChar(node) => {
                let name = format!("node-{number}");
                let (mode, uid, gid) = (node.mode, node.uid, node.gid);
                self.nodes.push(NodeOrder { name: name.clone(), node: node.source.clone(), mode, uid, gid });
                (MountSource::Place(format!("{}/{name}", place::DEVICES)), node.required)
            }
            // Packets are translated, and what is not there is not given.
            DeviceKind::Proxy(_) | DeviceKind::None {} => return Ok(()),
        };
        let (device, path) = (device.name.clone(), device.path().to_owned());
        self.mounts.push(GuestMount { device, path, source, required });
        Ok(())
    }

    /// Opens, with the owner's own rights, what is passed as descriptors; what is missing and may be is left out.
    pub fn open(&mut self, instance: &Instance, is_running: bool) -> AppResult<Vec<(String, OwnedFd)>> {
        let mut opened = Vec::new();
        let mut left_out = Vec::new();
        for (order, path) in self.disks.iter().filter(|(order, _)| order.source.is_none()) {
            // A volume is its owner's guests', and cannot be read by the owner.
            let flags = match order.is_volume {
                true => OFlags::PATH | OFlags::NOFOLLOW,
                false => OFlags::RDONLY | OFlags::NONBLOCK,
            };
            match rustix::fs::open(path.as_str(), flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            {
                Err(e) if is_running || (e == Errno::NOENT && order.may_be_missing) => {
                    left_out.push(order.name.clone())
                }
                other => opened.push((
                    order.name.clone(),
                    other.cannot(|| format!("open {path}, the source of a disk"))?,
                )),
            }
        }
        self.disks.retain(|(order, _)| !left_out.contains(&order.name));
        // Root gives nodes as root; a daemonless owner's are bound as they are.
        let passed = self.nodes.iter().filter(|_| instance.uid_of_user().is_some());
        for order in passed {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let node = rustix::fs::open(order.node.as_str(), flags, Mode::empty());
            opened.push((order.name.clone(), node.cannot(|| format!("open {} for a guest", order.node))?));
        }
        Ok(opened)
    }
}

fn disk_order(instance: &Instance, disk: &Disk, name: &str, path: Option<&str>) -> DiskOrder {
    // Root's containers have what root has named; an ordinary user passes what the user may read.
    let is_roots = instance.uid_of_user().is_none() && !instance.is_daemonless();
    DiskOrder {
        name: name.to_owned(),
        source: path.filter(|_| is_roots).map(str::to_owned),
        is_read_only: disk.readonly,
        shift: disk.shift,
        is_volume: false,
        may_be_missing: !disk.required,
    }
}

/// Refuses a device for which this host lacks something. The checks of `quota` and `volumes` are about the pools.
pub fn check(instance: &Instance, device: &Device) -> AppResult<()> {
    match &device.kind {
        DeviceKind::Disk(disk) if instance.is_daemonless() && disk.shift && disk.directory().is_some() => {
            Err(AppError::advised(
                format!(
                    "disk '{}': without nagaya-hostd the ids of the host's files cannot be mapped",
                    device.name
                ),
                "have the guest see them as they are, most of them as nobody's: shift=false".to_owned(),
            ))
        }
        DeviceKind::UnixChar(UnixChar { source, required: true, .. }) if !Path::new(source).exists() => {
            Err(AppError::advised(
                format!("device '{}': the host has no {source}", device.name),
                "load the kernel's module for it, or let the container start without it: required=false"
                    .to_owned(),
            ))
        }
        _ => Ok(()),
    }
}

/// After `before` has lost a directory: has the broker forget those that nothing uses any more. What is left
/// allowed by a failure goes the next time.
pub fn keep_sources(app: &mut App, before: &Container) {
    let is_roots = app.instance.uid_of_user().is_none() && !app.instance.is_daemonless();
    if is_roots && before.devices.iter().any(|device| directory(device).is_some()) {
        keep_used(app);
    }
}

/// The same after a profile has lost a device.
pub fn keep_sources_of_profiles(app: &mut App) {
    if app.instance.uid_of_user().is_none() && !app.instance.is_daemonless() {
        keep_used(app);
    }
}

/// What profiles name stays allowed while no container uses them, too.
fn keep_used(app: &mut App) {
    let mut keep = || -> AppResult<()> {
        let (containers, profiles) = (app.store.containers()?, app.store.profiles()?);
        let own = containers.iter().flat_map(|container| &container.devices);
        let shared = profiles.iter().flat_map(Profile::devices);
        let used: BTreeSet<&str> = own.chain(shared).filter_map(directory).collect();
        Ok(app.broker.keep_sources(used.into_iter().map(str::to_owned).collect())?)
    };
    if let Err(e) = keep() {
        tracing::warn!("{}", error_text(&e));
    }
}

fn directory(device: &Device) -> Option<&str> {
    device.disk().and_then(Disk::directory)
}
