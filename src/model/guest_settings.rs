//! What is set for a guest and stands in its files.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What nagaya writes into a guest's files, besides its name and interfaces. Each boot looks at the tree to
/// see which files those are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSettings {
    /// The key `hostname`: used instead of the container's name and of the guest's own choice.
    pub hostname: Option<String>,
    pub resolvers: Vec<IpAddr>,
    /// The domain of the network that answers names.
    pub domain: Option<String>,
}
