//! How snapshots are called that the user does not name.

use super::super::snapshot::SnapshotName;
use crate::model::time::rfc3339;

/// A name with `%d` for a number that grows, or `{time}` for the time in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

const NUMBER: &str = "%d";
const TIME: &str = "{time}";

impl Default for Pattern {
    fn default() -> Self {
        Self("snap%d".to_owned())
    }
}

impl Pattern {
    /// None: what would come of it is no name.
    pub fn parse(text: &str) -> Option<Self> {
        let sample = text.replacen(NUMBER, "0", 1).replacen(TIME, &rfc3339(0), 1);
        SnapshotName::new(&sample).ok().map(|_| Self(text.to_owned()))
    }

    /// The name at `now`, in seconds since 1970, that none of `others` has.
    pub fn name<'a>(&self, now: i64, others: impl Iterator<Item = &'a str> + Clone) -> Option<SnapshotName> {
        let text = self.0.replacen(TIME, &rfc3339(now), 1);
        let Some((before, after)) = text.split_once(NUMBER) else {
            let is_taken = |name: &str| others.clone().any(|other| other == name);
            // Two within a second, or a pattern without anything that changes.
            let numbered = (2..10_000).map(|n| format!("{text}-{n}"));
            let free = std::iter::once(text.clone()).chain(numbered).find(|name| !is_taken(name))?;
            return SnapshotName::new(&free).ok();
        };
        let number = |name: &str| name.strip_prefix(before)?.strip_suffix(after)?.parse::<u64>().ok();
        let next = others.filter_map(number).max().map_or(0, |last| last.saturating_add(1));
        SnapshotName::new(&format!("{before}{next}{after}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_new() {
        let name = |pattern: &str, others: &[&str]| {
            Pattern::parse(pattern).unwrap().name(1_795_838_400, others.iter().copied()).unwrap().to_string()
        };
        assert_eq!(name("snap%d", &[]), "snap0");
        assert_eq!(name("snap%d", &["snap0", "snap9", "snapx", "other"]), "snap10");
        assert_eq!(name("auto-%d-x", &["auto-3-x"]), "auto-4-x");
        assert_eq!(name("auto-{time}", &[]), "auto-2026-11-28T04:00:00Z");
        assert_eq!(name("auto-{time}", &["auto-2026-11-28T04:00:00Z"]), "auto-2026-11-28T04:00:00Z-2");
        assert_eq!(name("nightly", &["nightly", "nightly-2"]), "nightly-3");
        for bad in ["", "a b", "../%d", "%d/", "{date}"] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }
}
