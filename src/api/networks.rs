//! Networks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pairs::Pairs;
use crate::model::name::Name;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub name: String,
    #[serde(default)]
    pub config: Pairs,
}

/// All of it or, where one key is refused, nothing. An empty value stands for the default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub name: String,
    pub config: Pairs,
}

/// Refused while containers are on it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub name: String,
}

/// Put back what others have changed of bridges, links and firewall; tells what was mended.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    pub name: String,
    pub bridge: String,
    /// Its bridge is there.
    pub up: bool,
    /// The bridge's address with the prefix length, like the next.
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
    /// Sorted by container.
    pub used_by: Vec<User>,
    pub config: BTreeMap<String, String>,
}

/// An interface on a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct User {
    pub container: String,
    pub device: String,
    pub mac: String,
    pub addresses: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// Containers that see it at their next start only.
    pub waiting: Vec<Name>,
    pub bridge: String,
    /// The bridge is the host's own and stays as it is.
    pub foreign: bool,
}
