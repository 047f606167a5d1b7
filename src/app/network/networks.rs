//! `network`: bridges and their subnets, and which of them a container is on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::Ipv4Network;

use super::answers::answer;
use super::lookup::{find, is_up, show, users_of};
use super::subnets::Used;
use crate::app::containers::{attached, state};
use crate::app::error::{AppError, AppResult};
use crate::app::firewall;
use crate::app::instance::App;
use crate::host::client::BrokerError;
use crate::model::container::State;
use crate::model::keys::KeyError;
use crate::model::name::Name;
use crate::model::network::{DEFAULT_MTU, Network};
use crate::model::nic::{NicOrder, NicRequest, Wanted};
use crate::store::StoreError;
use crate::sys::net::sysctl;

/// Which networks a new container is to be on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connect {
    /// One interface for each. Empty: the instance's own network. `none`: no network at all.
    pub networks: Vec<String>,
    /// Each goes to the first of the networks whose subnet has it.
    pub addresses: Vec<IpAddr>,
}

/// The instance's own network, made if it does not exist: with `wanted` as the host's address, else with a
/// private subnet that the host does not use.
pub fn ensure_default(app: &mut App, wanted: Option<Ipv4Network>) -> AppResult<Network> {
    let name = app.instance.bridge();
    if let Some(network) = app.store.network(&name)? {
        return match wanted {
            Some(wanted) if Some(wanted) != network.ipv4 => {
                let has = network.ipv4.map_or_else(|| "no IPv4".to_owned(), |net| net.to_string());
                Err(AppError::Refused(format!("network '{name}' exists already, with {has}")))
            }
            _ => Ok(network),
        };
    }
    let used = Used::now(None)?;
    let ipv4 = match wanted {
        None => used.free4(&name)?,
        Some(wanted) => {
            check_wanted(wanted)?;
            used.check(wanted.into())?;
            wanted
        }
    };
    let network = Network::new(&name, &name, Some(ipv4), used.free6()?);
    // Another command may have been quicker: what is stored counts.
    match app.store.add_network(&network) {
        Ok(()) | Err(StoreError::NetworkTaken { .. }) if wanted.is_none() => {}
        other => other?,
    }
    let network = app.store.network(&name)?.unwrap_or(network);
    // The broker refuses a whole firewall that names a network which the claims registry does not have as
    // this user's.
    if app.instance.uid_of_user().is_some()
        && let Err(e) = app.broker.ensure_network(&network)
    {
        app.store.delete_network(&name)?;
        return Err(e.into());
    }
    Ok(network)
}

fn check_wanted(wanted: Ipv4Network) -> AppResult<()> {
    if !wanted.ip().is_private() || !(8..=29).contains(&wanted.prefix()) {
        return Err(AppError::Refused(format!("{wanted} is not a private subnet of /8 to /29")));
    }
    if wanted.ip() == wanted.network() || wanted.ip() == wanted.broadcast() {
        let first = wanted.nth(1).unwrap_or_else(|| wanted.ip());
        return Err(AppError::Refused(format!(
            "{wanted} names no address for the host; try {first}/{}",
            wanted.prefix()
        )));
    }
    Ok(())
}

/// Makes a network, and its bridge at once.
pub fn create(app: &mut App, name: &str, pairs: &[(String, String)]) -> AppResult<Network> {
    let get = |key: &str| pairs.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let parent = get("parent").filter(|parent| !parent.is_empty());
    if app.store.network(name)?.is_some() {
        return Err(StoreError::NetworkTaken { name: name.to_owned() }.into());
    }
    let bridge = match parent {
        Some(parent) => parent.to_owned(),
        None => bridge_for(app, name)?,
    };
    let used = Used::now(None)?;
    let mut network = Network::new(name, &bridge, None, None);
    network.foreign = parent.is_some();
    let auto = |key: &str| get(key).map_or(!network.foreign, |value| value == "auto");
    let (auto4, auto6) = (auto("ipv4.address"), auto("ipv6.address"));
    if auto4 {
        network = Network { ipv4: Some(used.free4(name)?), ..network };
    }
    if auto6 {
        network = Network { ipv6: used.free6()?, ..network };
    }
    let settled = |key: &str| key == "parent" || (key.ends_with(".address") && get(key) == Some("auto"));
    for (key, value) in pairs.iter().filter(|(key, _)| !settled(key)) {
        network.set(key, value)?;
    }
    // By default the network is translated, with subnets that nobody else uses.
    for (key, wanted) in [
        ("ipv4.nat", network.ipv4.is_some_and(|net| net.ip().is_private())),
        ("ipv6.nat", network.ipv6.is_some_and(|net| net.ip().is_unique_local())),
    ] {
        if get(key).is_none() && get(&format!("{key}.address")).is_none() && wanted && !network.foreign {
            network.set(key, "true")?;
        }
    }
    network.check()?;
    check_families(&network)?;
    check_name(app, &network)?;
    // Checked first: "another network has the subnet" tells the user more than "the host has it".
    let (note, ()) = firewall::expect(app).of(app.store.add_network_anew(&network))?;
    if let Err(e) = if network.foreign { Ok(()) } else { used.check_both(&network) } {
        app.store.delete_network(name)?;
        note.take_back();
        return Err(e);
    }
    let made = app.broker.ensure_network(&network).map_err(AppError::from);
    let made = made.and_then(|_| if network.wants_dnsmasq() { answer(app, &network) } else { Ok(()) });
    let made = made.and_then(|()| firewall::apply_all(app));
    if let Err(e) = made {
        match app.broker.remove_network(&network) {
            // The bridge may have been made; with another broker the network can be deleted.
            Err(BrokerError::Unreachable(_)) => return Err(e),
            Err(undo) => tracing::warn!("something of network '{name}' is left: {undo}"),
            Ok(()) => {}
        }
        app.store.delete_network(name)?;
        return Err(e);
    }
    note.take_back();
    Ok(network)
}

/// Refuses what the kernel would refuse in its own words.
fn check_families(network: &Network) -> AppResult<()> {
    match network.ipv6 {
        Some(_) if !network.foreign && !sysctl::has_ipv6() => Err(AppError::NoIpv6),
        _ => Ok(()),
    }
}

/// The bridge's name for a new network: the network's name or, for an ordinary user, a name that contains
/// the owner.
fn bridge_for(app: &App, name: &str) -> AppResult<String> {
    let taken: Vec<String> = app.store.networks()?.into_iter().map(|network| network.bridge).collect();
    let free = app.instance.bridges(name).find(|bridge| !taken.contains(bridge));
    free.ok_or_else(|| AppError::Refused("you have as many networks as there can be".to_owned()))
}

fn check_name(app: &App, network: &Network) -> AppResult<()> {
    let reserved = ["none", "host", "lo", "default"].contains(&network.name.as_str());
    let foreign_link = !network.foreign && !app.instance.may_be_bridge(&network.bridge);
    if reserved || foreign_link {
        return Err(
            KeyError::wrong("name", &network.name, "another name: this one means something else").into()
        );
    }
    Ok(())
}

/// Changes keys of a network, all or none; its bridge is changed at once. Returns also the running
/// containers that see it at their next start only.
pub fn set(app: &mut App, name: &str, pairs: &[(String, String)]) -> AppResult<(Network, Vec<Name>)> {
    let old = find(app, name)?;
    let mut network = old.clone();
    let used = Used::now(Some(&old.bridge))?;
    for (key, value) in pairs {
        match (key.as_str(), value.as_str()) {
            ("ipv4.address", "auto") if network.ipv4.is_some() => {}
            ("ipv6.address", "auto") if network.ipv6.is_some() => {}
            ("ipv4.address", "auto") => network.ipv4 = Some(used.free4(name)?),
            ("ipv6.address", "auto") => network.ipv6 = used.free6()?,
            (key, value) => network.set(key, value)?,
        }
    }
    if network == old {
        return Ok((network, Vec::new()));
    }
    network.check()?;
    check_families(&network)?;
    if !network.foreign {
        network.ipv4.filter(|_| network.ipv4 != old.ipv4).map_or(Ok(()), |net| used.check(net.into()))?;
        network.ipv6.filter(|_| network.ipv6 != old.ipv6).map_or(Ok(()), |net| used.check(net.into()))?;
    }
    let (note, ()) = firewall::expect(app).of(app.store.set_network(&network))?;
    if let Err(e) = apply(app, &old, &network) {
        app.store.set_network(&old)?;
        if let Err(undo) = apply(app, &network, &old) {
            tracing::warn!("cannot go back to what network '{name}' was: {undo}");
        }
        return Err(e);
    }
    note.take_back();
    let waiting =
        if seen_by_guests(&old) == seen_by_guests(&network) { Vec::new() } else { waiting(app, name)? };
    Ok((network, waiting))
}

/// The part of a network that a guest learns when it starts.
fn seen_by_guests(network: &Network) -> impl PartialEq {
    (network.ipv4, network.ipv6, network.mtu, network.domain.clone())
}

/// The running containers on a network that were started with other settings of it.
fn waiting(app: &App, network: &str) -> AppResult<Vec<Name>> {
    let mut waiting = Vec::new();
    for container in app.store.containers()? {
        let is_on = container.nics.iter().any(|nic| nic.network() == Some(network));
        if is_on && !attached::pending(app, &container)?.is_empty() {
            waiting.push(container.name);
        }
    }
    waiting.sort();
    Ok(waiting)
}

/// If the network's bridge is up, makes it agree with what is stored. An ordinary user's bridge is made in
/// any case, so that the network is claimed. `from` is the network before the change.
fn apply(app: &mut App, from: &Network, network: &Network) -> AppResult<()> {
    if is_up(app, network)? || app.instance.uid_of_user().is_some() {
        // A bridge whose MTU is left to the kernel keeps what it has.
        let mtu = network.mtu.or(from.mtu.map(|_| DEFAULT_MTU));
        app.broker.ensure_network(&Network { mtu, ..network.clone() })?;
        answer(app, network)?;
        adjust_ports(app, network)?;
    }
    firewall::apply_all(app)
}

/// Isolates the ports of running containers, or not, as the network's settings say now.
fn adjust_ports(app: &mut App, network: &Network) -> AppResult<()> {
    for container in app.store.containers()? {
        if state::of(app, &container) == State::Stopped {
            continue;
        }
        let (orders, _) = attached::orders(app, &container)?;
        let on = |order: &NicOrder| order.nic.network() == Some(network.name.as_str());
        for order in orders.into_iter().filter(on) {
            app.broker.adjust_link(container.id.as_str(), &order)?;
        }
    }
    Ok(())
}

/// Deletes a network that nobody is on, and its bridge.
pub fn delete(app: &mut App, name: &str) -> AppResult<()> {
    let row = show(app, name)?;
    if let Some(users) = Some(users_of(&row)).filter(|users| !users.is_empty()) {
        return Err(StoreError::NetworkInUse { name: name.to_owned(), users }.into());
    }
    app.broker.remove_network(&row.network)?;
    let (note, ()) = firewall::expect(app).of(app.store.delete_network(name))?;
    firewall::apply_all(app)?;
    note.take_back();
    Ok(())
}

/// The interfaces of a new container.
pub fn requests(app: &mut App, connect: &Connect) -> AppResult<Vec<NicRequest>> {
    let names = match connect.networks.as_slice() {
        [] => vec![ensure_default(app, None)?.name],
        [none] if none == "none" => Vec::new(),
        names => names.to_vec(),
    };
    let mut requests = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let network = find(app, name)?;
        requests.push((NicRequest::on(&format!("eth{n}"), &network.name), network));
    }
    for ip in &connect.addresses {
        let free = requests.iter_mut().find(|(request, network)| match ip {
            IpAddr::V4(ip) => request.ipv4 == Wanted::Auto && network.is_guest_address4(*ip),
            IpAddr::V6(ip) => request.ipv6 == Wanted::Auto && network.is_guest_address6(*ip),
        });
        match (free, ip) {
            (Some((request, _)), IpAddr::V4(ip)) => request.ipv4 = Wanted::At(*ip),
            (Some((request, _)), IpAddr::V6(ip)) => request.ipv6 = Wanted::At(*ip),
            (None, ip) => {
                let name = names.first().cloned().unwrap_or_else(|| "none".to_owned());
                return Err(StoreError::OutsideNetwork { name, ip: *ip }.into());
            }
        }
    }
    Ok(requests.into_iter().map(|(request, _)| request).collect())
}

/// The keys of `pairs`, the later of two that are the same.
pub fn as_map(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}
