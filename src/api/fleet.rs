//! Sets of machines that one file describes.

use serde::Deserialize;

use crate::model::name::Name;

pub use crate::model::fleet::{Action, Change, Kind, Step};

/// What is to be done so that the host matches the file; nothing is done.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// TOML.
    pub text: String,
    /// How the file is known where it gives itself no name, such as its path.
    #[serde(default)]
    pub file: Option<String>,
    /// Machines that the file has made, and does not name any more, are deleted.
    #[serde(default)]
    pub prune: bool,
}

/// Make the profiles of the file what it says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyProfiles {
    pub text: String,
}

/// Do what there is to do about one machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyMachine {
    pub text: String,
    #[serde(default)]
    pub file: Option<String>,
    #[serde(default)]
    pub prune: bool,
    pub name: Name,
}
