//! What a copy or a template is made of.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{SnapshotName, SnapshotNameError};
use crate::model::name::Name;

/// A container, or one of its snapshots: `web01` or `web01/before-upgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Source {
    pub container: Name,
    pub snapshot: Option<SnapshotName>,
}

impl Source {
    /// Reads `NAME` or `NAME/SNAPSHOT`.
    pub fn new(text: &str) -> Result<Self, SnapshotNameError> {
        let (container, snapshot) = match text.split_once('/') {
            Some((container, snapshot)) => (container, Some(SnapshotName::new(snapshot)?)),
            None => (text, None),
        };
        Ok(Self { container: Name::new(container)?, snapshot })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.snapshot {
            Some(snapshot) => write!(f, "{}/{snapshot}", self.container),
            None => write!(f, "{}", self.container),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = SnapshotNameError;
    fn try_from(text: String) -> Result<Self, SnapshotNameError> {
        Self::new(&text)
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sources_are_read() {
        for good in ["a", "before-upgrade", "2026-11-28T04:10:00Z", "1", "A_b+c.d", &"x".repeat(64)] {
            assert_eq!(SnapshotName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-f", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(SnapshotName::new(bad).is_err(), "{bad:?}");
        }
        let source = Source::new("web01/s0").unwrap();
        assert_eq!((source.container.as_str(), source.snapshot.unwrap().as_str()), ("web01", "s0"));
        assert_eq!(Source::new("web01").unwrap().snapshot, None);
        for bad in ["", "/s", "web01/", "web01/a/b", "Web/a"] {
            assert!(Source::new(bad).is_err(), "{bad:?}");
        }
    }
}
