//! `device`: the devices of a container that is there already.

use super::any_device::{AnyDevice, Changed};
use super::{interfaces, proxies};
use crate::app::containers::hot_plug::{self, Seen};
use crate::app::containers::{attached, create, given, state};
use crate::app::error::{AppError, AppResult};
use crate::app::firewall::Caution;
use crate::app::instance::{App, lock};
use crate::app::network;
use crate::app::storage::quota;
use crate::model::container::{Container, State};
use crate::model::device::{Device, DeviceType, ROOT_DEVICE};
use crate::model::name::Name;
use crate::sys::fs::quota::Amount;

/// Interfaces by slot, then the others by name.
pub fn list(app: &App, name: &Name) -> AppResult<Vec<AnyDevice>> {
    let container = app.find(name)?;
    let proxies = proxies::of(app, &container)?.into_iter().map(AnyDevice::Proxy);
    let Container { nics, devices, .. } = container;
    let others = devices.into_iter().map(AnyDevice::Other);
    Ok(nics.into_iter().map(AnyDevice::Nic).chain(others).chain(proxies).collect())
}

/// Gives the container one more device.
pub fn add(
    app: &mut App,
    name: &Name,
    device: &str,
    device_type: DeviceType,
    pairs: &[(String, String)],
    caution: &Caution,
) -> AppResult<Changed> {
    let found = app.find(name)?;
    if has(&found, device) || proxies::find(app, &found, device)?.is_some() {
        return Err(AppError::advised(
            format!("container '{name}' has a device '{device}' already"),
            format!("choose another name, or change it: nagaya device set {name} {device} KEY=VALUE"),
        ));
    }
    if device_type == DeviceType::Proxy {
        return proxies::add(app, &found, device, pairs, caution);
    }
    hot_plug::prepare(app, &found)?;
    if device_type == DeviceType::Nic {
        return interfaces::add(app, name, device, pairs).map(Changed::from);
    }
    let (container, _lock) = lock::found(app, name)?;
    let device_name = device;
    let device = Device::of(device, device_type, &network::as_map(pairs))?;
    given::check(&app.instance, &device)?;
    app.store.add_device(&container.id, &device)?;
    let settled = settled(app, name, &container, device);
    if settled.is_err() {
        let device = device_name;
        app.store.remove_device(&container.id, device)?;
        create::write_manifest(app, &app.find(name)?)?;
    }
    settled
}

/// Changes keys of a device; those of `unset` get their defaults.
pub fn set(
    app: &mut App,
    name: &Name,
    device: &str,
    pairs: &[(String, String)],
    unset: &[String],
    caution: &Caution,
) -> AppResult<Changed> {
    let found = app.find(name)?;
    if device == ROOT_DEVICE && !has(&found, device) && !found.devices.iter().any(Device::is_root) {
        // Every container has a root, said or not.
        return add(app, name, device, DeviceType::Disk, pairs, caution);
    }
    if let Some(former) = proxies::find(app, &found, device)? {
        return proxies::set(app, &found, &former, pairs, unset, caution);
    }
    if !found.devices.iter().any(|other| other.name == device) {
        return interfaces::set(app, name, device, pairs, unset).map(Changed::from);
    }
    hot_plug::prepare(app, &found)?;
    let (container, _lock) = lock::found(app, name)?;
    let former = find(&container, device)?;
    let changed = former.changed(pairs, unset)?;
    given::check(&app.instance, &changed)?;
    app.store.set_device(&container.id, &changed)?;
    let settled = settled(app, name, &container, changed);
    if settled.is_err() {
        app.store.set_device(&container.id, former)?;
        create::write_manifest(app, &app.find(name)?)?;
    }
    settled
}

/// Removes a device. With `force`, programs in the guest that use it keep it until they end.
pub fn remove(app: &mut App, name: &Name, device: &str, force: bool) -> AppResult<()> {
    let found = app.find(name)?;
    if let Some(former) = proxies::find(app, &found, device)? {
        return proxies::remove(app, &former);
    }
    hot_plug::prepare(app, &found)?;
    if !found.devices.iter().any(|other| other.name == device) {
        return interfaces::remove(app, name, device);
    }
    let (container, _lock) = lock::found(app, name)?;
    if find(&container, device)?.is_root() {
        quota::change(app, &container, Amount::default())?;
    } else if state::of(app, &container) != State::Stopped
        && let Some(given) = attached::device(app, &container, device)
    {
        hot_plug::unmount(app, &container, &given, force)?;
    }
    app.store.remove_device(&container.id, device)?;
    create::write_manifest(app, &app.find(name)?)?;
    given::keep_sources(app, &container);
    Ok(())
}

/// After a device was stored: a running guest gets one that it does not have. One that it has stays as it is until the
/// next start.
fn settled(app: &mut App, name: &Name, before: &Container, device: Device) -> AppResult<Changed> {
    let now = app.find(name)?;
    create::write_manifest(app, &now)?;
    if device.is_root() {
        quota::change(app, &now, quota::wanted(&now))?;
        return Ok(Changed { device: AnyDevice::Other(device), pending: false });
    }
    let pending = match state::of(app, &now) {
        State::Stopped => false,
        _ => match attached::device(app, &now, &device.name) {
            Some(given) => given != device,
            None => hot_plug::mount(app, &now, &device)? == Seen::NextStart,
        },
    };
    given::keep_sources(app, before);
    Ok(Changed { device: AnyDevice::Other(device), pending })
}

fn has(container: &Container, device: &str) -> bool {
    container.nics.iter().any(|nic| nic.device == device)
        || container.devices.iter().any(|other| other.name == device)
}

fn find<'a>(container: &'a Container, device: &str) -> AppResult<&'a Device> {
    container
        .devices
        .iter()
        .find(|other| other.name == device)
        .ok_or_else(|| AppError::NoDevice { container: container.name.clone(), device: device.to_owned() })
}
