//! Devices that come to a running guest, or go: the broker makes a mount or a link, and the monitor sees to the guest's
//! part. What the guest has is recorded, so that what waits for its next start can be told.

use std::os::fd::{AsFd, BorrowedFd};

use super::attached::Attached;
use super::given::Given;
use super::{monitor, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::network;
use crate::host::api::packet::Descriptors;
use crate::host::api::requests::LendDevice;
use crate::model::container::{Container, State};
use crate::model::device::Device;
use crate::model::monitor::MountSource;
use crate::model::network::Network;
use crate::model::nic::Nic;
use crate::runtime::protocol::{Request, Unmount};
use crate::sys::error_text;

/// Whether a running guest has seen a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Now,
    /// Its monitor is of an earlier version.
    NextStart,
}

/// Gives the running guest the device. The caller holds the container's lock.
pub fn mount(app: &mut App, container: &Container, device: &Device) -> AppResult<Seen> {
    let mut given = Given::one(app, device)?;
    let opened = given.open(&app.instance, false)?;
    let (disk, node) = (given.disks.pop().map(|(order, _)| order), given.nodes.pop());
    // A directory or node that may be missing is.
    let Some(mount) = given.mounts.pop() else { return record(app, container, device) };
    let is_host = matches!(mount.source, MountSource::Place(_));
    if is_host && disk.is_none() && node.is_none() {
        return record(app, container, device);
    }
    let mut lent = None;
    if is_host {
        let mut lend = LendDevice {
            container: container.id.to_string(),
            first_id: container.id_range.base(),
            disk,
            node,
            descriptors: Descriptors::default(),
        };
        opened.into_iter().for_each(|(name, fd)| lend.descriptors.add(&name, fd));
        lent = app.broker.lend_device(lend)?;
        if lent.is_none() {
            return record(app, container, device);
        }
    }
    let fds: Vec<_> = lent.iter().map(AsFd::as_fd).collect();
    match told(ask(app, container, &Request::Mount(mount), &fds))? {
        Seen::Now => record(app, container, device),
        later => Ok(later),
    }
}

/// Takes the device, as it was given, away from the running guest. With `force`, programs that use it keep it until they
/// end.
pub fn unmount(app: &mut App, container: &Container, given: &Device, force: bool) -> AppResult<()> {
    let (device, path) = (given.name.clone(), given.path().to_owned());
    let request = Request::Unmount(Unmount { device, path: path.clone(), force });
    let asked = ask(app, container, &request, &[]);
    let name = &container.name;
    let seen = told(asked).map_err(|e| match e {
        AppError::Monitor { reason, .. } if reason.contains("busy") => AppError::advised(
            format!("device '{}' cannot be removed: something in '{name}' uses {path}", given.name),
            format!(
                "see what it is, with 'nagaya exec {name} -- fuser -vm {path}'; --force takes it away from all that \
                 does not use it yet"
            ),
        ),
        other => other,
    })?;
    if seen == Seen::NextStart {
        return Err(AppError::MustBeStopped(name.clone()));
    }
    forget(app, container, &given.name)
}

/// Gives the running guest the interface of this device, which is stored and which the firewall knows of.
pub fn attach(app: &mut App, container: &Container, device: &str) -> AppResult<Seen> {
    let networks = network::of(app, container)?;
    let order = network::orders(container, &networks).into_iter().find(|order| order.nic.device == device);
    let none = || AppError::NoDevice { container: container.name.clone(), device: device.to_owned() };
    let order = order.ok_or_else(none)?;
    let own: Vec<Network> =
        networks.into_iter().filter(|network| order.nic.network() == Some(&network.name)).collect();
    network::ensure(app, &own)?;
    network::answer_for(app, &own);
    app.broker.attach_link(container.id.as_str(), &order)?;
    let mut nic = order.nic.clone();
    nic.settings.mtu = order.mtu;
    let seen = told(ask(app, container, &Request::SetUp(nic), &[]));
    if !matches!(seen, Ok(Seen::Now)) {
        app.broker.detach_link(container.id.as_str(), order.nic.slot)?;
        return seen;
    }
    change_record(app, container, |given| {
        given.nics.retain(|other| other.nic.slot != order.nic.slot);
        given.nics.push(order.clone());
        given.nics.sort_by_key(|order| order.nic.slot);
    })
}

/// Takes an interface away from the running guest.
pub fn detach(app: &mut App, container: &Container, nic: &Nic) -> AppResult<()> {
    app.broker.detach_link(container.id.as_str(), nic.slot)?;
    // One of an earlier version finds at the guest's next boot that the link is gone.
    told(ask(app, container, &Request::Forget(nic.device.clone()), &[]))?;
    change_record(app, container, |given| given.nics.retain(|other| other.nic.device != nic.device)).map(drop)
}

/// A guest that has lost its monitor gets a new one, which the lock of the container is for: so before the caller takes
/// it. Nothing is done for a container that is stopped.
pub fn prepare(app: &mut App, container: &Container) -> AppResult<()> {
    match state::of(app, container) {
        State::Stopped => Ok(()),
        _ => monitor::connect(app, container).map(drop),
    }
}

fn ask(app: &App, container: &Container, request: &Request, fds: &[BorrowedFd<'_>]) -> AppResult<()> {
    let Some(connection) = monitor::try_connect(&app.instance, &container.id, &container.name) else {
        let reason = "it has ended just now; type the command again".to_owned();
        return Err(AppError::Monitor { name: container.name.clone(), reason });
    };
    connection.ask(request, fds)
}

/// A monitor of an earlier version does not know the request.
fn told(asked: AppResult<()>) -> AppResult<Seen> {
    match asked {
        Ok(_) => Ok(Seen::Now),
        Err(e) if monitor::is_unknown(&e) => Ok(Seen::NextStart),
        Err(e) => Err(e),
    }
}

/// The guest has the device now.
fn record(app: &App, container: &Container, device: &Device) -> AppResult<Seen> {
    change_record(app, container, |given| {
        given.devices.retain(|other| other.name != device.name);
        given.devices.push(device.clone());
    })
}

fn forget(app: &App, container: &Container, device: &str) -> AppResult<()> {
    change_record(app, container, |given| given.devices.retain(|other| other.name != device)).map(drop)
}

/// The record of what the guest has.
fn change_record(app: &App, container: &Container, change: impl FnOnce(&mut Attached)) -> AppResult<Seen> {
    if let Some(mut given) = Attached::read(&app.instance, &container.id) {
        change(&mut given);
        if let Err(e) = given.write(&app.instance, &container.id) {
            // What waits is told wrongly; what the guest has is so all the same.
            tracing::warn!("{}", error_text(&e));
        }
    }
    Ok(Seen::Now)
}
