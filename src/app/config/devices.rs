//! `device`: the devices of a container that is there already.

use super::any_device::{AnyDevice, Changed};
use super::{interfaces, proxies, shared};
use crate::app::containers::hot_plug::{self, Seen};
use crate::app::containers::{attached, create, given, state};
use crate::app::error::{AppError, AppResult};
use crate::app::firewall::Caution;
use crate::app::instance::{App, lock};
use crate::app::network;
use crate::app::storage::{quota, volumes};
use crate::model::container::{Container, State};
use crate::model::device::{Device, DeviceType, ROOT_DEVICE};
use crate::model::name::Name;
use crate::model::profile::ProfileName;
use crate::sys::fs::quota::Amount;

/// A device, and the profile that it is of.
pub type Listed = (AnyDevice, Option<ProfileName>);

/// Interfaces by slot, then the others by name: its own and those of its profiles.
pub fn list(app: &App, name: &Name) -> AppResult<Vec<Listed>> {
    let container = app.find(name)?;
    let all = container.all_devices();
    let of_profile =
        |device: &str| all.iter().find(|(other, _)| other.name == device).and_then(|(_, of)| *of);
    let proxies = proxies::of(app, &container)?.into_iter().map(|forward| {
        let profile = of_profile(&forward.device).filter(|_| forward.by_profile).cloned();
        (AnyDevice::Proxy(forward), profile)
    });
    let others = all.iter().filter(|(device, _)| device.has_path());
    let others = others.map(|(device, of)| (AnyDevice::Other((*device).clone()), of.cloned()));
    let masks = container.devices.iter().filter(|device| !device.is_there());
    let masks = masks.map(|device| (AnyDevice::Other(device.clone()), None));
    let nics = container.nics.iter().map(|nic| (AnyDevice::Nic(nic.clone()), None));
    Ok(nics.chain(others).chain(masks).chain(proxies).collect())
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
    if found.has_device(device) || proxies::find(app, &found, device)?.is_some() {
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
        let added = interfaces::add(app, name, device, pairs)?;
        settle_shared(app, &found, device)?;
        return Ok(added.into());
    }
    let (container, _lock) = lock::found(app, name)?;
    let device_name = device;
    let device = Device::of(device, device_type, &network::as_map(pairs))?;
    if device_type == DeviceType::None {
        return mask(app, &container, device);
    }
    given::check(&app.instance, &device)?;
    volumes::check(app, &device)?;
    quota::check(app, &container.pool, &device)?;
    app.store.add_device(&container.id, &device)?;
    let settled = settled(app, name, &container, device);
    if settled.is_err() {
        let device = device_name;
        app.store.remove_device(&container.id, device)?;
        create::write_manifest(app, &app.find(name)?)?;
    }
    settled
}

/// Takes from a container what its profiles have under a name.
fn mask(app: &mut App, container: &Container, none: Device) -> AppResult<Changed> {
    if state::of(app, container) != State::Stopped
        && let Some(given) = attached::device(app, container, &none.name)
    {
        hot_plug::unmount(app, container, &given, false)?;
    }
    app.store.add_device(&container.id, &none)?;
    let now = app.find(&container.name)?;
    let told = create::write_manifest(app, &now)
        .and_then(|()| proxies::follow(app, &now))
        .and_then(|()| quota::follow(app, &now));
    if let Err(e) = told {
        app.store.remove_device(&container.id, &none.name)?;
        create::write_manifest(app, container)?;
        shared::follow(app, container);
        return Err(e);
    }
    Ok(Changed { device: AnyDevice::Other(none), pending: false })
}

/// An interface has come or gone that has the name of a profile's device: that goes, or comes back.
fn settle_shared(app: &mut App, before: &Container, device: &str) -> AppResult<()> {
    let all = before.config.devices(|_| false);
    if all.iter().any(|(_, other)| other.name == device) {
        let (now, _lock) = lock::found(app, &before.name)?;
        proxies::follow_or_tell(app, &now);
        shared::follow(app, &now);
    }
    Ok(())
}

/// Refuses to change a profile's device for one container.
fn refuse_shared(container: &Container, device: &str) -> AppResult<()> {
    let all = container.all_devices();
    let Some((_, Some(profile))) = all.iter().find(|(other, _)| other.name == device) else { return Ok(()) };
    let name = &container.name;
    Err(AppError::advised(
        format!("device '{device}' of '{name}' is of profile '{profile}'"),
        format!(
            "change it for all: nagaya profile device set {profile} {device} KEY=VALUE; or take it from this container: \
             nagaya device add {name} {device} none"
        ),
    ))
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
    if device == ROOT_DEVICE
        && !found.has_device(device)
        && !found.all_devices().iter().any(|(other, _)| other.is_root())
        && proxies::find(app, &found, device)?.is_none()
    {
        // Every container has a root, said or not.
        return add(app, name, device, DeviceType::Disk, pairs, caution);
    }
    if let Some(former) = proxies::find(app, &found, device)? {
        return proxies::set(app, &found, &former, pairs, unset, caution);
    }
    refuse_shared(&found, device)?;
    if !found.devices.iter().any(|other| other.name == device) {
        return interfaces::set(app, name, device, pairs, unset).map(Changed::from);
    }
    hot_plug::prepare(app, &found)?;
    let (container, _lock) = lock::found(app, name)?;
    let former = find(&container, device)?;
    let changed = former.changed(pairs, unset)?;
    given::check(&app.instance, &changed)?;
    volumes::check(app, &changed)?;
    quota::check(app, &container.pool, &changed)?;
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
        return proxies::remove(app, &found, &former);
    }
    refuse_shared(&found, device)?;
    hot_plug::prepare(app, &found)?;
    if !found.devices.iter().any(|other| other.name == device) {
        interfaces::remove(app, name, device)?;
        return settle_shared(app, &found, device);
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
    let now = app.find(name)?;
    create::write_manifest(app, &now)?;
    // What a profile has under its name comes back.
    proxies::follow_or_tell(app, &now);
    shared::follow(app, &now);
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

fn find<'a>(container: &'a Container, device: &str) -> AppResult<&'a Device> {
    container
        .devices
        .iter()
        .find(|other| other.name == device)
        .ok_or_else(|| AppError::NoDevice { container: container.name.clone(), device: device.to_owned() })
}
