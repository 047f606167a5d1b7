//! What the kernel has to do: complete, checked, and without what only users need.

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
    /// Sets by name, with their addresses.
    pub sets: BTreeMap<String, Vec<IpNetwork>>,
    /// Groups of rules.
    pub groups: Vec<GroupPlan>,
    /// All containers, also those of which the policy says nothing.
    pub containers: Vec<ContainerPlan>,
    /// Forwarded ports, each by itself.
    pub forwards: Vec<ForwardPlan>,
}

/// One network, with what holds for all packets that pass it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPlan {
    /// The network's name.
    pub name: String,
    /// Its bridge's interface.
    pub bridge: String,
    /// The host's address on it.
    pub ipv4: Option<Ipv4Network>,
    /// The same for IPv6.
    pub ipv6: Option<Ipv6Network>,
    /// Whose IPv4 address packets show outside.
    pub nat4: Nat,
    /// Whose IPv6 address packets show outside.
    pub nat6: Nat,
    /// Packets between its guests go through the host, where rules meet them.
    pub routed: bool,
    /// They come after those of containers and groups.
    pub rules: RulesPlan,
    /// What is done with packets to guests where no rule matches.
    pub default_in: Action,
    /// What is done with packets from guests where no rule matches.
    pub default_out: Action,
}

/// Rules that containers share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPlan {
    /// The group's name.
    pub name: String,
    /// They come after a container's own.
    pub rules: RulesPlan,
}

/// One container, with what holds for its packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPlan {
    /// Names its chains.
    pub id: ContainerId,
    /// For the kernel's log.
    pub name: Name,
    /// Those of its interfaces whose packets the host sees.
    pub links: Vec<LinkPlan>,
    /// By which rules know it.
    pub addresses: Vec<IpAddr>,
    /// In the order in which it joined.
    pub groups: Vec<String>,
    /// Its own.
    pub rules: RulesPlan,
    /// None: the network's.
    pub default_in: Option<Action>,
    /// None: the network's.
    pub default_out: Option<Action>,
}

/// The host's end of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkPlan {
    /// The interface's name on the host.
    pub link: String,
    /// None: it is no port but a way of its own.
    pub bridge: Option<String>,
}

/// Rules for both directions, in the order in which they decide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesPlan {
    /// For packets to the container.
    pub inward: Vec<RulePlan>,
    /// For packets from the container.
    pub outward: Vec<RulePlan>,
}

/// One rule: it matches if the protocol, the port and the other side all do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePlan {
    /// What is done with packets that match.
    pub action: Action,
    /// The protocol above IP.
    pub proto: Proto,
    /// First and last; none: all.
    pub ports: Vec<(u16, u16)>,
    /// Whose packets, or to whom; with `sets` empty too: all.
    pub nets: Vec<IpNetwork>,
    /// Names of sets that hold such addresses.
    pub sets: Vec<String>,
    /// Whether packets that match are logged.
    pub log: bool,
}

/// One port of the host's that leads to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardPlan {
    /// Whose address `to` is.
    pub container: ContainerId,
    /// tcp, udp or sctp.
    pub proto: Proto,
    /// None: any of the host's addresses of the target's family.
    pub listen: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// The guest's address.
    pub to: IpAddr,
    /// The guest's port.
    pub to_port: u16,
}

impl RulesPlan {
    /// The rules for one direction.
    pub fn of(&self, direction: Direction) -> &[RulePlan] {
        match direction {
            Direction::In => &self.inward,
            Direction::Out => &self.outward,
        }
    }

    /// Whether there are none for either direction.
    pub fn is_empty(&self) -> bool {
        self.inward.is_empty() && self.outward.is_empty()
    }
}

impl NetworkPlan {
    /// What is done where no rule matches.
    pub fn default(&self, direction: Direction) -> Action {
        match direction {
            Direction::In => self.default_in,
            Direction::Out => self.default_out,
        }
    }

    /// Whether the policy says anything of it.
    pub fn has_policy(&self) -> bool {
        let open = self.default_in == Action::Allow && self.default_out == Action::Allow;
        !self.rules.is_empty() || !open
    }

    /// Whether `ip` lies in one of its subnets.
    pub fn holds(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.ipv4.is_some_and(|net| net.contains(ip)),
            IpAddr::V6(ip) => self.ipv6.is_some_and(|net| net.contains(ip)),
        }
    }

    /// Whether `ip` is the host's own address on it.
    pub fn is_gateway(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.ipv4.is_some_and(|net| net.ip() == ip),
            IpAddr::V6(ip) => self.ipv6.is_some_and(|net| net.ip() == ip),
        }
    }
}

impl ContainerPlan {
    /// What is done where no rule matches; None: what the network's default says.
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
    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&ContainerPlan> {
        self.containers.iter().find(|c| c.name.as_str() == name)
    }

    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<&GroupPlan> {
        self.groups.iter().find(|g| g.name == name)
    }

    /// The network with this bridge.
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
