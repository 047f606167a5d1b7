//! Snapshots that are made by themselves.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::model::name::Name;
use crate::model::time::Timestamp;

/// Deletes what has expired, and makes the snapshots that are due.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {}

/// Which containers have a schedule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

/// What was done for a container; those are left out for which there was nothing to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Done {
    pub container: Name,
    /// The snapshot that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
    /// Snapshots that were deleted.
    pub deleted: Vec<String>,
    /// Why not all was done that was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// The schedule of a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    pub container: String,
    pub schedule: String,
    /// None: never, because it is stopped or there is no such time.
    pub next: Option<Timestamp>,
}
