//! What is stored of a snapshot.

use serde::{Deserialize, Serialize};

use super::name::SnapshotName;
use crate::model::config::Config;
use crate::model::layer::Chain;

/// Snapshots that a container has at most.
pub const MOST_SNAPSHOTS: usize = 1000;
/// The longest comment, in bytes.
pub const MOST_COMMENT: usize = 1024;

/// What is stored of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub name: SnapshotName,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970; none: it is kept until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Whether the container ran: its programs may have been in the middle of something.
    #[serde(default)]
    pub was_running: bool,
    /// Whether it was made by itself, by a schedule.
    #[serde(default)]
    pub is_automatic: bool,
    /// In the user's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(flatten)]
    pub chain: Chain,
    /// The container's own keys at that time.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
}
