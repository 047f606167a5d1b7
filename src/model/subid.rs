//! /etc/subuid and /etc/subgid: what they say, and where a new range fits.

use super::ids::{IDS_PER_RANGE, SubordinateIds};

/// Id ranges that an instance usually gets: the storage ids and those of 1023 containers.
pub const DEFAULT_ID_RANGES: u32 = 1024;

/// How many an instance can be given: one for storage and, besides that, one for a container at least.
pub const ID_RANGES: std::ops::RangeInclusive<u32> = 2..=65_535;

/// The usual number for an ordinary user.
pub const USERS_ID_RANGES: u32 = 64;

/// Ids that systemd's allocation (<https://systemd.io/UIDS-GIDS/>) leaves to nobody: between its
/// containers, which end below 1879048192, and the foreign ids, which begin at 2147352576.
const PREFERRED: Window = Window { start: 1_879_048_192, end: 2_147_352_576 };

/// Where a range goes when the preferred window is full. Below it are users, services and the ranges that
/// useradd hands out; at 2^31 some programs begin to see negative numbers.
const FALLBACK: Window = Window { start: 1_000_000, end: PREFERRED.end };

#[derive(Clone, Copy)]
struct Window {
    start: u64,
    end: u64,
}

/// One `owner:start:count` line. The owner is a user's name or uid, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// A name or a uid.
    pub owner: &'a str,
    /// The ids that the line gives.
    pub range: SubordinateIds,
    /// Counted from 1.
    pub line: usize,
}

impl Entry<'_> {
    /// Whether the line is this user's, by name or by uid.
    pub fn belongs_to(&self, user: &str, uid: u32) -> bool {
        self.owner == user || self.owner == uid.to_string()
    }
}

/// A line that is neither an entry nor empty nor a comment. The programs that read the file pass
/// over it without a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not 'name:start:count': '{text}'")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// At most 80 characters.
    pub text: String,
}

/// Reads a whole file, passing over comments and empty lines.
pub fn parse(text: &str) -> (Vec<Entry<'_>>, Vec<BadLine>) {
    let mut entries = Vec::new();
    let mut bad = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        if raw.trim().is_empty() || raw.starts_with('#') {
            continue;
        }
        match entry(raw, line) {
            Some(entry) => entries.push(entry),
            None => bad.push(BadLine { line, text: raw.chars().take(80).collect() }),
        }
    }
    (entries, bad)
}

fn entry(raw: &str, line: usize) -> Option<Entry<'_>> {
    let mut fields = raw.split(':');
    let (owner, start, count) = (fields.next()?, fields.next()?, fields.next()?);
    if owner.is_empty() || fields.next().is_some() {
        return None;
    }
    let range = SubordinateIds { start: number(start)?, count: number(count)? };
    (range.count > 0).then_some(Entry { owner, range, line })
}

/// As shadow's programs read a number: C's notation, so that no range escapes the overlap check by
/// being written `0x…` or `0…`.
fn number(text: &str) -> Option<u32> {
    let text = text.trim_start();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

/// The ranges of one user, in the file's order, whether the lines name it or number it.
pub fn ranges_of(text: &str, user: &str, uid: u32) -> Vec<SubordinateIds> {
    parse(text).0.iter().filter(|e| e.belongs_to(user, uid)).map(|e| e.range).collect()
}

/// The range to work with: the first that both files give the user, and holds an id range at least.
pub fn common_range(uids: &[SubordinateIds], gids: &[SubordinateIds]) -> Option<SubordinateIds> {
    uids.iter().copied().find(|range| range.storage().is_some() && gids.contains(range))
}

/// A free range of `id_ranges` id ranges, beginning at a multiple of 65,536. `existing` holds every range
/// of both files and, as ranges of one, the uids and gids of real users and groups.
pub fn choose_range(existing: &[SubordinateIds], id_ranges: u32) -> Option<SubordinateIds> {
    let count = id_ranges.checked_mul(IDS_PER_RANGE).filter(|count| *count > 0)?;
    let mut taken = existing.to_vec();
    taken.sort_by_key(|range| range.start);
    [PREFERRED, FALLBACK].into_iter().find_map(|window| lowest_gap(&taken, window, count))
}

/// `taken` is sorted by start.
fn lowest_gap(taken: &[SubordinateIds], window: Window, count: u32) -> Option<SubordinateIds> {
    let mut start = aligned(window.start);
    for range in taken {
        if u64::from(range.start) >= start + u64::from(count) {
            break;
        }
        start = start.max(aligned(range.end()));
    }
    let fits = start + u64::from(count) <= window.end;
    fits.then(|| u32::try_from(start).ok().map(|start| SubordinateIds { start, count })).flatten()
}

fn aligned(id: u64) -> u64 {
    id.next_multiple_of(u64::from(IDS_PER_RANGE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u32, count: u32) -> SubordinateIds {
        SubordinateIds { start, count }
    }

    #[test]
    fn names_and_uids_own_lines_and_garbage_has_a_position() {
        let text = "# comment\n\nann:100000:65536\n1001:0x100000:0200000\nann:300000:65536\nrubbish\n\
                    bob:1:2:3\n:5:5\nbob:-1:5\nbob:5:0\nbob:4294967296:1\nbob: +5:5\n";
        let (entries, bad) = parse(text);
        assert_eq!(entries.len(), 3);
        assert_eq!(ranges_of(text, "ann", 7), [range(100_000, 65_536), range(300_000, 65_536)]);
        assert_eq!(ranges_of(text, "bob", 1001), [range(1_048_576, 65_536)]);
        assert_eq!(ranges_of(text, "an", 100), []);
        assert_eq!(bad.iter().map(|b| b.line).collect::<Vec<_>>(), [6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(bad[0].to_string(), "line 6 is not 'name:start:count': 'rubbish'");
    }

    #[test]
    fn only_a_range_that_stands_in_both_files_counts() {
        let small = range(1, 65_535);
        let good = range(200_000, 131_072);
        assert_eq!(common_range(&[small, good], &[good, small]), Some(good));
        assert_eq!(common_range(&[good], &[range(200_000, 65_536)]), None);
        assert_eq!(common_range(&[small], &[small]), None);
    }

    #[test]
    fn prefers_the_ids_that_nobody_was_given() {
        assert_eq!(choose_range(&[], 1024), Some(range(1_879_048_192, 1024 * IDS_PER_RANGE)));
        let first = choose_range(&[], 1024).unwrap();
        let second = choose_range(&[first], 1024).unwrap();
        assert_eq!(u64::from(second.start), first.end());
        // One id in the first id range pushes the range to the next boundary.
        assert_eq!(choose_range(&[range(1_879_048_200, 1)], 1).unwrap().start, 1_879_048_192 + IDS_PER_RANGE);
    }

    #[test]
    fn falls_back_to_the_lowest_gap_above_a_million() {
        let upper = range(1_879_048_192, 268_435_456);
        assert_eq!(choose_range(&[upper], 2), Some(range(1_048_576, 2 * IDS_PER_RANGE)));
        assert_eq!(choose_range(&[upper, range(1_048_576, 10)], 1), Some(range(1_114_112, IDS_PER_RANGE)));
        assert_eq!(choose_range(&[range(0, u32::MAX)], 1), None);
        assert_eq!(choose_range(&[], 0), None);
        assert_eq!(choose_range(&[], 65_536), None);
    }

    proptest! {
        #[test]
        fn never_overlaps_never_passes_2_31(
            taken in prop::collection::vec((any::<u32>(), 1u32..500_000_000), 0..12),
            id_ranges in 1u32..5000,
        ) {
            let taken: Vec<SubordinateIds> = taken.into_iter().map(|(s, c)| range(s, c)).collect();
            if let Some(got) = choose_range(&taken, id_ranges) {
                prop_assert!(taken.iter().all(|r| !r.overlaps(got)), "{got:?}");
                prop_assert!(got.start % IDS_PER_RANGE == 0 && got.start >= 1_000_000 && got.end() <= 1 << 31);
                prop_assert_eq!(got.id_ranges(), id_ranges);
            }
        }
    }
}
