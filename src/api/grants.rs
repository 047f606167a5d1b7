//! What the administrator lets ordinary users have.

use serde::{Deserialize, Serialize};

use super::pairs::Pairs;
use crate::model::grant::{Grant, Grantee};

/// All grants or one. An ordinary user sees everybody's and the own one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct List {
    pub whose: Option<Grantee>,
}

/// Change settings of a grant, all of them or none. An empty value takes one back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub whose: Grantee,
    pub settings: Pairs,
}

/// Remove a grant, even one that cannot be read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    pub whose: Grantee,
}

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// None: the grant for everybody.
    pub user: Option<String>,
    #[serde(flatten)]
    pub grant: Grant,
    /// Settings of a later version, which have no effect in this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}
