//! Whose containers there are on the host.

use serde::Deserialize;

/// The users who have something set up, the service user among them. Only root may ask.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}
