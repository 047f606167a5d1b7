//! Proxies: forwards of the firewall's that are devices of a container.

use std::net::IpAddr;

use super::any_device::{AnyDevice, Changed};
use crate::app::error::{AppError, AppResult};
use crate::app::firewall;
use crate::app::firewall::Caution;
use crate::app::instance::App;
use crate::app::network;
use crate::model::container::Container;
use crate::model::device::proxy;
use crate::model::firewall::policy::Forward;
use crate::model::keys::KeyError;
use crate::model::nic::is_device_name;
use crate::model::profile::ProfileName;
use crate::sys::error_text;

/// A container's, also those that it has by its profiles.
pub fn of(app: &App, container: &Container) -> AppResult<Vec<Forward>> {
    let mut all = firewall::forwards_of(app, &container.name)?;
    all.retain(|forward| !forward.device.is_empty());
    all.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(all)
}

/// One of its own.
pub fn find(app: &App, container: &Container, device: &str) -> AppResult<Option<Forward>> {
    let is = |forward: &Forward| forward.device == device && !forward.by_profile;
    Ok(of(app, container)?.into_iter().find(is))
}

/// Refuses that one of its own has the name of a directory or node that its profiles have: of devices of the same
/// name one counts, but these two are kept in different places.
pub fn check_names(app: &App, container: &Container) -> AppResult<()> {
    let shared = container.all_devices().into_iter().filter(|(device, of)| of.is_some() && device.has_path());
    let shared: Vec<_> = shared.collect();
    if shared.is_empty() {
        return Ok(());
    }
    for own in of(app, container)?.into_iter().filter(|forward| !forward.by_profile) {
        if let Some((_, Some(profile))) = shared.iter().find(|(device, _)| device.name == own.device) {
            return Err(name_taken(container, &own.device, profile));
        }
    }
    Ok(())
}

fn name_taken(container: &Container, device: &str, profile: &ProfileName) -> AppError {
    AppError::advised(
        format!(
            "'{}' has a proxy '{device}' of its own, and profile '{profile}' another device of that name",
            container.name
        ),
        "give one of them another name".to_owned(),
    )
}

/// Makes the forwards that a container has by its profiles what these say now: all of them, or none is changed.
pub fn follow(app: &mut App, container: &Container) -> AppResult<()> {
    let shared = container.shared_proxies();
    let (former, own): (Vec<Forward>, Vec<Forward>) =
        of(app, container)?.into_iter().partition(|forward| forward.by_profile);
    let is_own = |name: &str| own.iter().any(|forward| forward.device == name);
    let mut wanted = Vec::new();
    for (device, proxy) in shared.into_iter().filter(|(device, _)| !is_own(device)) {
        wanted.push(proxy.forward(container.name.as_str(), device)?);
    }
    if wanted == former {
        return Ok(());
    }
    if !wanted.is_empty() {
        addresses(container)?;
    }
    let shadowed = firewall::set_shared_forwards(app, &container.name, &wanted)?;
    shadowed.iter().for_each(|what| (app.tell)(what));
    Ok(())
}

/// The same where nothing can be taken back any more.
pub fn follow_or_tell(app: &mut App, container: &Container) {
    if let Err(e) = follow(app, container) {
        let name = &container.name;
        (app.tell)(&format!("'{name}' does not have the ports of its profiles: {}", error_text(&e)));
    }
}

pub fn add(
    app: &mut App,
    container: &Container,
    device: &str,
    pairs: &[(String, String)],
    caution: &Caution,
) -> AppResult<Changed> {
    if !is_device_name(device) {
        let rule = "1 to 32 of a-z, 0-9, '-', '_' and '.', a letter first";
        return Err(KeyError::wrong("device", device, rule).into());
    }
    if let Some((_, Some(profile))) =
        container.all_devices().into_iter().find(|(other, _)| other.name == device && other.has_path())
    {
        return Err(name_taken(container, device, profile));
    }
    let forward = forward(container, device, pairs)?;
    let of_profile = of(app, container)?.into_iter().find(|other| other.device == device);
    let shadowed = match of_profile {
        Some(former) => firewall::replace_forward(app, caution, &former, forward.clone())?,
        None => firewall::add_forward(app, caution, forward.clone())?,
    };
    told(app, shadowed, forward)
}

pub fn set(
    app: &mut App,
    container: &Container,
    former: &Forward,
    pairs: &[(String, String)],
    unset: &[String],
    caution: &Caution,
) -> AppResult<Changed> {
    let mut wanted = proxy::config(former);
    wanted.retain(|key, _| !unset.contains(key));
    wanted.extend(network::as_map(pairs));
    let wanted: Vec<(String, String)> = wanted.into_iter().collect();
    let forward = forward(container, &former.device, &wanted)?;
    let shadowed = firewall::replace_forward(app, caution, former, forward.clone())?;
    told(app, shadowed, forward)
}

/// What a profile has under its name comes back.
pub fn remove(app: &mut App, container: &Container, former: &Forward) -> AppResult<()> {
    firewall::remove_forward(app, &Caution::default(), former)?;
    follow_or_tell(app, container);
    Ok(())
}

fn forward(container: &Container, device: &str, pairs: &[(String, String)]) -> AppResult<Forward> {
    let addresses = addresses(container)?;
    Ok(proxy::forward(container.name.as_str(), &addresses, device, &network::as_map(pairs))?)
}

fn addresses(container: &Container) -> AppResult<Vec<IpAddr>> {
    let addresses: Vec<_> = container.nics.iter().flat_map(|nic| nic.addresses()).collect();
    match addresses.is_empty() {
        false => Ok(addresses),
        true => {
            Err(AppError::Refused(format!("container '{}' has no address to forward to", container.name)))
        }
    }
}

fn told(app: &App, shadowed: Vec<String>, forward: Forward) -> AppResult<Changed> {
    shadowed.iter().for_each(|what| (app.tell)(what));
    Ok(Changed { device: AnyDevice::Proxy(forward), pending: false })
}
