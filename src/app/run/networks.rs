//! Requests about networks.

use super::door::{Listener, Perform};
use crate::api::networks::{Changed, Create, Delete, List, Network, Repair, Set, Show, User};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::network::{self, NetworkRow, repair};

impl Perform for List {
    type Answer = Vec<Network>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Network>> {
        Ok(network::list(app)?.iter().map(Network::from).collect())
    }
}

impl Perform for Show {
    type Answer = Network;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Network> {
        Ok(Network::from(&network::show(app, &self.name)?))
    }
}

impl Perform for Create {
    /// The network's name.
    type Answer = String;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<String> {
        Ok(network::create(app, &self.name, &self.config.0)?.name)
    }
}

impl Perform for Set {
    type Answer = Changed;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Changed> {
        let (network, waiting) = network::set(app, &self.name, &self.config.0)?;
        Ok(Changed { waiting, foreign: network.foreign, bridge: network.bridge })
    }
}

impl Perform for Delete {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        network::delete(app, &self.name)
    }
}

impl Perform for Repair {
    type Answer = Vec<String>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<String>> {
        repair::repair(app)
    }
}

impl From<&NetworkRow> for Network {
    fn from(row: &NetworkRow) -> Self {
        let network = &row.network;
        let users = row.users.iter().map(|(container, nic)| User {
            container: container.to_string(),
            device: nic.device.clone(),
            mac: nic.mac.to_string(),
            addresses: nic.addresses().map(|ip| ip.to_string()).collect(),
        });
        Self {
            name: network.name.clone(),
            bridge: network.bridge.clone(),
            up: row.up,
            ipv4: network.ipv4.map(|net| net.to_string()),
            ipv6: network.ipv6.map(|net| net.to_string()),
            used_by: users.collect(),
            config: network.config(),
        }
    }
}
