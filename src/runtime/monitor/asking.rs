//! A request to the guest's init. Init may not listen yet, may lack the program that passes the request on,
//! or may not know the signal. So the request is repeated, and made in other ways, until the guest has
//! ended. This decides what to do next; `Monitor` does it.

use std::time::{Duration, Instant};

use super::programs::Outcome;
use crate::model::template::Ask;
use crate::model::waits;
use crate::runtime::interests::Id;
use crate::runtime::protocol::Reply;
use crate::sys::process::child::Exit;

/// A program fails if init is not ready: how often it is tried, and how soon again.
const TRIES: u32 = 3;

/// What init is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Shutdown,
    Reboot,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Send init this signal; then `signalled`.
    Signal(i32),
    /// Run this; then `runs` or `ended`.
    Run(&'static [&'static str]),
}

pub struct Asking {
    pub wish: Wish,
    asks: &'static [Ask],
    step: usize,
    tries: u32,
    /// The program that asks, and how long to wait for it.
    running: Option<(Option<Id>, Instant)>,
    /// Why earlier ways of asking have failed.
    failures: Vec<String>,
    /// The clients that wait for the result.
    clients: Vec<Id>,
    answer: Option<Reply>,
    next_at: Option<Instant>,
    pause: Duration,
    until: Instant,
}

impl Asking {
    pub fn new(wish: Wish, asks: &'static [Ask], now: Instant) -> Self {
        Self {
            wish,
            asks,
            step: 0,
            tries: 0,
            running: None,
            failures: Vec::new(),
            clients: Vec::new(),
            answer: None,
            next_at: Some(now),
            pause: waits::SHUTDOWN_AGAIN,
            until: now + waits::SHUTDOWN_PERSIST,
        }
    }

    /// A client asks for it once more and wants an answer: begins again from the first way.
    pub fn wished_by(&mut self, client: Option<Id>, now: Instant) {
        self.clients.extend(client);
        self.until = now + waits::SHUTDOWN_PERSIST;
        self.pause = waits::SHUTDOWN_AGAIN;
        self.again(now);
    }

    /// Init says that it is up: it may not have received what it was asked before.
    pub fn init_is_up(&mut self, now: Instant) {
        self.again(now);
    }

    fn again(&mut self, now: Instant) {
        if self.running.is_none() {
            self.start_over(now);
        }
    }

    fn start_over(&mut self, at: Instant) {
        (self.step, self.tries) = (0, 0);
        self.failures.clear();
        self.next_at = Some(at);
    }

    /// When `due` has something to say.
    pub fn wakes_at(&self) -> Option<Instant> {
        self.running.map(|(_, deadline)| deadline).or(self.next_at)
    }

    pub fn due(&mut self, now: Instant) -> Option<Act> {
        if let Some((_, deadline)) = self.running {
            if deadline > now {
                return None;
            }
            self.running = None;
            self.failed(format!("{} does not end", self.program()), now);
        }
        if self.next_at.is_none_or(|at| at > now) {
            return None;
        }
        self.next_at = None;
        match self.asks.get(self.step) {
            Some(Ask::Signal(number)) => Some(Act::Signal(*number)),
            Some(Ask::Run(words)) => Some(self.run(words, now)),
            // Executing a directory fails in a way that shows that it exists.
            Some(Ask::SignalWhere(dir, _)) => Some(self.run(*dir, now)),
            None => {
                self.rest(now);
                None
            }
        }
    }

    fn run(&mut self, words: &'static [&'static str], now: Instant) -> Act {
        self.running = Some((None, now + waits::SHUTDOWN_PROGRAM));
        Act::Run(words)
    }

    /// The program runs, with this id.
    pub fn runs(&mut self, program: Id) {
        if let Some((id, _)) = &mut self.running {
            *id = Some(program);
        }
    }

    /// Whether this program is the one that asks.
    pub fn is_by(&self, program: Id) -> bool {
        self.running.is_some_and(|(id, _)| id == Some(program))
    }

    /// The program has ended, or could not begin.
    pub fn ended(&mut self, outcome: &Outcome, now: Instant) -> Option<Act> {
        self.running = None;
        if let Some(Ask::SignalWhere(_, number)) = self.asks.get(self.step) {
            if !matches!(outcome, Outcome::NotStarted(failed) if failed.code == 127) {
                return Some(Act::Signal(*number));
            }
            self.step += 1;
            self.next_at = Some(now);
            return None;
        }
        match outcome {
            // The end that it asks for may kill it.
            Outcome::Runs
            | Outcome::Terminal(_)
            | Outcome::Exited(Exit::Code(0) | Exit::Signal(libc::SIGHUP | libc::SIGKILL | libc::SIGTERM)) => {
                self.succeed();
                self.rest(now);
            }
            Outcome::Exited(exit) => {
                self.tries += 1;
                if self.tries < TRIES {
                    self.next_at = Some(now + waits::SHUTDOWN_PROGRAM_AGAIN);
                } else {
                    self.failed(format!("{} fails with code {}", self.program(), exit.code()), now);
                }
            }
            Outcome::NotStarted(failed) => self.failed(failed.reason.clone(), now),
        }
        None
    }

    fn program(&self) -> String {
        match self.asks.get(self.step) {
            Some(Ask::Run(words)) => format!("'{}'", words.join(" ")),
            _ => "what asks init".to_owned(),
        }
    }

    fn failed(&mut self, reason: String, now: Instant) {
        self.failures.push(reason);
        self.step += 1;
        self.tries = 0;
        self.next_at = Some(now);
        if self.step >= self.asks.len() {
            self.answer_failed("");
            self.rest(now);
        }
    }

    /// The signal was sent. Whether init understands it shows only later.
    pub fn signalled(&mut self, number: i32, now: Instant) {
        let known = matches!(self.asks.get(self.step), Some(Ask::SignalWhere(..)));
        if known || self.failures.is_empty() {
            self.succeed();
        } else {
            let name = nix::sys::signal::Signal::try_from(number);
            let name = name.map_or_else(|_| format!("signal {number}"), |s| s.as_str().to_owned());
            self.answer_failed(&format!("; its init was sent {name} instead"));
        }
        if known || self.step + 1 >= self.asks.len() {
            self.rest(now);
        } else {
            self.step += 1;
            self.next_at = Some(now + waits::SHUTDOWN_SIGNAL);
        }
    }

    /// Begins again from the first way, later.
    fn rest(&mut self, now: Instant) {
        let at = now + self.pause;
        self.pause = (self.pause * 2).min(waits::SHUTDOWN_AGAIN_MOST);
        self.start_over(at);
        if at > self.until {
            self.next_at = None;
        }
    }

    fn succeed(&mut self) {
        self.answer.get_or_insert(Reply::Done);
    }

    fn answer_failed(&mut self, but: &str) {
        let what = match self.wish {
            Wish::Shutdown => "ask the guest to shut down",
            Wish::Reboot => "ask the guest to restart",
        };
        let reason = format!("cannot {what}: {}{but}", self.failures.join("; "));
        self.answer.get_or_insert(Reply::Failed { reason, still_tried: true });
    }

    /// The result for the clients that asked, once it is known.
    pub fn take_answers(&mut self) -> Vec<(Id, Reply)> {
        match self.answer.take() {
            Some(answer) => self.clients.drain(..).map(|client| (client, answer.clone())).collect(),
            None => Vec::new(),
        }
    }

    /// The guest has reacted: answers the clients that still wait.
    pub fn heeded(&mut self) -> Vec<(Id, Reply)> {
        self.succeed();
        self.take_answers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::template::InitKind;
    use crate::runtime::not_started::NotStarted;

    const DONE: Outcome = Outcome::Exited(Exit::Code(0));

    fn missing(program: &str) -> Outcome {
        let reason = format!("'{program}' is not in the guest");
        Outcome::NotStarted(NotStarted { code: 127, reason })
    }

    fn shutdown(kind: InitKind) -> (Asking, Instant) {
        let now = Instant::now();
        let mut asking = Asking::new(Wish::Shutdown, kind.shutdown(), now);
        asking.wished_by(Some(1), now);
        (asking, now)
    }

    #[test]
    fn a_signal_is_sent_again_when_init_is_up_and_now_and_then() {
        let (mut asking, now) = shutdown(InitKind::Systemd);
        assert_eq!(asking.due(now), Some(Act::Signal(38)));
        asking.signalled(38, now);
        assert_eq!(asking.take_answers(), [(1, Reply::Done)]);
        assert_eq!(asking.due(now), None);
        let later = now + Duration::from_millis(100);
        asking.init_is_up(later);
        assert_eq!(asking.due(later), Some(Act::Signal(38)));
        asking.signalled(38, later);
        let mut sent = 0;
        while let Some(at) = asking.wakes_at() {
            assert_eq!(asking.due(at), Some(Act::Signal(38)));
            asking.signalled(38, at);
            sent += 1;
            assert!(at <= now + waits::SHUTDOWN_PERSIST);
        }
        assert!((5..20).contains(&sent), "{sent}");
        assert_eq!(asking.take_answers(), []);
    }

    #[test]
    fn a_program_that_has_asked_is_enough_and_is_run_again_later() {
        let (mut asking, now) = shutdown(InitKind::Sysvinit);
        assert_eq!(asking.due(now), Some(Act::Run(&["/sbin/init", "0"])));
        asking.runs(9);
        assert!(asking.is_by(9) && !asking.is_by(8));
        assert_eq!(asking.take_answers(), []);
        assert_eq!(asking.ended(&DONE, now), None);
        assert_eq!(asking.take_answers(), [(1, Reply::Done)]);
        let at = asking.wakes_at().unwrap();
        assert_eq!(asking.due(at), Some(Act::Run(&["/sbin/init", "0"])));
    }

    #[test]
    fn a_program_that_finds_init_unready_is_tried_again_before_it_has_failed() {
        let (mut asking, now) = shutdown(InitKind::Sysvinit);
        let mut at = now;
        for _ in 0..TRIES {
            assert_eq!(asking.due(at), Some(Act::Run(&["/sbin/init", "0"])));
            assert_eq!(asking.ended(&Outcome::Exited(Exit::Code(1)), at), None);
            assert_eq!(asking.take_answers(), []);
            at = asking.wakes_at().unwrap();
        }
        assert_eq!(asking.due(at), Some(Act::Run(&["poweroff"])));
    }

    #[test]
    fn a_systemd_that_nobody_knew_of_is_asked_by_its_signal() {
        let (mut asking, now) = shutdown(InitKind::Unknown);
        assert_eq!(asking.due(now), Some(Act::Run(&["poweroff"])));
        assert_eq!(asking.ended(&missing("poweroff"), now), None);
        assert_eq!(asking.due(now), Some(Act::Run(&["/run/systemd/system"])));
        let there = NotStarted { code: 126, reason: "is a directory".to_owned() };
        let there = Outcome::NotStarted(there);
        assert_eq!(asking.ended(&there, now), Some(Act::Signal(38)));
        asking.signalled(38, now);
        assert_eq!(asking.take_answers(), [(1, Reply::Done)]);
        // No other signal follows: to systemd those mean something else.
        let at = asking.wakes_at().unwrap();
        assert_eq!(asking.due(at), Some(Act::Run(&["poweroff"])));
    }

    #[test]
    fn who_asks_an_unknown_init_hears_at_once_what_is_missing_and_signals_follow() {
        let (mut asking, now) = shutdown(InitKind::Unknown);
        asking.due(now);
        asking.ended(&missing("poweroff"), now);
        asking.due(now);
        assert_eq!(asking.ended(&missing("/run/systemd/system"), now), None);
        assert_eq!(asking.due(now), Some(Act::Signal(libc::SIGPWR)));
        asking.signalled(libc::SIGPWR, now);
        let reason = "cannot ask the guest to shut down: 'poweroff' is not in the guest; \
                      its init was sent SIGPWR instead";
        let expected = Reply::Failed { reason: reason.to_owned(), still_tried: true };
        assert_eq!(asking.take_answers(), [(1, expected)]);
        let mut sent = Vec::new();
        for _ in 0..2 {
            let at = asking.wakes_at().unwrap();
            let Some(Act::Signal(number)) = asking.due(at) else { panic!("another signal") };
            sent.push(number);
            asking.signalled(number, at);
        }
        assert_eq!(sent, [libc::SIGTERM, libc::SIGINT]);
        assert_eq!(asking.take_answers(), [], "one answer is enough");
    }

    #[test]
    fn a_program_that_does_not_end_holds_nothing_up() {
        let (mut asking, now) = shutdown(InitKind::Unknown);
        asking.due(now);
        asking.runs(1);
        assert_eq!(asking.wakes_at(), Some(now + waits::SHUTDOWN_PROGRAM));
        assert_eq!(asking.due(now + waits::SHUTDOWN_PROGRAM), Some(Act::Run(&["/run/systemd/system"])));
        assert!(!asking.is_by(1));
    }

    #[test]
    fn an_end_answers_who_has_asked() {
        let (mut asking, now) = shutdown(InitKind::Unknown);
        asking.due(now);
        assert_eq!(asking.heeded(), [(1, Reply::Done)]);
    }
}
