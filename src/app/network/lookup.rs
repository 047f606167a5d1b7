//! What is known of networks, and which of them a container is on.

use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, daemonless};
use crate::model::container::Container;
use crate::model::name::Name;
use crate::model::network::Network;
use crate::model::nic::{Nic, NicOrder};
use crate::model::suggest;

/// One network, and who is on it.
pub struct NetworkRow {
    pub network: Network,
    /// Sorted by container.
    pub users: Vec<(Name, Nic)>,
    /// Whether its bridge is there.
    pub up: bool,
}

/// Whether its bridge is there, in the namespace that it would be in.
pub(super) fn is_up(app: &App, network: &Network) -> AppResult<bool> {
    let path = format!("/sys/class/net/{}", network.bridge);
    if !app.instance.is_daemonless() {
        return Ok(std::path::Path::new(&path).exists());
    }
    daemonless::in_network(app, || nix::net::if_::if_nametoindex(network.bridge.as_str()).is_ok())
}

pub(super) fn users_of(row: &NetworkRow) -> Vec<Name> {
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

pub(super) fn row(app: &App, network: Network, containers: &[Container]) -> AppResult<NetworkRow> {
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

pub fn find(app: &App, name: &str) -> AppResult<Network> {
    if let Some(network) = app.store.network(name)? {
        return Ok(network);
    }
    let all = app.store.networks()?;
    let nearest = suggest::nearest(name, all.iter().map(|network| network.name.as_str())).map(str::to_owned);
    Err(AppError::NoNetwork { name: name.to_owned(), nearest })
}

/// The networks that a container is on, in the order of its interfaces, each once.
pub fn of(app: &App, container: &Container) -> AppResult<Vec<Network>> {
    let mut networks: Vec<Network> = Vec::new();
    for name in container.nics.iter().filter_map(Nic::network) {
        if networks.iter().all(|network| network.name != name) {
            networks.push(find(app, name)?);
        }
    }
    Ok(networks)
}

/// What the broker is told of a container's interfaces.
pub fn orders(container: &Container, networks: &[Network]) -> Vec<NicOrder> {
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
