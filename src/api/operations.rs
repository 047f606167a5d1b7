//! What takes more than one step, under way or over.

use serde::Deserialize;

/// The latest first; of those that are over the last hundred.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The id, or how it begins.
    pub id: String,
}
