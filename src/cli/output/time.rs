//! Times, for users and for programs. Always UTC, so that no time zone file of the host is needed.

pub use crate::model::time::rfc3339;
pub use crate::sys::kernel::clock::now;

/// How long ago `then` was: `3 minutes ago`.
pub fn age(now: i64, then: i64) -> String {
    const UNITS: [(i64, &str); 7] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let seconds = now.saturating_sub(then);
    // After a clock was set back, times may lie in the future.
    let Some((length, unit)) = UNITS.iter().find(|(length, _)| seconds >= *length) else {
        return "just now".to_owned();
    };
    let count = seconds / length;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_the_largest_unit() {
        for (seconds, text) in [
            (-5, "just now"),
            (0, "just now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (180, "3 minutes ago"),
            (7199, "1 hour ago"),
            (86_400, "1 day ago"),
            (13 * 86_400, "1 week ago"),
            (61 * 86_400, "2 months ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            assert_eq!(age(1_000_000_000, 1_000_000_000 - seconds), text);
        }
        assert_eq!(age(i64::MAX, i64::MIN), age(i64::MAX, 0));
    }
}
