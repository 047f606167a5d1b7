//! Proxies: forwards of the firewall's that are devices of a container.

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

/// A container's.
pub fn of(app: &App, container: &Container) -> AppResult<Vec<Forward>> {
    let mut all = firewall::forwards(app)?;
    all.retain(|forward| forward.container == container.name.as_str() && !forward.device.is_empty());
    all.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(all)
}

pub fn find(app: &App, container: &Container, device: &str) -> AppResult<Option<Forward>> {
    Ok(of(app, container)?.into_iter().find(|forward| forward.device == device))
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
    let forward = forward(container, device, pairs)?;
    let shadowed = firewall::add_forward(app, caution, forward.clone())?;
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

pub fn remove(app: &mut App, former: &Forward) -> AppResult<()> {
    firewall::remove_forward(app, &Caution::default(), former).map(drop)
}

fn forward(container: &Container, device: &str, pairs: &[(String, String)]) -> AppResult<Forward> {
    let addresses: Vec<_> = container.nics.iter().flat_map(|nic| nic.addresses()).collect();
    if addresses.is_empty() {
        return Err(AppError::Refused(format!(
            "container '{}' has no address to forward to",
            container.name
        )));
    }
    Ok(proxy::forward(container.name.as_str(), &addresses, device, &network::as_map(pairs))?)
}

fn told(app: &App, shadowed: Vec<String>, forward: Forward) -> AppResult<Changed> {
    shadowed.iter().for_each(|what| (app.tell)(what));
    Ok(Changed { device: AnyDevice::Proxy(forward), pending: false })
}
