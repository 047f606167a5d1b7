//! Limits of which each is one number in one file of the cgroup.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::config::value::{NO_LIMIT, integer, size};

/// Bytes.
pub const MEMORY_MAX: &str = "memory.max";
/// Bytes beyond which its processes are slowed.
pub const MEMORY_HIGH: &str = "memory.high";
/// Bytes, apart from memory.
pub const SWAP_MAX: &str = "memory.swap.max";
/// Processes and threads.
pub const PIDS_MAX: &str = "pids.max";

/// Least memory that a limit may leave, in bytes: with less not even a shell starts.
pub const LEAST_MEMORY: u64 = 1 << 20;

/// A file of the cgroup that takes one number.
pub struct Number {
    pub file: &'static str,
    /// The configuration key that it is for.
    pub key: &'static str,
    /// What of `HostFacts::controllers` it takes.
    pub needs: &'static str,
    /// The number in the key's value; None where more than that decides.
    pub read: Option<fn(&str) -> Option<u64>>,
    /// Less makes no sense.
    pub least: u64,
    /// The kernel rounds down to a multiple of it, or of less.
    pub step: u64,
}

/// In the order in which they are written: those whose file a later write could still break come first.
pub const NUMBERS: &[Number] = &[
    Number {
        file: PIDS_MAX,
        key: "limits.processes",
        needs: "pids",
        read: Some(|text| integer(text).and_then(|n| u64::try_from(n).ok())),
        least: 1,
        step: 1,
    },
    hugepages("hugetlb.1GB.max", "limits.hugepages.1GB", "hugetlb.1GB", 1 << 30),
    hugepages("hugetlb.1GB.rsvd.max", "limits.hugepages.1GB", "hugetlb.1GB", 1 << 30),
    hugepages("hugetlb.1MB.max", "limits.hugepages.1MB", "hugetlb.1MB", 1 << 20),
    hugepages("hugetlb.1MB.rsvd.max", "limits.hugepages.1MB", "hugetlb.1MB", 1 << 20),
    hugepages("hugetlb.2MB.max", "limits.hugepages.2MB", "hugetlb.2MB", 2 << 20),
    hugepages("hugetlb.2MB.rsvd.max", "limits.hugepages.2MB", "hugetlb.2MB", 2 << 20),
    hugepages("hugetlb.64KB.max", "limits.hugepages.64KB", "hugetlb.64KB", 64 << 10),
    hugepages("hugetlb.64KB.rsvd.max", "limits.hugepages.64KB", "hugetlb.64KB", 64 << 10),
    memory(SWAP_MAX, "limits.memory.swap", 0),
    memory(MEMORY_HIGH, "limits.memory", LEAST_MEMORY),
    memory(MEMORY_MAX, "limits.memory", LEAST_MEMORY),
];

/// Rounded to pages, which have at most 64 KiB.
const fn memory(file: &'static str, key: &'static str, least: u64) -> Number {
    Number { file, key, needs: "memory", read: None, least, step: 65_536 }
}

const fn hugepages(file: &'static str, key: &'static str, needs: &'static str, page: u64) -> Number {
    Number { file, key, needs, read: Some(size), least: 0, step: page }
}

impl Number {
    /// The controller that has the file.
    pub fn controller(&self) -> &'static str {
        self.file.split_once('.').map_or(self.file, |(controller, _)| controller)
    }
}

/// Why there is no limit that takes `needs`, on a host with these controllers of cgroup v2 and those
/// of cgroup v1. None: there is.
pub fn lacking(needs: &str, controllers: &BTreeSet<String>, legacy: &BTreeSet<String>) -> Option<String> {
    if controllers.contains(needs) {
        return None;
    }
    if let Some((controller, pages)) = needs.split_once('.') {
        let none = || format!("this host's kernel has no huge pages of {pages}");
        return lacking(controller, controllers, legacy).or_else(|| Some(none()));
    }
    let bound = if legacy.contains(needs) { ": it is bound to cgroup v1" } else { "" };
    Some(format!("this host's cgroup v2 has no '{needs}' controller{bound}"))
}

/// What is limited, by file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers(BTreeMap<String, u64>);

impl Numbers {
    /// `NO_LIMIT` where the file limits nothing.
    pub fn get(&self, file: &str) -> u64 {
        self.0.get(file).copied().unwrap_or(NO_LIMIT)
    }

    /// `NO_LIMIT` takes a limit back.
    pub fn set(&mut self, file: &str, number: u64) {
        match number {
            NO_LIMIT => self.0.remove(file),
            number => self.0.insert(file.to_owned(), number),
        };
    }

    /// Whether these are files that there are, with numbers that make sense.
    pub fn are_sound(&self) -> bool {
        self.0.iter().all(|(file, number)| {
            NUMBERS.iter().any(|known| known.file == file && (known.least..NO_LIMIT).contains(number))
        })
    }
}

impl<const N: usize> From<[(&str, u64); N]> for Numbers {
    fn from(pairs: [(&str, u64); N]) -> Self {
        let mut numbers = Self::default();
        pairs.into_iter().for_each(|(file, number)| numbers.set(file, number));
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::CONFIG_KEYS;

    #[test]
    fn huge_pages_need_the_controller_and_pages_of_their_size() {
        let reason = |names: &[&str], legacy: &[&str]| {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            lacking("hugetlb.2MB", &set(names), &set(legacy))
        };
        assert_eq!(reason(&["hugetlb", "hugetlb.2MB"], &[]), None);
        let pages = "this host's kernel has no huge pages of 2MB";
        assert_eq!(reason(&["hugetlb", "hugetlb.1GB"], &[]).as_deref(), Some(pages));
        let bound = "this host's cgroup v2 has no 'hugetlb' controller: it is bound to cgroup v1";
        assert_eq!(reason(&["memory"], &["hugetlb"]).as_deref(), Some(bound));
    }

    #[test]
    fn every_number_is_what_its_key_sets() {
        for number in NUMBERS {
            let key = CONFIG_KEYS.find(number.key).unwrap();
            assert!(key.sets.contains(&number.file), "{}", number.file);
            assert!(number.needs.starts_with(number.controller()), "{}", number.file);
        }
        let files = CONFIG_KEYS.keys.iter().flat_map(|key| key.sets);
        for file in files.filter(|file| !NUMBERS.iter().any(|number| number.file == **file)) {
            assert!(file.starts_with("cpu") || file.starts_with("io"), "{file}");
        }
    }
}
