//! When a repair is to be: soon where it is quiet again, later where every repair is undone.

use std::time::{Duration, Instant};

use super::own::Harm;

/// How long it is to be quiet before a repair: who loads rules loads many.
const SETTLE: Duration = Duration::from_millis(150);
/// … and how long that is waited for at most.
pub const SETTLE_AT_MOST: Duration = Duration::from_millis(500);
/// From one repair to the next for the same cause. It doubles as long as every repair is followed by its
/// undoing: somebody else may be as stubborn.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Whoever makes it grow longer than that is told of.
const LONG_PAUSE: Duration = Duration::from_secs(4);
/// The pause while a firewall grows, which may take long, as at a start of Docker's: somebody else's work,
/// but not against ours.
pub const PAUSE_OF_GROWTH: Duration = Duration::from_secs(2);

/// What there is to be repaired, and since when.
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

    /// What was suspicious may have gone together with its container, or was undone.
    pub fn see_links(&mut self, are_suspicious: bool, now: Instant) {
        self.links = are_suspicious.then(|| self.links.unwrap_or(now));
    }

    pub fn is_of_firewall(&self) -> bool {
        self.grown.is_some() || self.undone.is_some()
    }

    /// When it is to be repaired; none where there is none.
    pub fn due(&self, paces: &Paces) -> Option<Instant> {
        let causes = [
            (self.grown, paces.grown),
            (self.undone, paces.undone.not_before),
            (self.links, paces.links.not_before),
        ];
        let due = causes.into_iter().filter_map(|(since, not_before)| {
            let quiet = self.heard.max(since)? + SETTLE;
            Some(quiet.min(since? + SETTLE_AT_MOST).max(not_before))
        });
        due.min()
    }
}

/// How soon the next repair for each cause may be. None waits because of another: what has gone is not
/// missed for longer because somebody's firewall grows, or because routes come and go.
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
        let pace = || Pace { not_before: now, pause: PAUSE };
        Self { grown: now, undone: pace(), links: pace() }
    }

    /// A repair of `trouble` has ended. Returns how long the next has to wait, where that is long.
    pub fn repaired(&mut self, trouble: &Trouble, now: Instant) -> Option<Duration> {
        self.grown = now + PAUSE_OF_GROWTH;
        let undone = trouble.undone.map(|since| self.undone.repaired(since, now));
        let links = trouble.links.map(|since| self.links.repaired(since, now));
        undone.max(links).filter(|pause| *pause > LONG_PAUSE)
    }
}

impl Pace {
    fn repaired(&mut self, since: Instant, now: Instant) -> Duration {
        // A long time without trouble, and this is the first again.
        if since >= self.not_before {
            self.pause = PAUSE;
        }
        let pause = self.pause;
        self.not_before = now + pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
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
        assert_eq!(trouble.due(&paces), Some(start + SETTLE));
        for step in 1..10 {
            trouble.note(Harm::None, start + step * 100 * MS);
        }
        assert_eq!(trouble.due(&paces), Some(start + SETTLE_AT_MOST));
        let mut trouble = Trouble::default();
        trouble.see_links(true, start);
        trouble.see_links(true, start + MS);
        assert_eq!(trouble.due(&paces), Some(start + SETTLE));
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
        assert_eq!(of(Harm::Undone, now).due(&paces), Some(now + PAUSE));
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
        assert_eq!(of(Harm::Grown, now).due(&paces), Some(now + PAUSE_OF_GROWTH));
        let mut trouble = of(Harm::Grown, now);
        trouble.note(Harm::Undone, now + MS);
        assert_eq!(trouble.due(&paces), Some(now + MS + SETTLE));
    }
}
