//! Sets of addresses, for rules to speak of.

use serde::Deserialize;

use super::firewall::Caution;

/// By name, each with what it holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub name: String,
    /// Addresses and subnets.
    #[serde(default)]
    pub addresses: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    pub name: String,
    pub addresses: Vec<String>,
    #[serde(default)]
    pub caution: Caution,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    pub name: String,
    pub addresses: Vec<String>,
    #[serde(default)]
    pub caution: Caution,
}

/// Refused while a rule speaks of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub name: String,
    #[serde(default)]
    pub caution: Caution,
}
