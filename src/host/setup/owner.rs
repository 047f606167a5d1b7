//! Whom an instance belongs to.

use std::fmt;

use crate::model::ids::{IdRange, SubordinateIds};

/// Who an instance's state belongs to, and the ids it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// The subordinate ids; at least the storage ids.
    pub range: SubordinateIds,
    /// The storage ids, which files on disk belong to.
    pub storage: IdRange,
}

impl Owner {
    /// None where the range has no storage ids.
    pub fn of(account: Account, range: SubordinateIds) -> Option<Self> {
        Some(Self { uid: account.uid, gid: account.gid, range, storage: range.storage()? })
    }
}

/// A uid and a gid, displayed as `uid:gid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// A range of ids, displayed as `first-last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids(pub SubordinateIds);

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start, self.0.end().saturating_sub(1))
    }
}
