//! The interfaces of a container that is there already.

use std::collections::BTreeMap;

use super::any_device::{self, AnyDevice};
use crate::app::containers::attached::{self, Attached};
use crate::app::containers::create;
use crate::app::containers::create::{drawn, with_mac};
use crate::app::containers::hot_plug::{self, Seen};
use crate::app::containers::state;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::app::{firewall, network};
use crate::model::container::{Container, State};
use crate::model::name::Name;
use crate::model::nic::{Nic, NicKind, NicOrder, NicRequest, Wanted};
use crate::store::StoreError;
use crate::sys::net::sysctl;

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub nic: Nic,
    /// The container runs and sees it at its next start only.
    pub pending: bool,
}

impl From<Changed> for any_device::Changed {
    fn from(Changed { nic, pending }: Changed) -> Self {
        Self { device: AnyDevice::Nic(nic), pending }
    }
}

/// Gives the container one more interface.
pub fn add(app: &mut App, name: &Name, device: &str, pairs: &[(String, String)]) -> AppResult<Changed> {
    let (container, _lock) = lock::found(app, name)?;
    let wanted = network::as_map(pairs);
    let default = default_network(app, &wanted)?;
    let request = NicRequest::of(device, &wanted, &default)?;
    check(app, &request)?;
    let (nic, note) = store(app, &request, |app, request| app.store.add_nic(&container.id, request))?;
    let written = app.find(name).and_then(|changed| create::write_manifest(app, &changed));
    let plugged = written.and_then(|()| tell_firewall(app, name, &container.nics)).and_then(|()| {
        let now = app.find(name)?;
        match state::of(app, &now) {
            State::Stopped => Ok(Seen::Now),
            _ => hot_plug::attach(app, &now, device),
        }
    });
    let seen = match plugged {
        Ok(seen) => seen,
        Err(e) => {
            app.store.remove_nic(&container.id, device)?;
            create::write_manifest(app, &app.find(name)?)?;
            return Err(e);
        }
    };
    note.take_back();
    Ok(Changed { nic, pending: seen == Seen::NextStart })
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
    // On another network it gets another address, unless the user asks for one.
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
        create::write_manifest(app, &app.find(name)?)?;
        return Err(e);
    }
    note.take_back();
    let pending = lives && !attached::is_as_started(app, &app.find(name)?, device)?;
    Ok(Changed { nic, pending })
}

/// Tells the firewall which interfaces the container has now. An ordinary user's firewall is put in place
/// for that, because its broker checks whether the grant allows the addresses.
fn tell_firewall(app: &mut App, name: &Name, before: &[Nic]) -> AppResult<()> {
    match app.instance.uid_of_user().is_some() && !app.broker.firewall_in_place()? {
        true => firewall::apply_all(app),
        false => firewall::changed(app, name, before),
    }
}

/// The network of an interface that names none: the instance's own, which is made if it does not exist.
fn default_network(app: &mut App, wanted: &BTreeMap<String, String>) -> AppResult<String> {
    let elsewhere = wanted.get("nictype").is_some_and(|kind| kind != "bridged");
    match elsewhere || wanted.contains_key("network") {
        true => Ok(app.instance.bridge()),
        false => Ok(network::ensure_default(app, None)?.name),
    }
}

/// Gives a running container what takes effect at once.
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
        // An interface that waits for the next start does not exist yet.
        let (orders, _) = attached::orders(app, &changed)?;
        let here = |order: &NicOrder| order.nic.device == nic.device && order.nic.has_host_end();
        if let Some(order) = orders.into_iter().find(here) {
            app.broker.adjust_link(container.id.as_str(), &order)?;
        }
    }
    create::write_manifest(app, &changed)
}

/// Removes an interface. A running container loses it first: another could get the address while its guest still has
/// it.
pub fn remove(app: &mut App, name: &Name, device: &str) -> AppResult<()> {
    let (container, _lock) = lock::found(app, name)?;
    let nic = find(&container, device)?;
    if state::of(app, &container) != State::Stopped {
        // A macvlan is the guest's alone, and what an earlier version started has no record.
        let is_known = Attached::read(&app.instance, &container.id).is_some();
        if attached::has(app, &container, nic) && !(is_known && nic.has_host_end()) {
            return Err(AppError::MustBeStopped(name.clone()));
        }
        // A command that was killed may have given it to the guest and not recorded that.
        if nic.has_host_end() {
            hot_plug::detach(app, &container, nic)?;
        }
    }
    let (note, _) = firewall::expect(app).of(app.store.remove_nic(&container.id, device))?;
    firewall::changed(app, name, &container.nics)?;
    note.take_back();
    create::write_manifest(app, &app.find(name)?)
}

fn find<'a>(container: &'a Container, device: &str) -> AppResult<&'a Nic> {
    container
        .nics
        .iter()
        .find(|nic| nic.device == device)
        .ok_or_else(|| AppError::NoDevice { container: container.name.clone(), device: device.to_owned() })
}

/// Checks what the database cannot know: whether the host has the parent interface.
fn check(app: &App, request: &NicRequest) -> AppResult<()> {
    if request.kind == NicKind::Routed && matches!(request.ipv6, Wanted::At(_)) && !sysctl::has_ipv6() {
        return Err(AppError::NoIpv6);
    }
    match &request.kind {
        NicKind::Bridged { network } => network::find(app, network).map(drop),
        NicKind::Macvlan { parent } if app.instance.is_daemonless() => Err(AppError::Refused(format!(
            "without a broker on the host there is no '{parent}' to share: see 'nagaya doctor'"
        ))),
        NicKind::Macvlan { parent } if !std::path::Path::new("/sys/class/net").join(parent).exists() => {
            Err(AppError::Refused(format!("parent: the host has no interface '{parent}'")))
        }
        _ => Ok(()),
    }
}

/// Stores the interface, drawing Ethernet addresses until one is free, and notes that the firewall has to
/// follow.
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
