//! The known name that a mistyped one was probably meant to be.

/// Fewer letters begin too many names.
const LEAST_BEGINNING: usize = 3;

/// The nearest of `known` to `wanted`, the earlier of two that are equally near. None where even
/// the nearest differs in more than a third of its characters (at least 1, at most 3 of them): a
/// far-fetched suggestion is worse than none.
///
/// A name that was not typed to its end comes before all that: the shortest that begins so.
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.collect();
    let begun = known.iter().filter(|name| wanted.len() >= LEAST_BEGINNING && name.starts_with(wanted));
    if let Some(name) = begun.min_by_key(|name| name.len()) {
        return Some(name);
    }
    let wanted: Vec<char> = wanted.chars().collect();
    let mut best: Option<(usize, &str)> = None;
    for name in known {
        let letters: Vec<char> = name.chars().collect();
        let longer = wanted.len().max(letters.len());
        let limit = (longer / 3).clamp(1, 3);
        // The distance is at least the difference in length, and telling so is cheap.
        if wanted.len().abs_diff(letters.len()) > limit {
            continue;
        }
        let found = distance(&wanted, &letters);
        // A name changed in every character is no likeness: 'a' does not suggest 'b'.
        let alike = found <= limit && (found == 0 || found < wanted.len().min(letters.len()));
        if alike && best.is_none_or(|(least, _)| found < least) {
            best = Some((found, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b`, no part
/// being edited twice (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn among<'a>(wanted: &str, known: &[&'a str]) -> Option<&'a str> {
        nearest(wanted, known.iter().copied())
    }

    #[test]
    fn slips_of_the_finger_are_recognised() {
        let verbs = ["launch", "list", "start", "stop", "delete"];
        assert_eq!(among("lauch", &verbs), Some("launch"));
        assert_eq!(among("lsit", &verbs), Some("list"));
        assert_eq!(among("strat", &verbs), Some("start"));
        assert_eq!(among("dlete", &verbs), Some("delete"));
        assert_eq!(among("list", &verbs), Some("list"));
        assert_eq!(among("web1", &["web01", "db01"]), Some("web01"));
    }

    #[test]
    fn a_beginning_is_completed() {
        let keys = ["limits.cpu", "limits.memory.swap", "limits.memory", "limits.read"];
        assert_eq!(among("limits.mem", &keys), Some("limits.memory"));
        assert_eq!(among("limits.memory", &keys), Some("limits.memory"));
        assert_eq!(among("we", &["database", "webserver-of-the-shop"]), None);
    }

    #[test]
    fn strangers_are_not_suggested() {
        assert_eq!(among("a", &["b", "c"]), None);
        assert_eq!(among("", &["a", "web01"]), None);
        assert_eq!(among("mail", &["web01", "db01"]), None);
        assert_eq!(among("web01", &[]), None);
        assert_eq!(among("production-database", &["production-webserver"]), None);
    }

    #[test]
    fn of_equally_near_ones_the_first_is_taken() {
        assert_eq!(among("web03", &["db01", "web01", "web02"]), Some("web01"));
        assert_eq!(among("web02", &["web01", "web02"]), Some("web02"));
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(a in "[abc]{0,8}", b in "[abc]{0,8}") {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            let d = distance(&a, &b);
            prop_assert_eq!(d, distance(&b, &a));
            prop_assert!(d >= a.len().abs_diff(b.len()) && d <= a.len().max(b.len()));
            prop_assert_eq!(d == 0, a == b);
        }
    }
}
