//! One set of state, service user, network and cgroup on a host. A host normally has one,
//! `nagaya`; further ones live beside it without touching it.

use std::path::PathBuf;

/// Where an instance keeps things and what its objects on the host are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    name: String,
}

/// A name that cannot be an instance's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot be an instance: 1 to 12 of a-z, 0-9, '-', beginning with a letter")]
pub struct InstanceError(pub String);

impl Default for Instance {
    fn default() -> Self {
        Self { name: "nagaya".to_owned() }
    }
}

impl Instance {
    /// At most 12 characters: the bridge's name adds one and may have 15.
    pub fn new(name: &str) -> Result<Self, InstanceError> {
        let good = (1..=12).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good { Ok(Self { name: name.to_owned() }) } else { Err(InstanceError(name.to_owned())) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The service user, and the group of the same name.
    pub fn user(&self) -> &str {
        &self.name
    }

    pub fn bridge(&self) -> String {
        format!("{}0", self.name)
    }

    pub fn nft_table(&self) -> &str {
        &self.name
    }

    /// Directory below the cgroup v2 mount.
    pub fn cgroup(&self) -> &str {
        &self.name
    }

    pub fn state_dir(&self) -> PathBuf {
        PathBuf::from("/var/lib").join(&self.name)
    }

    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from("/run").join(&self.name)
    }
}
