//! What the kernel is to do: complete, checked, and without anything that only people need.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::policy::{Action, Direction, Proto};
use crate::model::name::{ContainerId, Name};
use crate::model::network::Nat;

/// One owner's whole firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Those whose traffic the host routes; not those on bridges of the host's own.
    pub networks: Vec<NetworkPlan>,
    pub sets: BTreeMap<String, Vec<IpNetwork>>,
    pub groups: Vec<GroupPlan>,
    /// All containers, also those of which the policy says nothing.
    pub containers: Vec<ContainerPlan>,
    pub forwards: Vec<ForwardPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPlan {
    pub name: String,
    pub bridge: String,
    /// The host's address on it.
    pub ipv4: Option<Ipv4Network>,
    pub ipv6: Option<Ipv6Network>,
    pub nat4: Nat,
    pub nat6: Nat,
    /// Packets between its guests go through the host, where rules meet them.
    pub routed: bool,
    pub rules: RulesPlan,
    pub default_in: Action,
    pub default_out: Action,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPlan {
    pub name: String,
    pub rules: RulesPlan,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPlan {
    pub id: ContainerId,
    pub name: Name,
    pub links: Vec<LinkPlan>,
    /// By which rules know it.
    pub addresses: Vec<IpAddr>,
    pub groups: Vec<String>,
    pub rules: RulesPlan,
    pub default_in: Option<Action>,
    pub default_out: Option<Action>,
}

/// The host's end of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkPlan {
    pub link: String,
    /// None: it is no port but a way of its own.
    pub bridge: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesPlan {
    pub inward: Vec<RulePlan>,
    pub outward: Vec<RulePlan>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePlan {
    pub action: Action,
    pub proto: Proto,
    /// First and last; none: all.
    pub ports: Vec<(u16, u16)>,
    /// Whose packets, or to whom; with `sets` empty too: all.
    pub nets: Vec<IpNetwork>,
    pub sets: Vec<String>,
    pub log: bool,
}

/// One port of the host's that leads to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardPlan {
    /// Whose address `to` is.
    pub container: ContainerId,
    pub proto: Proto,
    /// None: any of the host's addresses of the target's family.
    pub listen: Option<IpAddr>,
    pub port: u16,
    pub to: IpAddr,
    pub to_port: u16,
}

impl RulesPlan {
    pub fn of(&self, direction: Direction) -> &[RulePlan] {
        match direction {
            Direction::In => &self.inward,
            Direction::Out => &self.outward,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.inward.is_empty() && self.outward.is_empty()
    }
}

impl NetworkPlan {
    pub fn default(&self, direction: Direction) -> Action {
        match direction {
            Direction::In => self.default_in,
            Direction::Out => self.default_out,
        }
    }

    pub fn has_policy(&self) -> bool {
        let open = self.default_in == Action::Allow && self.default_out == Action::Allow;
        !self.rules.is_empty() || !open
    }

    pub fn holds(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.ipv4.is_some_and(|net| net.contains(ip)),
            IpAddr::V6(ip) => self.ipv6.is_some_and(|net| net.contains(ip)),
        }
    }

    pub fn is_gateway(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.ipv4.is_some_and(|net| net.ip() == ip),
            IpAddr::V6(ip) => self.ipv6.is_some_and(|net| net.ip() == ip),
        }
    }
}

impl ContainerPlan {
    pub fn default(&self, direction: Direction) -> Option<Action> {
        match direction {
            Direction::In => self.default_in,
            Direction::Out => self.default_out,
        }
    }

    /// Whether the policy says anything of it.
    pub fn has_policy(&self) -> bool {
        let defaults = self.default_in.is_some() || self.default_out.is_some();
        defaults || !self.groups.is_empty() || !self.rules.is_empty()
    }
}

impl Plan {
    pub fn container(&self, name: &str) -> Option<&ContainerPlan> {
        self.containers.iter().find(|c| c.name.as_str() == name)
    }

    pub fn group(&self, name: &str) -> Option<&GroupPlan> {
        self.groups.iter().find(|g| g.name == name)
    }

    pub fn network_of(&self, bridge: &str) -> Option<&NetworkPlan> {
        self.networks.iter().find(|n| n.bridge == bridge)
    }

    /// The container that has this address.
    pub fn owner_of(&self, ip: IpAddr) -> Option<&ContainerPlan> {
        self.containers.iter().find(|c| c.addresses.contains(&ip))
    }

    /// Has packets between guests of a network routed, where a block is about one of its addresses
    /// or about one container.
    pub fn route_for_blocks<'a>(&mut self, blocks: impl IntoIterator<Item = (IpNetwork, Option<&'a str>)>) {
        let mut singled: Vec<&str> = Vec::new();
        for (address, container) in blocks {
            for network in self.networks.iter_mut().filter(|network| !network.routed) {
                let v4 = network.ipv4.map(IpNetwork::V4);
                let subnets = v4.into_iter().chain(network.ipv6.map(IpNetwork::V6));
                network.routed = subnets.into_iter().any(|net| {
                    net.is_ipv4() == address.is_ipv4()
                        && (net.contains(address.network()) || address.contains(net.network()))
                });
            }
            singled.extend(container.filter(|name| singled.last() != Some(name)));
        }
        singled.sort_unstable();
        let blocked = |c: &ContainerPlan| singled.binary_search(&c.name.as_str()).is_ok();
        let bridges: Vec<String> = self
            .containers
            .iter()
            .filter(|c| blocked(c))
            .flat_map(|c| c.links.iter().filter_map(|link| link.bridge.clone()))
            .collect();
        for network in &mut self.networks {
            network.routed |= bridges.contains(&network.bridge);
        }
    }
}
