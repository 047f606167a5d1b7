//! Ports of the host that lead to containers.

use serde::{Deserialize, Serialize};

use super::firewall::Caution;
use crate::model::firewall::policy;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

/// Tells what else listens there already.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    pub forward: policy::Forward,
    #[serde(default)]
    pub caution: Caution,
}

/// Where it leads to does not matter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    pub forward: policy::Forward,
    #[serde(default)]
    pub caution: Caution,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forward {
    pub container: String,
    pub proto: &'static str,
    /// None: any of the host's.
    pub address: Option<String>,
    /// The host's port or ports.
    pub listen: String,
    /// The container's.
    pub to: String,
}

impl From<policy::Forward> for Forward {
    fn from(forward: policy::Forward) -> Self {
        let to = if forward.to.is_empty() { forward.listen.clone() } else { forward.to };
        Self {
            container: forward.container,
            proto: forward.proto.as_str(),
            address: Some(forward.address).filter(|address| !address.is_empty()),
            listen: forward.listen,
            to,
        }
    }
}
