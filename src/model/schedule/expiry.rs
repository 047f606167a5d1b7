//! For how long a snapshot is kept.

use chrono::{Days, Months, TimeDelta, TimeZone};

/// Spans that are added to a time: `1M 2H 3d 4w 5m 6y`, as LXD writes minutes, hours, days, weeks, months and years.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expiry {
    minutes: u32,
    hours: u32,
    days: u32,
    weeks: u32,
    months: u32,
    years: u32,
}

impl Expiry {
    /// None: it is no such list, or of no length.
    pub fn parse(text: &str) -> Option<Self> {
        let mut expiry = Self::default();
        for part in text.split_whitespace() {
            let (number, unit) = part.split_at_checked(part.len() - 1)?;
            let place = match unit {
                "M" => &mut expiry.minutes,
                "H" => &mut expiry.hours,
                "d" => &mut expiry.days,
                "w" => &mut expiry.weeks,
                "m" => &mut expiry.months,
                "y" => &mut expiry.years,
                _ => return None,
            };
            *place = number.parse().ok().filter(|number| *number > 0 && *number <= 100_000)?;
        }
        (expiry != Self::default()).then_some(expiry)
    }

    /// The time that is so much after `from`, in seconds since 1970; none if that is beyond all calendars.
    pub fn after<Z: TimeZone>(self, from: i64, zone: &Z) -> Option<i64> {
        let from = zone.timestamp_opt(from, 0).single()?;
        let months = self.years.checked_mul(12)?.checked_add(self.months)?;
        let days = u64::from(self.weeks) * 7 + u64::from(self.days);
        let minutes = i64::from(self.hours) * 60 + i64::from(self.minutes);
        let time = from.checked_add_months(Months::new(months))?.checked_add_days(Days::new(days))?;
        Some(time.checked_add_signed(TimeDelta::try_minutes(minutes)?)?.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};

    #[test]
    fn spans_are_added_as_a_calendar_has_them() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp();
        let after = |text: &str| Expiry::parse(text).unwrap().after(at("2026-01-31T10:00:00Z"), &Utc);
        for (text, time) in [
            ("30M", "2026-01-31T10:30:00Z"),
            ("2H", "2026-01-31T12:00:00Z"),
            ("1d", "2026-02-01T10:00:00Z"),
            ("2w", "2026-02-14T10:00:00Z"),
            ("1m", "2026-02-28T10:00:00Z"),
            ("1y 1d 1H", "2027-02-01T11:00:00Z"),
        ] {
            assert_eq!(after(text), Some(at(time)), "{text}");
        }
        for bad in ["", "1", "d", "0d", "-1d", "1.5d", "1d,2H", "1x", "9999999d", "ä"] {
            assert_eq!(Expiry::parse(bad), None, "{bad}");
        }
    }
}
