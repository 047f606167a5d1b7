//! The names of snapshots.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::name::NameError;

/// The longest name, in bytes.
const MOST_NAME: usize = 64;

/// Why a string does not name a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotNameError {
    #[error("the name of a snapshot cannot be empty")]
    Empty,
    #[error("'{0}' is longer than 64 characters")]
    TooLong(String),
    #[error("'{0}' may hold only letters, digits, '.', '_', ':', '+' and '-', and not begin with '.' or '-'")]
    BadCharacter(String),
    /// Of the container, in `NAME/SNAP`.
    #[error(transparent)]
    Container(#[from] NameError),
}

/// A snapshot's name, unique among those of its container. A time such as `2026-11-28T04:10:00Z` is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

impl SnapshotName {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, SnapshotNameError> {
        if text.is_empty() {
            return Err(SnapshotNameError::Empty);
        }
        if text.len() > MOST_NAME {
            return Err(SnapshotNameError::TooLong(text.to_owned()));
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._:+-".contains(&b);
        if !text.bytes().all(good) || text.starts_with(['.', '-']) {
            return Err(SnapshotNameError::BadCharacter(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = SnapshotNameError;
    fn try_from(text: String) -> Result<Self, SnapshotNameError> {
        Self::new(&text)
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> String {
        name.0
    }
}
