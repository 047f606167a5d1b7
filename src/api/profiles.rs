//! Profiles: settings that containers share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Pending;
use super::pairs::Pairs;
use crate::model::device::DeviceType;
use crate::model::name::Name;
use crate::model::profile::ProfileName;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    pub name: ProfileName,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub name: ProfileName,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub config: Pairs,
}

/// All of it, in every container that uses the profile; or nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub name: ProfileName,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub config: Pairs,
    /// Keys that it says nothing of any more.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// One more device of a profile, which every container that uses it has; or nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddDevice {
    pub name: ProfileName,
    pub device: String,
    #[serde(rename = "type")]
    pub device_type: DeviceType,
    #[serde(default)]
    pub config: Pairs,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDevice {
    pub name: ProfileName,
    pub device: String,
    #[serde(default)]
    pub config: Pairs,
    /// Keys that get their defaults.
    #[serde(default)]
    pub unset: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveDevice {
    pub name: ProfileName,
    pub device: String,
}

/// A profile as TOML, for people to edit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    pub name: ProfileName,
}

/// What a text says, in place of what the profile is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    pub name: ProfileName,
    pub text: String,
    /// The text that it was made from: refused where the profile was changed since.
    #[serde(default)]
    pub former: Option<String>,
}

/// Containers go on using it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    pub name: ProfileName,
    pub new_name: ProfileName,
}

/// Another profile that says the same, and that no container uses yet.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    pub name: ProfileName,
    pub new_name: ProfileName,
}

/// Refused while containers use it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub name: ProfileName,
}

/// In place of the container's former profiles; of two with the same key the later one counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    pub name: Name,
    pub profiles: Vec<ProfileName>,
}

/// One more profile of a container, after its others.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    pub name: Name,
    pub profile: ProfileName,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    pub name: Name,
    pub profile: ProfileName,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    pub name: ProfileName,
    pub description: String,
    pub config: BTreeMap<String, String>,
    /// By name; the key 'type' of each is its type.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
    pub used_by: Vec<Name>,
}

/// What a running container has yet to see of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub container: Name,
    pub pending: Vec<Pending>,
}
