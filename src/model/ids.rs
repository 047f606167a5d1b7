//! User and group ids: subordinate ranges and the slices cut from them.

use serde::{Deserialize, Serialize};

/// Ids in a slice: enough for every id a distribution uses, 65534 (nobody) included.
pub const SLICE: u32 = 65_536;

/// 65,536 consecutive host ids, the same for users and groups, beginning at `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slice {
    base: u32,
}

impl Slice {
    /// The slice that begins at host id `base`; none where it would hold id 0 or pass 2^32 - 2.
    pub fn at(base: u32) -> Option<Self> {
        (base != 0 && base.checked_add(SLICE - 1)? < u32::MAX).then_some(Self { base })
    }

    /// Its first host id, which is the guest's root.
    pub fn base(self) -> u32 {
        self.base
    }
}

/// `count` consecutive host ids beginning at `start`: one line of /etc/subuid or /etc/subgid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub start: u32,
    pub count: u32,
}

impl Range {
    /// One past the last id; 64 bits wide, for a range may end at 2^32.
    pub fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }

    pub fn overlaps(self, other: Range) -> bool {
        u64::from(self.start) < other.end() && u64::from(other.start) < self.end()
    }

    pub fn holds(self, slice: Slice) -> bool {
        self.start <= slice.base && u64::from(slice.base) + u64::from(SLICE) <= self.end()
    }

    /// How many whole slices it holds, the storage slice included.
    pub fn slices(self) -> u32 {
        self.count / SLICE
    }

    /// The slice that files on disk belong to: the range's first.
    pub fn storage(self) -> Option<Slice> {
        (self.slices() >= 1).then(|| Slice::at(self.start)).flatten()
    }

    /// Runtime slice number `n`, counted from 0: the range's second slice and those after it.
    pub fn runtime(self, n: u32) -> Option<Slice> {
        if n.checked_add(1)? >= self.slices() {
            return None;
        }
        Slice::at(self.start.checked_add((n + 1).checked_mul(SLICE)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_slice_is_storage_and_the_rest_are_runtime() {
        let range = Range { start: 1_000_000, count: 3 * SLICE };
        assert_eq!(range.storage().unwrap().base(), 1_000_000);
        assert_eq!(range.runtime(0).unwrap().base(), 1_065_536);
        assert_eq!(range.runtime(1).unwrap().base(), 1_131_072);
        assert_eq!(range.runtime(2), None);
        assert!(range.holds(range.runtime(1).unwrap()));
    }

    #[test]
    fn edges_do_not_wrap() {
        assert_eq!(Slice::at(0), None);
        assert_eq!(Slice::at(u32::MAX - SLICE + 2), None);
        let top = Range { start: u32::MAX - 10, count: 11 };
        assert_eq!(top.end(), 1 << 32);
        assert!(top.overlaps(Range { start: u32::MAX, count: 1 }));
        assert!(!top.overlaps(Range { start: 5, count: 1 }));
        assert_eq!(Range { start: u32::MAX - 10, count: u32::MAX }.runtime(0), None);
    }
}
