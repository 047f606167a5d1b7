//! What waits for a restart.

use crate::model::keys::Live;

/// A change that a running container has yet to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub key: String,
    pub live: Live,
}
