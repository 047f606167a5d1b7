//! When to repair: soon after events stop, and later if every repair is undone.

use crate::model::waits;
use std::time::{Duration, Instant};

use super::own::Harm;

/// What has to be repaired, and since when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    grown: Option<Instant>,
    undone: Option<Instant>,
    links: Option<Instant>,
    /// When anything was heard last.
    heard: Option<Instant>,
}

impl Trouble {
    pub fn note(&mut self, harm: Harm, now: Instant) {
        self.heard = Some(now);
        match harm {
            Harm::None => {}
            Harm::Grown => self.grown = self.grown.or(Some(now)),
            Harm::Undone => self.undone = self.undone.or(Some(now)),
        }
    }

    /// A suspicious link may have gone with its container, or the change was undone.
    pub fn see_links(&mut self, are_suspicious: bool, now: Instant) {
        self.links = are_suspicious.then(|| self.links.unwrap_or(now));
    }

    pub fn is_of_firewall(&self) -> bool {
        self.grown.is_some() || self.undone.is_some()
    }

    /// When to repair; none if there is nothing to repair.
    pub fn due(&self, paces: &Paces) -> Option<Instant> {
        let causes = [
            (self.grown, paces.grown),
            (self.undone, paces.undone.not_before),
            (self.links, paces.links.not_before),
        ];
        let due = causes.into_iter().filter_map(|(since, not_before)| {
            let quiet = self.heard.max(since)? + waits::REPAIR_SETTLE;
            Some(quiet.min(since? + waits::REPAIR_SETTLE_MOST).max(not_before))
        });
        due.min()
    }
}

/// When the next repair for each cause may come. No cause waits for another: what is gone is not missed for
/// longer because another firewall grows, or because routes come and go.
#[derive(Debug)]
pub struct Paces {
    grown: Instant,
    undone: Pace,
    links: Pace,
}

#[derive(Debug)]
struct Pace {
    not_before: Instant,
    pause: Duration,
}

impl Paces {
    pub fn new(now: Instant) -> Self {
        let pace = || Pace { not_before: now, pause: waits::REPAIR_PAUSE };
        Self { grown: now, undone: pace(), links: pace() }
    }

    /// A repair of `trouble` has ended. Returns how long the next has to wait, where that is long.
    pub fn repaired(&mut self, trouble: &Trouble, now: Instant) -> Option<Duration> {
        self.grown = now + waits::REPAIR_PAUSE_OF_GROWTH;
        let undone = trouble.undone.map(|since| self.undone.repaired(since, now));
        let links = trouble.links.map(|since| self.links.repaired(since, now));
        undone.max(links).filter(|pause| *pause > waits::REPAIR_PAUSE_TOLD)
    }
}

impl Pace {
    fn repaired(&mut self, since: Instant, now: Instant) -> Duration {
        // After a long time without trouble, this counts as the first again.
        if since >= self.not_before {
            self.pause = waits::REPAIR_PAUSE;
        }
        let pause = self.pause;
        self.not_before = now + pause;
        self.pause = (pause * 2).min(waits::REPAIR_PAUSE_MOST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn of(harm: Harm, now: Instant) -> Trouble {
        let mut trouble = Trouble::default();
        trouble.note(harm, now);
        trouble
    }

    #[test]
    fn a_repair_waits_until_it_is_quiet_but_not_for_ever() {
        let start = Instant::now();
        let paces = Paces::new(start);
        assert_eq!(of(Harm::None, start).due(&paces), None);
        let mut trouble = of(Harm::Undone, start);
        assert_eq!(trouble.due(&paces), Some(start + waits::REPAIR_SETTLE));
        for step in 1..10 {
            trouble.note(Harm::None, start + step * 100 * MS);
        }
        assert_eq!(trouble.due(&paces), Some(start + waits::REPAIR_SETTLE_MOST));
        let mut trouble = Trouble::default();
        trouble.see_links(true, start);
        trouble.see_links(true, start + MS);
        assert_eq!(trouble.due(&paces), Some(start + waits::REPAIR_SETTLE));
        trouble.see_links(false, start + 2 * MS);
        assert_eq!(trouble.due(&paces), None);
    }

    #[test]
    fn pauses_grow_with_what_is_undone_and_begin_anew_after_a_quiet_time() {
        let mut now = Instant::now();
        let mut paces = Paces::new(now);
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let told = paces.repaired(&of(Harm::Undone, now), now);
            assert_eq!(told, Some(Duration::from_secs(pause)).filter(|_| pause > 4));
            // Undone at once.
            now += MS;
            let due = of(Harm::Undone, now).due(&paces).unwrap();
            assert_eq!(due, now - MS + Duration::from_secs(pause));
        }
        now += Duration::from_secs(31);
        paces.repaired(&of(Harm::Undone, now), now);
        assert_eq!(of(Harm::Undone, now).due(&paces), Some(now + waits::REPAIR_PAUSE));
    }

    #[test]
    fn what_is_undone_does_not_wait_for_what_grows_nor_for_links() {
        let now = Instant::now();
        let mut paces = Paces::new(now);
        let mut links = of(Harm::Grown, now);
        links.see_links(true, now);
        for _ in 0..5 {
            paces.repaired(&links, now);
        }
        assert_eq!(of(Harm::Grown, now).due(&paces), Some(now + waits::REPAIR_PAUSE_OF_GROWTH));
        let mut trouble = of(Harm::Grown, now);
        trouble.note(Harm::Undone, now + MS);
        assert_eq!(trouble.due(&paces), Some(now + MS + waits::REPAIR_SETTLE));
    }
}
