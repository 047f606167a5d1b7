//! Storage pools.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pairs::Pairs;
use crate::model::name::Name;
use crate::model::pool::{PoolName, VolumeName};
use crate::model::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    pub name: PoolName,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub name: PoolName,
    /// The absolute path of a directory that is there.
    pub directory: String,
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub name: PoolName,
    pub description: String,
}

/// Refused while containers are in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub name: PoolName,
    /// Its disk is gone for good: the containers in it are deleted, too.
    #[serde(default)]
    pub lost: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pool {
    pub name: PoolName,
    /// The directory that is the pool.
    pub path: String,
    pub description: String,
    /// Of the file system that it is on; none where the pool's directory is not there.
    pub disk: Option<Disk>,
    /// The containers in it.
    pub used_by: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Disk {
    /// Such as `ext4`.
    pub filesystem: Option<String>,
    /// In bytes, of the whole file system.
    pub size: u64,
    /// In bytes.
    pub free: u64,
    /// How many files there can be; 0 where the file system has no such bound.
    pub inodes: u64,
    pub free_inodes: u64,
    /// Whether the size of containers' roots can be bounded.
    pub quota: bool,
    /// Whether copies of a file share its blocks until one is changed.
    pub reflink: bool,
}

/// Those of a pool, or of all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListVolumes {
    #[serde(default)]
    pub pool: Option<PoolName>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowVolume {
    pub pool: PoolName,
    pub name: VolumeName,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    pub pool: PoolName,
    pub name: VolumeName,
    #[serde(default)]
    pub config: Pairs,
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetVolume {
    pub pool: PoolName,
    pub name: VolumeName,
    #[serde(default)]
    pub config: Pairs,
    /// Keys that get their defaults.
    #[serde(default)]
    pub unset: Vec<String>,
    #[serde(default)]
    pub description: Option<String>,
}

/// Refused while something has it as a disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameVolume {
    pub pool: PoolName,
    pub name: VolumeName,
    pub new_name: VolumeName,
}

/// Refused while something has it as a disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteVolume {
    pub pool: PoolName,
    pub name: VolumeName,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Volume {
    pub pool: PoolName,
    pub name: VolumeName,
    pub description: String,
    pub config: BTreeMap<String, String>,
    pub created_at: Timestamp,
    /// Containers by their names, profiles as `profile NAME`.
    pub used_by: Vec<String>,
    /// Bytes on the disk; told of one volume alone, like the files in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}
