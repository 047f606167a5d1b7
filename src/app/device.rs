//! `device`: the interfaces of a container that is there already.

use std::collections::BTreeMap;

use super::context::App;
use super::error::{AppError, AppResult};
use super::launch::{self, drawn, with_mac};
use super::{attached, firewall, lock, network, state};
use crate::model::container::{Container, State};
use crate::model::name::Name;
use crate::model::nic::{Nic, NicKind, NicOrder, NicRequest, Wanted};
use crate::store::StoreError;
use crate::sys::sysctl;

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub nic: Nic,
    /// The container runs and sees it at its next start only.
    pub pending: bool,
}

/// The interfaces, by slot.
pub fn list(app: &App, name: &Name) -> AppResult<Vec<Nic>> {
    Ok(app.find(name)?.nics)
}

/// Gives the container one more interface.
pub fn add(app: &mut App, name: &Name, device: &str, pairs: &[(String, String)]) -> AppResult<Changed> {
    let (container, _lock) = lock::found(app, name)?;
    if container.nics.iter().any(|nic| nic.device == device) {
        return Err(AppError::advised(
            format!("container '{name}' has a device '{device}' already"),
            format!("choose another name, or change it: nagaya device set {name} {device} KEY=VALUE"),
        ));
    }
    let wanted = network::as_map(pairs);
    let default = default_network(app, &wanted)?;
    let request = NicRequest::of(device, &wanted, &default)?;
    check(app, &request)?;
    let (nic, note) = store(app, &request, |app, request| app.store.add_nic(&container.id, request))?;
    let written = app.find(name).and_then(|changed| launch::write_manifest(app, &changed));
    if let Err(e) = written.and_then(|()| tell_firewall(app, name, &container.nics)) {
        app.store.remove_nic(&container.id, device)?;
        launch::write_manifest(app, &app.find(name)?)?;
        return Err(e);
    }
    note.take_back();
    Ok(Changed { nic, pending: state::of(app, &container) != State::Stopped })
}

/// Changes keys of an interface; those of `unset` get their defaults.
pub fn set(
    app: &mut App,
    name: &Name,
    device: &str,
    pairs: &[(String, String)],
    unset: &[String],
) -> AppResult<Changed> {
    let (container, _lock) = lock::found(app, name)?;
    let old = find(&container, device)?.clone();
    let mut wanted = old.config();
    // Elsewhere it has another address, unless one is asked for.
    if pairs.iter().any(|(key, _)| matches!(key.as_str(), "network" | "nictype" | "parent")) {
        for key in ["ipv4.address", "ipv6.address", "ipv4.gateway", "ipv6.gateway"] {
            wanted.remove(key);
        }
    }
    for key in unset {
        wanted.remove(key);
        if pairs.is_empty() && !old.config().contains_key(key) {
            return Err(AppError::Refused(format!("{key} is not set")));
        }
    }
    wanted.extend(network::as_map(pairs));
    let default = default_network(app, &wanted)?;
    let request = NicRequest::of(device, &wanted, &default)?;
    check(app, &request)?;
    let (nic, note) = store(app, &request, |app, request| app.store.set_nic(&container.id, request))?;
    let lives = state::of(app, &container) != State::Stopped;
    let settled = settle(app, name, &container, &old, &nic, lives);
    if let Err(e) = settled.and_then(|()| tell_firewall(app, name, &container.nics)) {
        let back = NicRequest::of(device, &old.config(), &default)?;
        app.store.set_nic(&container.id, &back)?;
        launch::write_manifest(app, &app.find(name)?)?;
        return Err(e);
    }
    note.take_back();
    let pending = lives && !attached::is_as_started(app, &app.find(name)?, device)?;
    Ok(Changed { nic, pending })
}

/// Tells the firewall which interfaces the container has now. An ordinary user's is put in place for
/// that, for its broker says whether the grant holds the addresses.
fn tell_firewall(app: &mut App, name: &Name, before: &[Nic]) -> AppResult<()> {
    match app.instance.person().is_some() && !app.broker.firewall_in_place()? {
        true => firewall::apply_all(app),
        false => firewall::changed(app, name, before),
    }
}

/// The network of an interface that names none; made up if it is needed.
fn default_network(app: &mut App, wanted: &BTreeMap<String, String>) -> AppResult<String> {
    let elsewhere = wanted.get("nictype").is_some_and(|kind| kind != "bridged");
    match elsewhere || wanted.contains_key("network") {
        true => Ok(app.instance.bridge()),
        false => Ok(network::ensure_default(app, None)?.name),
    }
}

/// What a running container can have at once it gets.
fn settle(
    app: &mut App,
    name: &Name,
    container: &Container,
    old: &Nic,
    nic: &Nic,
    lives: bool,
) -> AppResult<()> {
    let changed = app.find(name)?;
    let now = |nic: &Nic| (nic.settings.ingress, nic.settings.egress, nic.settings.port_isolation);
    if lives && now(old) != now(nic) {
        // One that waits for the next start is not there yet.
        let (orders, _) = attached::orders(app, &changed)?;
        let here = |order: &NicOrder| order.nic.device == nic.device && order.nic.has_host_end();
        if let Some(order) = orders.into_iter().find(here) {
            app.broker.adjust_link(container.id.as_str(), &order)?;
        }
    }
    launch::write_manifest(app, &changed)
}

/// Takes an interface from a container that is stopped, or that has yet to get it.
pub fn remove(app: &mut App, name: &Name, device: &str) -> AppResult<()> {
    let (container, _lock) = lock::found(app, name)?;
    let nic = find(&container, device)?;
    if state::of(app, &container) != State::Stopped && attached::has(app, &container, nic) {
        // Its address would be given away while the guest still has it.
        return Err(AppError::MustBeStopped(name.clone()));
    }
    let (note, _) = firewall::expect(app).of(app.store.remove_nic(&container.id, device))?;
    firewall::changed(app, name, &container.nics)?;
    note.take_back();
    launch::write_manifest(app, &app.find(name)?)
}

fn find<'a>(container: &'a Container, device: &str) -> AppResult<&'a Nic> {
    container
        .nics
        .iter()
        .find(|nic| nic.device == device)
        .ok_or_else(|| AppError::NoDevice { container: container.name.clone(), device: device.to_owned() })
}

/// What the database cannot know: whether the host has the parent.
fn check(app: &App, request: &NicRequest) -> AppResult<()> {
    if request.kind == NicKind::Routed && matches!(request.ipv6, Wanted::At(_)) && !sysctl::has_ipv6() {
        return Err(AppError::NoIpv6);
    }
    match &request.kind {
        NicKind::Bridged { network } => network::find(app, network).map(drop),
        NicKind::Macvlan { parent } if app.instance.is_private() => Err(AppError::Refused(format!(
            "without a broker on the host there is no '{parent}' to share: see 'nagaya doctor'"
        ))),
        NicKind::Macvlan { parent } if !std::path::Path::new("/sys/class/net").join(parent).exists() => {
            Err(AppError::Refused(format!("parent: the host has no interface '{parent}'")))
        }
        _ => Ok(()),
    }
}

/// Stores with Ethernet addresses that are drawn until one is free, and notes that the firewall is to follow.
fn store(
    app: &mut App,
    request: &NicRequest,
    mut put: impl FnMut(&mut App, &NicRequest) -> Result<Nic, StoreError>,
) -> AppResult<(Nic, firewall::Note)> {
    const TRIES: u32 = 20;
    let note = firewall::expect(app);
    for attempt in 1.. {
        match put(app, &with_mac(request)?) {
            Err(StoreError::MacTaken { mac })
                if drawn(std::slice::from_ref(request), mac) && attempt < TRIES => {}
            stored => {
                let (note, nic) = note.of(stored)?;
                return Ok((nic, note));
            }
        }
    }
    unreachable!("the last try returns")
}
