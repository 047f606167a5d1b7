//! Times at which something is done: patterns of cron(8).

use chrono::{DateTime, TimeZone};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Patterns of five fields, or names such as `@daily`; several are set apart by `;`.
#[derive(Debug, Clone)]
pub struct Schedule(Vec<Cron>);

impl Schedule {
    /// None: one of them is no pattern.
    pub fn parse(text: &str) -> Option<Self> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        // LXD's lists of names have commas, which within a pattern are something else.
        let apart = |part: &str| match part.trim().starts_with('@') {
            true => part.split(',').map(|name| name.trim().to_owned()).collect(),
            false => vec![part.trim().to_owned()],
        };
        let all: Option<Vec<Cron>> =
            text.split(';').flat_map(apart).map(|pattern| parser.parse(&pattern).ok()).collect();
        all.filter(|all| !all.is_empty()).map(Self)
    }

    /// The next time after `after`, in seconds since 1970; none if there is none any more.
    pub fn next<Z: TimeZone>(&self, after: i64, zone: &Z) -> Option<i64>
    where
        DateTime<Z>: croner::CronDateTime,
    {
        let after = zone.timestamp_opt(after, 0).single()?;
        let next = |cron: &Cron| cron.find_next_occurrence(&after, false).ok();
        self.0.iter().filter_map(next).map(|time| time.timestamp()).min()
    }

    /// Whether there was such a time after `after`, up to `until`.
    pub fn is_due<Z: TimeZone>(&self, after: i64, until: i64, zone: &Z) -> bool
    where
        DateTime<Z>: croner::CronDateTime,
    {
        self.next(after, zone).is_some_and(|next| next <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp()
    }

    #[test]
    fn patterns_and_names_are_read() {
        for good in [
            "* * * * *",
            "0 3 * * *",
            "*/15 * * * *",
            "0,30 3 * * mon-fri",
            "@daily",
            "@hourly, @weekly",
            "0 3 * * *; 0 12 1 * *",
        ] {
            assert!(Schedule::parse(good).is_some(), "{good}");
        }
        for bad in ["", "0 3 * *", "0 3 * * * *", "60 * * * *", "@never", "daily", "0 3 * * *;", ";"] {
            assert!(Schedule::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_due_is_told_also_after_a_long_time() {
        let schedule = Schedule::parse("0 3 * * *; 30 12 1 * *").unwrap();
        let due = |after: &str, until: &str| schedule.is_due(at(after), at(until), &Utc);
        assert!(!due("2026-11-28T03:00:00Z", "2026-11-29T02:59:59Z"));
        assert!(due("2026-11-28T03:00:00Z", "2026-11-29T03:00:00Z"));
        assert!(due("2026-11-28T02:59:59Z", "2026-11-28T03:00:00Z"));
        assert!(due("2026-12-01T03:00:00Z", "2026-12-01T12:30:00Z"));
        assert!(due("2020-01-01T00:00:00Z", "2026-12-01T12:30:00Z"));
        assert_eq!(schedule.next(at("2026-11-30T12:00:00Z"), &Utc), Some(at("2026-12-01T03:00:00Z")));
    }

    #[test]
    fn times_are_those_of_the_zone() {
        let schedule = Schedule::parse("0 3 * * *").unwrap();
        let zone = chrono::FixedOffset::east_opt(2 * 3600).unwrap();
        assert_eq!(schedule.next(at("2026-11-28T00:00:00Z"), &zone), Some(at("2026-11-28T01:00:00Z")));
    }
}
