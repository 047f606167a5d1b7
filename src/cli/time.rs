//! Moments, for people and for programs. Always UTC: no file of the host says otherwise.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// RFC 3339: `2025-11-21T10:03:10Z`.
pub fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years begin in
/// March here, so that a leap day is a year's last day (Hinnant, "chrono-compatible low-level date
/// algorithms").
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

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
    // A clock that was set back makes things from the future.
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
    fn dates_are_those_of_the_calendar() {
        // As `date -u -d @N +%FT%TZ` prints them.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_763_719_390, "2025-11-21T10:03:10Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

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
