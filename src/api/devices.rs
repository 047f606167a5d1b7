//! The devices of containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::firewall::Caution;
use super::pairs::Pairs;
use crate::model::device::{self, DeviceType, proxy};
use crate::model::firewall::policy::Forward;
use crate::model::name::Name;
use crate::model::nic::Nic;
use crate::model::profile::ProfileName;

/// Interfaces by slot, then the others by name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub name: Name,
}

/// One more device.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    pub name: Name,
    pub device: String,
    #[serde(default, rename = "type")]
    pub device_type: DeviceType,
    #[serde(default)]
    pub config: Pairs,
    /// Of a proxy.
    #[serde(default)]
    pub caution: Caution,
}

/// All of it or, where one key is refused, nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub name: Name,
    pub device: String,
    #[serde(default)]
    pub config: Pairs,
    /// Keys that get their defaults.
    #[serde(default)]
    pub unset: Vec<String>,
    /// Of a proxy.
    #[serde(default)]
    pub caution: Caution,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    pub name: Name,
    pub device: String,
    /// Programs in the guest that use a directory keep it until they end.
    #[serde(default)]
    pub force: bool,
}

/// A device that a new container gets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    pub device: String,
    #[serde(rename = "type")]
    pub device_type: DeviceType,
    #[serde(default)]
    pub config: Pairs,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    pub device: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Of interfaces, as are the next three.
    pub nictype: Option<&'static str>,
    pub interface: Option<String>,
    pub network: Option<String>,
    pub mac: Option<String>,
    /// With the prefix length of the subnet.
    pub addresses: Vec<String>,
    /// Of others: what of the host's it is.
    pub source: Option<String>,
    /// And where it is in the guest.
    pub path: Option<String>,
    pub config: BTreeMap<String, String>,
    /// The profile that it is of; none of the container's own.
    pub profile: Option<ProfileName>,
}

impl From<&Nic> for Device {
    fn from(nic: &Nic) -> Self {
        let (ipv4, ipv6) = (nic.ipv4.map(|net| net.to_string()), nic.ipv6.map(|net| net.to_string()));
        Self {
            device: nic.device.clone(),
            kind: "nic",
            nictype: Some(nic.kind.as_str()),
            interface: Some(nic.name.clone()),
            network: nic.network().map(str::to_owned),
            mac: Some(nic.mac.to_string()),
            addresses: ipv4.into_iter().chain(ipv6).collect(),
            source: None,
            path: None,
            config: nic.config(),
            profile: None,
        }
    }
}

impl From<&device::Device> for Device {
    fn from(other: &device::Device) -> Self {
        Self {
            device: other.name.clone(),
            kind: other.device_type().as_str(),
            nictype: None,
            interface: None,
            network: None,
            mac: None,
            addresses: Vec::new(),
            source: Some(other.source().to_owned()).filter(|source| !source.is_empty()),
            path: Some(other.path().to_owned()).filter(|path| !path.is_empty()),
            config: other.config(),
            profile: None,
        }
    }
}

impl From<&Forward> for Device {
    fn from(forward: &Forward) -> Self {
        let config = proxy::config(forward);
        Self {
            device: forward.device.clone(),
            kind: DeviceType::Proxy.as_str(),
            nictype: None,
            interface: None,
            network: None,
            mac: None,
            addresses: Vec::new(),
            source: config.get("listen").cloned(),
            path: config.get("connect").cloned(),
            config,
            profile: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    pub device: Device,
    /// The container runs and sees it at its next start only.
    pub pending: bool,
}
