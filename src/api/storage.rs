//! Storage pools.

use serde::{Deserialize, Serialize};

use crate::model::name::Name;
use crate::model::pool::PoolName;

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
