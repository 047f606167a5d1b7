//! A pool as it is stored.

use serde::{Deserialize, Serialize};

use super::PoolName;
use crate::model::device::is_clean_path;
use crate::model::keys::KeyError;
use crate::model::profile::check_description;

/// Pools that an owner may have besides the one that is always there.
pub const MOST_POOLS: usize = 32;

/// A pool besides the one that is always there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub name: PoolName,
    /// An absolute path: the pool is a directory in it, which belongs to the owner's storage ids.
    pub directory: String,
    /// A line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl Pool {
    /// # Errors
    /// A part that cannot be so.
    pub fn check(&self) -> Result<(), KeyError> {
        check_description(&self.description)?;
        if self.name.is_default_one() {
            return Err(KeyError::wrong(
                "name",
                self.name.as_str(),
                "another name: 'default' is always there",
            ));
        }
        match is_clean_path(&self.directory) {
            true => Ok(()),
            false => Err(KeyError::wrong(
                "directory",
                &self.directory,
                "the absolute path of a directory, without '.' and '..'",
            )),
        }
    }
}
