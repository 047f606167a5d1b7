//! User and group ids: an owner's subordinate ids, and the id ranges that they are divided into.

use serde::{Deserialize, Serialize};

/// Ids in an id range: enough for every id a distribution uses, 65534 (nobody) included.
pub const IDS_PER_RANGE: u32 = 65_536;

/// An id range: 65,536 consecutive host ids, the same for users and groups, beginning at `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdRange {
    base: u32,
}

impl IdRange {
    /// The id range that begins at host id `base`; none if it would contain id 0 or pass 2^32 - 2.
    pub fn at(base: u32) -> Option<Self> {
        (base != 0 && base.checked_add(IDS_PER_RANGE - 1)? < u32::MAX).then_some(Self { base })
    }

    /// Its first host id, which is the guest's root.
    pub fn base(self) -> u32 {
        self.base
    }
}

/// `count` consecutive host ids beginning at `start`: one line of /etc/subuid or /etc/subgid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubordinateIds {
    /// The first id.
    pub start: u32,
    /// How many ids.
    pub count: u32,
}

impl SubordinateIds {
    /// One past the last id; 64 bits wide, for a range may end at 2^32.
    pub fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }

    /// Whether both have an id in common.
    pub fn overlaps(self, other: SubordinateIds) -> bool {
        u64::from(self.start) < other.end() && u64::from(other.start) < self.end()
    }

    /// Whether all ids of `id_range` are among them.
    pub fn holds(self, id_range: IdRange) -> bool {
        self.start <= id_range.base && u64::from(id_range.base) + u64::from(IDS_PER_RANGE) <= self.end()
    }

    /// How many whole id ranges it contains, the storage ids included.
    pub fn id_ranges(self) -> u32 {
        self.count / IDS_PER_RANGE
    }

    /// The storage ids, which files on disk belong to: the first id range.
    pub fn storage(self) -> Option<IdRange> {
        (self.id_ranges() >= 1).then(|| IdRange::at(self.start)).flatten()
    }

    /// Runtime ids number `n`, counted from 0: the second id range and those after it.
    pub fn runtime(self, n: u32) -> Option<IdRange> {
        if n.checked_add(1)? >= self.id_ranges() {
            return None;
        }
        IdRange::at(self.start.checked_add((n + 1).checked_mul(IDS_PER_RANGE)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_id_range_is_storage_and_the_rest_are_runtime() {
        let range = SubordinateIds { start: 1_000_000, count: 3 * IDS_PER_RANGE };
        assert_eq!(range.storage().unwrap().base(), 1_000_000);
        assert_eq!(range.runtime(0).unwrap().base(), 1_065_536);
        assert_eq!(range.runtime(1).unwrap().base(), 1_131_072);
        assert_eq!(range.runtime(2), None);
        assert!(range.holds(range.runtime(1).unwrap()));
    }

    #[test]
    fn edges_do_not_wrap() {
        assert_eq!(IdRange::at(0), None);
        assert_eq!(IdRange::at(u32::MAX - IDS_PER_RANGE + 2), None);
        let top = SubordinateIds { start: u32::MAX - 10, count: 11 };
        assert_eq!(top.end(), 1 << 32);
        assert!(top.overlaps(SubordinateIds { start: u32::MAX, count: 1 }));
        assert!(!top.overlaps(SubordinateIds { start: 5, count: 1 }));
        assert_eq!(SubordinateIds { start: u32::MAX - 10, count: u32::MAX }.runtime(0), None);
    }
}
