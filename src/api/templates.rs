//! Templates and recipes.

use serde::{Deserialize, Serialize};

use crate::model::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    pub name: String,
}

/// What can be built.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipes {}

/// Anew from its recipe; the name then stands for the new content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    pub name: String,
}

/// From a tar archive, plain or compressed with gzip, xz or zstd.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    pub name: String,
    /// The number of a descriptor to read it from, which comes beside the request.
    pub archive: i32,
    /// Its length, where that is known, to tell how much is done.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// Refused while containers stand on it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Template {
    pub name: String,
    pub id: String,
    pub os: String,
    pub arch: String,
    pub init: String,
    pub network: String,
    /// Length of all its files.
    pub bytes: u64,
    pub created_at: Timestamp,
    /// Containers that stand on it.
    pub used_by: usize,
}

impl Template {
    /// Enough of its id for people.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    pub name: String,
    /// Or what is wrong with it.
    pub description: String,
}
