//! Names of pools.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a string is not a pool's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot name a storage pool: 1 to 63 of a-z, A-Z, 0-9 and '._-', a letter or digit first")]
pub struct PoolNameError(String);

/// A pool's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(String);

impl PoolName {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, PoolNameError> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        match first && text.len() <= 63 && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(PoolNameError(text.to_owned())),
        }
    }

    /// That of the pool which is always there: it holds the templates, and the containers that are put nowhere else.
    pub fn default_one() -> Self {
        Self("default".to_owned())
    }

    /// Whether it is that one's.
    pub fn is_default_one(&self) -> bool {
        self.0 == "default"
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PoolName {
    type Error = PoolNameError;

    fn try_from(text: String) -> Result<Self, PoolNameError> {
        Self::new(&text)
    }
}

impl From<PoolName> for String {
    fn from(name: PoolName) -> String {
        name.0
    }
}

impl std::str::FromStr for PoolName {
    type Err = PoolNameError;

    fn from_str(text: &str) -> Result<Self, PoolNameError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        for good in ["default", "Fast.2", "a_b-c", "0"] {
            assert_eq!(PoolName::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(64);
        for bad in ["", "-a", ".a", "a,b", "a b", "a/b", "ü", "a\n", long.as_str()] {
            assert!(PoolName::new(bad).is_err(), "{bad}");
        }
    }
}
