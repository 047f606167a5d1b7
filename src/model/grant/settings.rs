//! A grant: what the administrator lets an ordinary user have on the host.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::model::config::value::NO_LIMIT;

/// Whose grant is meant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grantee {
    /// Its settings hold where a user's own grant says nothing.
    Everybody,
    /// By the user's name.
    User(String),
}

/// One user's grant. What is not said has a default, or no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Grant {
    /// False: the user may have no container here. True: without being asked for a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<bool>,
    /// Containers that run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<u32>,
    /// Bytes of memory of all of them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Percent of one CPU for all of them together: 200 is two CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Processes and threads of all of them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Networks of the user's own on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<u32>,
    /// Addresses that the user's containers may have, besides private ones of the user's own networks; and
    /// that forwards may listen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<IpNetwork>>,
    /// Ports of the host that the user may forward to containers, `8000-8999` or single ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortRange>>,
    /// Interfaces of the host that containers may be on: bridges to join, others to share by macvlan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<String>>,
    /// Directories of the host's in which the user may have a storage pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<String>>,
    /// Resource limits, setrlimit(2), of each process, by their names in `limits.kernel.*`. A table,
    /// which TOML wants behind all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<BTreeMap<String, u64>>,
}

/// Ports from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// From 1.
    pub first: u16,
    /// Not below the first.
    pub last: u16,
}

impl PortRange {
    /// Whether `port` is one of them.
    pub fn holds(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("'{text}' is not a port or a range of them")),
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        match range.first == range.last {
            true => range.first.to_string(),
            false => format!("{}-{}", range.first, range.last),
        }
    }
}

/// Containers at once where nothing is said.
const CONTAINERS: u32 = 16;
/// Networks where nothing is said.
const NETWORKS: u32 = 1;
/// A file of grants holds signed numbers: the highest stands for no limit.
pub(super) const UNLIMITED: u64 = i64::MAX as u64;

impl Grant {
    /// Containers that may run at once: as granted, or the usual number.
    pub fn containers(&self) -> u32 {
        self.containers.unwrap_or(CONTAINERS)
    }

    /// Networks that there may be: as granted, or the usual number.
    pub fn networks(&self) -> u32 {
        self.networks.unwrap_or(NETWORKS)
    }

    /// Addresses that are granted; none where nothing is said.
    pub fn addresses(&self) -> impl Iterator<Item = IpNetwork> {
        self.addresses.iter().flatten().copied()
    }

    /// Ports that are granted; none where nothing is said.
    pub fn ports(&self) -> impl Iterator<Item = PortRange> {
        self.ports.iter().flatten().copied()
    }

    /// Interfaces that are granted; none where nothing is said.
    pub fn parents(&self) -> impl Iterator<Item = &String> {
        self.parents.iter().flatten()
    }

    /// Directories in which there may be pools.
    pub fn pools(&self) -> impl Iterator<Item = &String> {
        self.pools.iter().flatten()
    }

    /// How high a resource limit may be by the grant: 0 where it says nothing, `NO_LIMIT` for any.
    pub fn resource(&self, resource: &str) -> u64 {
        match self.kernel.iter().flatten().find(|(name, _)| *name == resource) {
            Some((_, most)) if *most >= UNLIMITED => NO_LIMIT,
            Some((_, most)) => *most,
            None => 0,
        }
    }

    /// What `self`, a user's own grant, leaves open is taken from `default`, everybody's.
    pub fn or(self, default: Grant) -> Grant {
        Grant {
            allow: self.allow.or(default.allow),
            containers: self.containers.or(default.containers),
            memory: self.memory.or(default.memory),
            cpu: self.cpu.or(default.cpu),
            processes: self.processes.or(default.processes),
            networks: self.networks.or(default.networks),
            addresses: self.addresses.or(default.addresses),
            ports: self.ports.or(default.ports),
            parents: self.parents.or(default.parents),
            pools: self.pools.or(default.pools),
            kernel: match (self.kernel, default.kernel) {
                (Some(own), Some(default)) => Some(default.into_iter().chain(own).collect()),
                (own, default) => own.or(default),
            },
        }
    }
}
