//! `network`: bridges and their subnets, and which of them a container is on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::context::App;
use super::error::{AppError, AppResult};
use super::launch::random;
use super::{attached, firewall, state};
use crate::host::broker::BrokerError;
use crate::host::dns::{self, DnsLease};
use crate::model::container::{Container, State};
use crate::model::name::Name;
use crate::model::network::{DEFAULT_MTU, KeyError, Network, pick_subnet, pick_ula};
use crate::model::nic::{Nic, NicOrder, NicRequest, Wanted};
use crate::model::suggest;
use crate::store::StoreError;
use crate::sys::host_resolvers;
use crate::sys::netlink::Netlink;
use crate::sys::{SysError, sysctl};

/// Which networks a new container is to be on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connect {
    /// One interface each; none said: the instance's own. `none` stands for no network at all.
    pub networks: Vec<String>,
    /// Each on the first of the networks that it is an address of.
    pub addresses: Vec<IpAddr>,
}

/// One network, and who is on it.
pub struct NetworkRow {
    pub network: Network,
    /// Sorted by container.
    pub users: Vec<(Name, Nic)>,
    /// Whether its bridge is there.
    pub up: bool,
}

/// The instance's own network, which is made up if there is none yet: with `wanted` as the host's
/// address, else with a private subnet that the host does not use.
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
    // A firewall that speaks of a network which the host's record does not have as this user's is
    // refused, all of it.
    if app.instance.person().is_some()
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
    // What is hidden behind the host unless something else is said: subnets that are nobody else's.
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
    // That another network has the subnet says more than that the host has it.
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
            // Its bridge may be there: with another broker it can be deleted.
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

/// The interface of a network that is to be: the network's name where the instance has the host's
/// interfaces to itself, else one that says whose it is.
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

/// Has all networks of an ordinary user on the host's record, without which the user's firewall is
/// refused. One whose making was cut short and that may not be made is no network.
pub(super) fn claim_all(app: &mut App) -> AppResult<()> {
    for NetworkRow { network, users, .. } in list(app)? {
        match app.broker.ensure_network(&network) {
            Err(BrokerError::Refused(_)) if users.is_empty() => app.store.delete_network(&network.name)?,
            other => drop(other?),
        }
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

/// What of a network a guest is told when it starts.
fn seen_by_guests(network: &Network) -> impl PartialEq {
    (network.ipv4, network.ipv6, network.mtu, network.domain.clone())
}

/// The running containers on a network that have been started when something was otherwise.
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

/// Where its bridge is up, makes it what is stored; an ordinary user's also where it is not, to have it
/// on the host's record. `from` is what it was before.
fn apply(app: &mut App, from: &Network, network: &Network) -> AppResult<()> {
    if is_up(app, network)? || app.instance.person().is_some() {
        // One that leaves it to the kernel keeps what it has.
        let mtu = network.mtu.or(from.mtu.map(|_| DEFAULT_MTU));
        app.broker.ensure_network(&Network { mtu, ..network.clone() })?;
        answer(app, network)?;
        adjust_ports(app, network)?;
    }
    firewall::apply_all(app)
}

/// Tells whoever answers for the network who is on it; or has nobody answer, if it does not want that.
fn answer(app: &mut App, network: &Network) -> AppResult<()> {
    let mut leases = Vec::new();
    // One that only asks the host's resolvers is to know nothing of guests.
    let known =
        if dns::is_go_between(&app.instance, network) { Vec::new() } else { app.store.containers()? };
    for container in known {
        for nic in container.nics.iter().filter(|nic| nic.network() == Some(network.name.as_str())) {
            let (ipv4, ipv6) = (nic.ipv4.map(|net| net.ip()), nic.ipv6.map(|net| net.ip()));
            if ipv4.is_some() || ipv6.is_some() {
                leases.push(DnsLease { name: container.name.clone(), mac: nic.mac, ipv4, ipv6 });
            }
        }
    }
    Ok(app.broker.ensure_names(network, &leases)?)
}

/// The same for those of `networks` that are answered for and whose bridges are there. Guests have
/// their addresses without it, so a failure is no reason to fail.
pub(super) fn answer_for(app: &mut App, networks: &[Network]) {
    for network in networks {
        if !dns::is_wanted(&app.instance, network) {
            continue;
        }
        let answered = is_up(app, network).and_then(|up| if up { answer(app, network) } else { Ok(()) });
        if let Err(e) = answered {
            tracing::warn!("network '{}' is without answers: {e}", network.name);
        }
    }
}

/// Has running containers' ports be isolated or not, as the network says now.
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

/// Whether its bridge is there, in the namespace that it would be in.
fn is_up(app: &App, network: &Network) -> AppResult<bool> {
    let path = format!("/sys/class/net/{}", network.bridge);
    if !app.instance.is_private() {
        return Ok(std::path::Path::new(&path).exists());
    }
    super::private_way::in_network(app, || nix::net::if_::if_nametoindex(network.bridge.as_str()).is_ok())
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

fn users_of(row: &NetworkRow) -> Vec<Name> {
    let mut users: Vec<Name> = row.users.iter().map(|(name, _)| name.clone()).collect();
    users.dedup();
    users
}

/// All networks, sorted by name.
pub fn list(app: &App) -> AppResult<Vec<NetworkRow>> {
    let containers = app.store.containers()?;
    app.store.networks()?.into_iter().map(|network| row(app, network, &containers)).collect()
}

pub fn show(app: &App, name: &str) -> AppResult<NetworkRow> {
    let network = find(app, name)?;
    row(app, network, &app.store.containers()?)
}

fn row(app: &App, network: Network, containers: &[Container]) -> AppResult<NetworkRow> {
    let on = |nic: &&Nic| nic.network() == Some(network.name.as_str());
    let users = containers
        .iter()
        .flat_map(|container| {
            container.nics.iter().filter(on).map(|nic| (container.name.clone(), nic.clone()))
        })
        .collect();
    let up = is_up(app, &network)?;
    Ok(NetworkRow { network, users, up })
}

pub(super) fn find(app: &App, name: &str) -> AppResult<Network> {
    if let Some(network) = app.store.network(name)? {
        return Ok(network);
    }
    let all = app.store.networks()?;
    let nearest = suggest::nearest(name, all.iter().map(|network| network.name.as_str())).map(str::to_owned);
    Err(AppError::NoNetwork { name: name.to_owned(), nearest })
}

/// The networks that a container is on, in the order of its interfaces, each once.
pub(super) fn of(app: &App, container: &Container) -> AppResult<Vec<Network>> {
    let mut networks: Vec<Network> = Vec::new();
    for name in container.nics.iter().filter_map(Nic::network) {
        if networks.iter().all(|network| network.name != name) {
            networks.push(find(app, name)?);
        }
    }
    Ok(networks)
}

/// What the broker is told of a container's interfaces.
pub(super) fn orders(container: &Container, networks: &[Network]) -> Vec<NicOrder> {
    let order = |nic: &Nic| {
        let network = networks.iter().find(|network| Some(network.name.as_str()) == nic.network());
        NicOrder {
            bridge: network.map(|network| network.bridge.clone()).unwrap_or_default(),
            isolated: nic.settings.port_isolation || network.is_some_and(|network| network.isolated),
            mtu: nic.settings.mtu.or_else(|| network.and_then(|network| network.mtu)),
            nic: nic.clone(),
        }
    };
    container.nics.iter().map(order).collect()
}

/// Has the broker begin with what `ensure` will ask of it for interfaces that are to be.
pub(super) fn expect(app: &mut App, nics: &[NicRequest]) -> AppResult<()> {
    for name in nics.iter().filter_map(NicRequest::network) {
        let network = find(app, name)?;
        app.broker.expect_network(&network);
    }
    Ok(())
}

/// Makes sure of the networks and of the firewall around them.
pub(super) fn ensure(app: &mut App, networks: &[Network]) -> AppResult<()> {
    let mut in_place = true;
    for network in networks {
        in_place &= app.broker.ensure_network(network)?;
    }
    // Somebody without a network may have an interface that is routed.
    if networks.is_empty() {
        in_place = app.broker.firewall_in_place()?;
    }
    if in_place { Ok(()) } else { firewall::apply_all(app) }
}

/// The interfaces of a new container.
pub(super) fn requests(app: &mut App, connect: &Connect) -> AppResult<Vec<NicRequest>> {
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

/// The instance's network as the kernel has it, for when the database has lost it.
pub fn found(app: &App) -> AppResult<Option<Network>> {
    let bridge = app.instance.bridge();
    let ask = || Netlink::open()?.bridge_addresses(&bridge);
    let found =
        ask().map_err(|e| SysError::new(format!("look at bridge {bridge}"), std::io::Error::other(e)))?;
    let ipv4 = found.iter().find_map(|net| match net {
        IpNetwork::V4(net) => Some(*net),
        IpNetwork::V6(_) => None,
    });
    Ok(ipv4.map(|ipv4| Network::new(&bridge, &bridge, Some(ipv4), None)))
}

/// Prefixes of the host's addresses and routes, and its resolvers.
struct Used {
    ipv4: Vec<Ipv4Network>,
    ipv6: Vec<Ipv6Network>,
}

impl Used {
    /// Without what the link `but` has itself.
    fn now(but: Option<&str>) -> AppResult<Self> {
        let ask = || {
            let netlink = Netlink::open()?;
            match but {
                None => Ok((netlink.used_subnets()?, netlink.used_subnets6()?)),
                Some(link) => Ok((netlink.used_subnets_but(link)?, netlink.used_subnets6_but(link)?)),
            }
        };
        let (mut ipv4, mut ipv6) = ask().map_err(|e: crate::sys::netlink::NetlinkError| {
            SysError::new("see which subnets the host uses", std::io::Error::other(e))
        })?;
        for resolver in host_resolvers::usable() {
            match resolver {
                IpAddr::V4(ip) => ipv4.push(ip.into()),
                IpAddr::V6(ip) => ipv6.push(ip.into()),
            }
        }
        Ok(Self { ipv4, ipv6 })
    }

    fn free4(&self, name: &str) -> AppResult<Ipv4Network> {
        pick_subnet(&self.ipv4, random()?).ok_or_else(|| AppError::NoSubnet(name.to_owned()))
    }

    /// None on a host without IPv6.
    fn free6(&self) -> AppResult<Option<Ipv6Network>> {
        if !sysctl::has_ipv6() {
            return Ok(None);
        }
        Ok(pick_ula(&self.ipv6, random()?))
    }

    fn check_both(&self, network: &Network) -> AppResult<()> {
        network.ipv4.map_or(Ok(()), |net| self.check(net.into()))?;
        network.ipv6.map_or(Ok(()), |net| self.check(net.into()))
    }

    fn check(&self, wanted: IpNetwork) -> AppResult<()> {
        let taken = match wanted {
            IpNetwork::V4(net) => self.ipv4.iter().find(|u| u.overlaps(net)).map(|u| u.to_string()),
            IpNetwork::V6(net) => self.ipv6.iter().find(|u| u.overlaps(net)).map(|u| u.to_string()),
        };
        match taken {
            Some(taken) => Err(AppError::Overlaps { wanted: wanted.to_string(), taken }),
            None => Ok(()),
        }
    }
}

/// The keys of `pairs`, the later of two that are the same.
pub(super) fn as_map(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}
