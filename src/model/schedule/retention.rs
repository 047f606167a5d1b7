//! Which of the snapshots that were made by themselves are kept.

use chrono::{DateTime, Datelike, TimeZone, Timelike};

/// How many are kept of each span: the last of each of the latest 24 hours, 7 days and so on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    hourly: usize,
    daily: usize,
    weekly: usize,
    monthly: usize,
    yearly: usize,
}

impl Retention {
    /// Reads `24 hourly, 7 daily, 4 weekly, 12 monthly, 2 yearly`. None: it is no such list.
    pub fn parse(text: &str) -> Option<Self> {
        let mut retention = Self::default();
        for part in text.split(',') {
            let (number, unit) = part.trim().split_once(' ')?;
            let place = match unit.trim() {
                "hourly" => &mut retention.hourly,
                "daily" => &mut retention.daily,
                "weekly" => &mut retention.weekly,
                "monthly" => &mut retention.monthly,
                "yearly" => &mut retention.yearly,
                _ => return None,
            };
            *place = number.parse().ok().filter(|number| (1..=1000).contains(number))?;
        }
        Some(retention)
    }

    /// Which of these times, in seconds since 1970, are kept. The latest always is.
    pub fn kept<Z: TimeZone>(self, times: &[i64], zone: &Z) -> Vec<bool> {
        type Span = fn(&dyn Spans) -> (i32, u32, u32);
        let rules: [(usize, Span); 5] = [
            (self.hourly, |t| (t.year(), t.day(), t.hour())),
            (self.daily, |t| (t.year(), t.day(), 0)),
            (self.weekly, |t| (t.week().0, t.week().1, 0)),
            (self.monthly, |t| (t.year(), t.month(), 0)),
            (self.yearly, |t| (t.year(), 0, 0)),
        ];
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|place| std::cmp::Reverse(times[*place]));
        let mut kept = vec![false; times.len()];
        if let Some(latest) = order.first() {
            kept[*latest] = true;
        }
        for (most, span) in rules {
            let (mut count, mut last) = (0, None);
            for place in &order {
                let Some(time) = zone.timestamp_opt(times[*place], 0).single() else { continue };
                let now = Some(span(&time));
                if count < most && now != last {
                    kept[*place] = true;
                    count += 1;
                }
                last = now;
            }
        }
        kept
    }
}

/// What a time is of.
trait Spans {
    fn year(&self) -> i32;
    fn month(&self) -> u32;
    /// Of the year.
    fn day(&self) -> u32;
    fn hour(&self) -> u32;
    /// The year that it belongs to, and its number.
    fn week(&self) -> (i32, u32);
}

impl<Z: TimeZone> Spans for DateTime<Z> {
    fn year(&self) -> i32 {
        Datelike::year(self)
    }
    fn month(&self) -> u32 {
        Datelike::month(self)
    }
    fn day(&self) -> u32 {
        self.ordinal()
    }
    fn hour(&self) -> u32 {
        Timelike::hour(self)
    }
    fn week(&self) -> (i32, u32) {
        let week = self.iso_week();
        (week.year(), week.week())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;

    #[test]
    fn lists_are_read() {
        let all = Retention::parse("24 hourly, 7 daily,4 weekly, 12 monthly, 2 yearly").unwrap();
        assert_eq!((all.hourly, all.daily, all.weekly, all.monthly, all.yearly), (24, 7, 4, 12, 2));
        for bad in ["", "24", "hourly", "24 minutely", "0 daily", "1001 daily", "7 daily,", "-1 daily"] {
            assert_eq!(Retention::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_last_of_each_span_is_kept() {
        // Every half hour of a hundred days.
        let last = DateTime::parse_from_rfc3339("2026-11-28T10:30:00Z").unwrap().timestamp();
        let times: Vec<i64> = (0..4800).map(|n| last - n * 1800).collect();
        let retention = Retention::parse("3 hourly, 2 daily, 2 weekly").unwrap();
        let kept = retention.kept(&times, &Utc);
        let kept: Vec<String> = times
            .iter()
            .zip(kept)
            .filter(|(_, kept)| *kept)
            .map(|(time, _)| DateTime::from_timestamp(*time, 0).unwrap().format("%m-%dT%H:%M").to_string())
            .collect();
        assert_eq!(kept, ["11-28T10:30", "11-28T09:30", "11-28T08:30", "11-27T23:30", "11-22T23:30"]);
        assert_eq!(retention.kept(&[], &Utc), Vec::<bool>::new());
        assert_eq!(Retention::default().kept(&times[..3], &Utc), [true, false, false]);
    }
}
