//! Groups of containers that share rules.

use serde::{Deserialize, Serialize};

use super::firewall::Caution;
use crate::model::name::Name;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub name: String,
}

/// One that containers are in is refused unless forced.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub name: String,
    #[serde(default)]
    pub caution: Caution,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    pub name: String,
    pub containers: Vec<Name>,
    #[serde(default)]
    pub caution: Caution,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    pub name: String,
    pub containers: Vec<Name>,
    #[serde(default)]
    pub caution: Caution,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    pub name: String,
    /// Rules of both directions.
    pub rules: usize,
    pub containers: Vec<String>,
}
