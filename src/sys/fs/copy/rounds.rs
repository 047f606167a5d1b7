//! Copying a tree while its owner changes it: a first round, and a last one while it does not change, which copies
//! only what has changed since.

use std::os::fd::{AsFd, OwnedFd};

use super::seen::{Seen, Totals};
use super::walk::{Marks, Walk, reopened};
use crate::sys::SysResult;

/// The copy of one tree, in rounds.
pub struct Rounds<'a> {
    source: &'a OwnedFd,
    target: &'a OwnedFd,
    seen: Seen,
}

impl<'a> Rounds<'a> {
    /// Of the layer `source` into the empty directory `target`.
    pub fn new(source: &'a OwnedFd, target: &'a OwnedFd) -> Self {
        Self { source, target, seen: Seen::default() }
    }

    /// A round while the owner may be changing the tree: what vanishes meanwhile is left out.
    pub fn ahead(&mut self, told: &mut dyn FnMut(u64)) -> SysResult<Totals> {
        self.round(told)
    }

    /// The last round, while the tree stays as it is: the copy is as the tree then.
    pub fn last(&mut self, told: &mut dyn FnMut(u64)) -> SysResult<Totals> {
        self.seen.is_last = true;
        self.round(told)
    }

    fn round(&mut self, told: &mut dyn FnMut(u64)) -> SysResult<Totals> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.seen.now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        let mut walk = Walk::new(self.target.as_fd(), Marks::Kept, told);
        walk.seen = Some(&mut self.seen);
        walk.directory(&[(0, reopened(self.source)?)], &reopened(self.target)?, 0)?;
        Ok(walk.totals)
    }
}
