//! What an owner has on the host before there is a container: account, ids, directories, network, database.

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Deserializer};

use crate::model::network::bridge_address;

/// Make what is missing; tells what was made.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetUp {
    /// How many id ranges to set aside, the storage ids included: 2 to 65,535. Only root may say it.
    pub id_ranges: Option<u32>,
    /// The bridge's own address with the prefix length; one that is free where none is given.
    #[serde(deserialize_with = "subnet")]
    pub subnet: Option<Ipv4Network>,
}

fn subnet<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv4Network>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.as_deref().map(bridge_address).transpose().map_err(serde::de::Error::custom)
}

/// Remove what was made; tells what was removed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remove {
    /// With all containers and templates. Without it, it is refused where there are any.
    pub delete_data: bool,
    /// Also what ordinary users have, and their grants.
    pub everyone: bool,
}

/// Make the database anew from what stands beside containers and templates; tells what was put back and what
/// could not be. The old one is kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairDatabase {}
