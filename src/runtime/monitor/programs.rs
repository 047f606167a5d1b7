//! Programs that run in the guest for clients: which client each belongs to, how it begins and ends, and
//! what happens to it when its client is gone.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::process::{Pid, Signal};

use crate::model::waits;
use crate::runtime::exec::{Entering, Execed};
use crate::runtime::interests::{Id, Interests, Source};
use crate::runtime::not_started::NotStarted;
use crate::sys::process::child;
use crate::sys::process::child::{Child, Exit};

/// Descriptors of the monitor's that all programs together may use: it must still be able to accept
/// clients, and to boot its guest again.
pub const DESCRIPTORS: usize = 448;
/// How many signals may wait for a program to begin.
const PENDING: usize = 8;

/// Whom a program belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// It ends with this connection, which is told how it has ended.
    Client(Id),
    /// It runs on by itself; this connection is told that it runs.
    Starter(Id),
    /// A request of the monitor's to the guest's init.
    Monitor,
    Nobody,
}

/// What has happened to a program.
#[derive(Debug)]
pub enum Outcome {
    /// It has a terminal, whose master side this is.
    Terminal(OwnedFd),
    Runs,
    Exited(Exit),
    NotStarted(NotStarted),
}

/// Something happened to a program.
#[derive(Debug)]
pub struct Event {
    pub program: Id,
    pub whose: Whose,
    pub outcome: Outcome,
}

enum State {
    /// A child of ours is on its way into the guest.
    Entering {
        entering: Entering,
        until: Instant,
        terminal: Option<OwnedFd>,
        pending: Vec<Signal>,
    },
    /// It took too long, was killed, and is to be collected.
    Late(Child),
    Running(Execed),
    /// The same, and that it runs was told.
    Begun(Child),
}

struct Program {
    id: Id,
    state: State,
    whose: Whose,
    /// Killed then, if it has not ended.
    kill_at: Option<Instant>,
    /// It has ended, but a tracer has not let go of it: checked again at this time.
    look_at: Option<Instant>,
}

#[derive(Default)]
pub struct Programs {
    all: Vec<Program>,
    last_id: Id,
    /// A process that was killed while it entered the guest may have made the program's process before.
    /// That is a child of ours whose number nobody knows, and the guest's init would wait for its end. When
    /// to look for it.
    strays_at: Option<Instant>,
}

impl Programs {
    /// Whether there is room for another.
    pub fn have_room(&self) -> bool {
        let taken = self.all.iter().map(|program| match &program.state {
            State::Entering { .. } => 3,
            State::Running(_) => 2,
            State::Late(_) | State::Begun(_) => 1,
        });
        taken.sum::<usize>() + 3 <= DESCRIPTORS
    }

    /// Adds a program that has been begun. If it has a terminal, its client gets the master side.
    pub fn add(&mut self, entering: Entering, whose: Whose, terminal: Option<OwnedFd>) -> Id {
        self.last_id += 1;
        let (id, until) = (self.last_id, Instant::now() + waits::PROGRAM_ENTER);
        let state = State::Entering { entering, until, terminal, pending: Vec::new() };
        self.all.push(Program { id, state, whose, kill_at: None, look_at: None });
        id
    }

    /// Whether this connection has a program.
    pub fn are_of(&self, client: Id) -> bool {
        self.all.iter().any(|p| p.whose == Whose::Client(client) || p.whose == Whose::Starter(client))
    }

    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        interests.wake(self.strays_at);
        for program in &self.all {
            interests.wake(program.kill_at);
            if program.look_at.is_some() {
                interests.wake(program.look_at);
            } else {
                interests.read(Source::Program(program.id), &program.child().pidfd);
            }
            match (&program.state, program.whose) {
                (State::Entering { until, .. }, _) => interests.wake(Some(*until)),
                (State::Running(execed), Whose::Starter(_)) => {
                    interests.read(Source::Begun(program.id), &execed.reports);
                }
                _ => {}
            }
        }
    }

    /// Passes a signal on to the program of this connection.
    pub fn signal(&mut self, client: Id, number: i32) {
        for program in self.all.iter_mut().filter(|p| p.whose == Whose::Client(client)) {
            match &mut program.state {
                State::Entering { pending, .. } => {
                    let signal = Signal::from_named_raw(number).filter(|_| pending.len() < PENDING);
                    pending.extend(signal);
                }
                _ => drop(child::signal(&program.child().pidfd, number)),
            }
        }
    }

    /// The connection is closed. Its programs get SIGHUP, as from a terminal that is hung up, and are
    /// killed if they have not ended after a time.
    pub fn left_by(&mut self, client: Id) {
        for program in &mut self.all {
            if program.whose == Whose::Client(client) {
                program.whose = Whose::Nobody;
                program.kill_at = Some(Instant::now() + waits::PROGRAM_GRACE);
                match &mut program.state {
                    State::Entering { pending, .. } => pending.push(Signal::HUP),
                    _ => program.signal_group(Signal::HUP),
                }
            } else if program.whose == Whose::Starter(client) {
                program.whose = Whose::Nobody;
            }
        }
    }

    /// Program `id`, which keeps running without its client, reports how it has begun.
    pub fn begun(&mut self, id: Id) -> Option<Event> {
        let index = self.all.iter().position(|p| p.id == id)?;
        let State::Running(execed) = &self.all[index].state else { return None };
        let begun = execed.begun()?;
        let Program { id, state, whose, kill_at, look_at } = self.all.swap_remove(index);
        if let State::Running(Execed { child, .. }) = state {
            let state = State::Begun(child);
            self.all.push(Program { id, state, whose: Whose::Nobody, kill_at, look_at });
        }
        let outcome = begun.map_or_else(Outcome::NotStarted, |()| Outcome::Runs);
        Some(Event { program: id, whose, outcome })
    }

    /// A process of program `id` has ended: the one that enters the guest, or the program itself.
    pub fn advance(&mut self, id: Id) -> Option<Event> {
        let index = self.all.iter().position(|p| p.id == id)?;
        let exit = match self.all[index].child().try_wait() {
            Ok(None) => {
                self.all[index].look_at = Some(Instant::now() + waits::PROGRAM_EXIT_POLL);
                return None;
            }
            Ok(Some(exit)) => exit,
            Err(_) => Exit::Code(70),
        };
        let program = self.all.swap_remove(index);
        let whose = program.whose;
        let event = |outcome| Some(Event { program: id, whose, outcome });
        match program.state {
            State::Entering { entering, terminal, pending, .. } => match entering.finish() {
                Ok(execed) => {
                    let program = Program { state: State::Running(execed), look_at: None, ..program };
                    pending.into_iter().for_each(|signal| program.signal_group(signal));
                    self.all.push(program);
                    terminal.and_then(|master| event(Outcome::Terminal(master)))
                }
                Err(failed) => event(Outcome::NotStarted(failed)),
            },
            State::Late(_) => {
                self.strays_at = Some(Instant::now() + waits::STRAYS_POLL);
                None
            }
            State::Running(execed) => match execed.failure() {
                Some(failed) => event(Outcome::NotStarted(failed)),
                None => event(Outcome::Exited(exit)),
            },
            State::Begun(_) => event(Outcome::Exited(exit)),
        }
    }

    /// Ends processes that are entering the guest: the guest has ended.
    pub fn give_up_entering(&mut self) -> Vec<Event> {
        let entering = self.all.iter_mut().filter(|p| matches!(p.state, State::Entering { .. }));
        entering.filter_map(|program| program.give_up("it is restarting")).collect()
    }

    /// Kills programs whose time is over, and collects those that have ended. `others` are processes that
    /// are not programs.
    pub fn tick(&mut self, now: Instant, others: &[i32]) -> Vec<Event> {
        if self.strays_at.is_some_and(|at| at <= now) {
            self.strays_at = Some(now + waits::STRAYS_POLL);
            let known = |pid| others.contains(&pid) || self.all.iter().any(|p| p.child().pid == pid);
            child::reap_strays(known);
        }
        let (mut events, mut again) = (Vec::new(), Vec::new());
        for program in &mut self.all {
            if program.kill_at.is_some_and(|at| at <= now) {
                program.kill_at = None;
                program.signal_group(Signal::KILL);
            }
            if program.look_at.is_some_and(|at| at <= now) {
                again.push(program.id);
            }
            if matches!(&program.state, State::Entering { until, .. } if *until <= now) {
                let why = "its file systems do not answer, or its cgroup lets no process run";
                events.extend(program.give_up(why));
            }
        }
        events.extend(again.into_iter().filter_map(|id| self.advance(id)));
        events
    }
}

impl Program {
    fn child(&self) -> &Child {
        match &self.state {
            State::Entering { entering, .. } => &entering.child,
            State::Running(execed) => &execed.child,
            State::Late(child) | State::Begun(child) => child,
        }
    }

    /// Gives up a process that does not get into the guest.
    fn give_up(&mut self, why: &str) -> Option<Event> {
        let _ = child::signal(&self.child().pidfd, libc::SIGKILL);
        let pidfd = self.child().pidfd.try_clone().ok()?;
        self.state = State::Late(Child { pid: self.child().pid, pidfd });
        let reason = format!("cannot enter the guest: {why}");
        let outcome = Outcome::NotStarted(NotStarted { code: 126, reason });
        let whose = std::mem::replace(&mut self.whose, Whose::Nobody);
        Some(Event { program: self.id, whose, outcome })
    }

    /// To the program and what stands in its process group; what has begun a session of its own is
    /// no part of that. The program leads the group from its first steps on, and its number is its
    /// own until it is collected.
    fn signal_group(&self, signal: Signal) {
        let group = Pid::from_raw(self.child().pid);
        let sent = group.is_some_and(|pid| rustix::process::kill_process_group(pid, signal).is_ok());
        if !sent {
            let _ = child::signal(&self.child().pidfd, signal.as_raw());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::exec::Report;
    use crate::sys::net::seqpacket;
    use std::process::{Command, Stdio};

    fn spawn(words: &[&str]) -> Child {
        let mut command = Command::new(words[0]);
        let child = command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let pid = child.spawn().unwrap().id() as i32;
        Child { pid, pidfd: child::pidfd_open(pid).unwrap() }
    }

    /// A shell at the head of a session, as a program in a guest is, whose maker has ended; its process
    /// number; and the far end of its reports.
    fn start(script: &str) -> (Entering, i32, OwnedFd) {
        let (reports, theirs) = seqpacket::pair().unwrap();
        let program = spawn(&["setsid", "sh", "-c", script]);
        seqpacket::send(&theirs, &Report::Entered(program.pid), &[]).unwrap();
        (Entering { child: spawn(&["true"]), reports }, program.pid, theirs)
    }

    /// Turns of the loop until something has happened, at most ten seconds.
    fn next(programs: &mut Programs) -> Option<Event> {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let mut interests = Interests::default();
            programs.interests(&mut interests);
            interests.wake(Some(end));
            for (source, _) in interests.wait().unwrap() {
                let event = match source {
                    Source::Program(id) => programs.advance(id),
                    Source::Begun(id) => programs.begun(id),
                    other => panic!("{other:?}"),
                };
                if event.is_some() {
                    return event;
                }
            }
            if let Some(event) = programs.tick(Instant::now(), &[]).pop() {
                return Some(event);
            }
        }
        None
    }

    /// Until the one program that has been begun is in the guest.
    fn enter(programs: &mut Programs) {
        let end = Instant::now() + Duration::from_secs(10);
        while matches!(programs.all[0].state, State::Entering { .. }) && Instant::now() < end {
            programs.advance(programs.all[0].id);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What happens next, as text.
    fn said(programs: &mut Programs) -> String {
        next(programs).map_or_else(String::new, |e| format!("{} {:?} {:?}", e.program, e.whose, e.outcome))
    }

    #[test]
    fn the_client_hears_of_the_end_and_of_what_kept_a_program_from_starting() {
        let mut programs = Programs::default();
        let (entering, _, theirs) = start("exit 5");
        drop(theirs);
        programs.add(entering, Whose::Client(7), None);
        assert!(programs.are_of(7) && !programs.are_of(8));
        assert_eq!(said(&mut programs), "1 Client(7) Exited(Code(5))");
        assert!(!programs.are_of(7));

        let (entering, _, theirs) = start("exit 127");
        let failed = NotStarted { code: 127, reason: "it is not there".to_owned() };
        seqpacket::send(&theirs, &Report::NotStarted(failed), &[]).unwrap();
        programs.add(entering, Whose::Client(7), None);
        let expected = "2 Client(7) NotStarted(NotStarted { code: 127, reason: \"it is not there\" })";
        assert_eq!(said(&mut programs), expected);
    }

    #[test]
    fn one_that_does_not_get_into_the_guest_is_given_up_after_a_time() {
        let mut programs = Programs::default();
        let (reports, _theirs) = seqpacket::pair().unwrap();
        let child = spawn(&["sleep", "1000"]);
        let pid = child.pid;
        let (terminal, _) = seqpacket::pair().unwrap();
        programs.add(Entering { child, reports }, Whose::Client(7), Some(terminal));
        assert!(programs.tick(Instant::now(), &[]).is_empty());
        let events = programs.tick(Instant::now() + waits::PROGRAM_ENTER, &[]);
        let [Event { whose: Whose::Client(7), outcome: Outcome::NotStarted(failed), .. }] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert!(failed.reason.contains("do not answer"));
        // It is collected without a word.
        let end = Instant::now() + Duration::from_secs(10);
        while !programs.all.is_empty() && Instant::now() < end {
            assert!(programs.advance(1).is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(programs.all.is_empty() && crate::sys::process::started(pid).is_none());
    }

    #[test]
    fn what_comes_while_a_program_enters_is_not_lost() {
        let mut programs = Programs::default();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ready");
        let script = format!("trap 'exit 9' USR1; touch {}; while :; do sleep 0.01; done", file.display());
        let (entering, _, theirs) = start(&script);
        drop(theirs);
        let (terminal, _) = seqpacket::pair().unwrap();
        programs.add(entering, Whose::Client(7), Some(terminal));
        programs.signal(7, libc::SIGUSR1);
        while !file.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(said(&mut programs).starts_with("1 Client(7) Terminal("));
        assert_eq!(said(&mut programs), "1 Client(7) Exited(Code(9))");

        let (entering, _, theirs) = start("exec sleep 1000");
        drop(theirs);
        programs.add(entering, Whose::Client(8), None);
        programs.left_by(8);
        assert_eq!(said(&mut programs), "2 Nobody Exited(Signal(1))");
    }

    #[test]
    fn a_held_report_holds_nobody_up() {
        let mut programs = Programs::default();
        let (entering, _, _held) = start("exit 3");
        programs.add(entering, Whose::Client(1), None);
        assert_eq!(said(&mut programs), "1 Client(1) Exited(Code(3))");
    }

    #[test]
    fn a_program_and_its_group_end_with_their_client() {
        let mut programs = Programs::default();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        let script = format!(
            "sleep 1000 & echo $! >> {0}; setsid sh -c 'echo $$ >> {0}; exec sleep 1000' & wait",
            file.display()
        );
        let (entering, _, theirs) = start(&script);
        drop(theirs);
        programs.add(entering, Whose::Client(1), None);
        enter(&mut programs);
        let lines = || std::fs::read_to_string(&file).unwrap_or_default();
        while lines().lines().count() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let pids: Vec<i32> = lines().lines().filter_map(|line| line.parse().ok()).collect();
        programs.left_by(1);
        assert_eq!(said(&mut programs), "1 Nobody Exited(Signal(1))");
        let lives = |pid| crate::sys::process::started(pid).is_some() && !crate::sys::process::is_zombie(pid);
        let end = Instant::now() + Duration::from_secs(10);
        while lives(pids[0]) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!lives(pids[0]), "what is in its group ends with it");
        assert!(lives(pids[1]), "what has a session of its own does not");
        let daemon = child::pidfd_open(pids[1]).unwrap();
        child::signal(&daemon, libc::SIGKILL).unwrap();
    }

    #[test]
    fn one_that_ignores_being_told_is_killed_after_a_time() {
        let mut programs = Programs::default();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deaf");
        let (entering, _, _theirs) =
            start(&format!("trap '' HUP; touch {}; exec sleep 1000", file.display()));
        programs.add(entering, Whose::Client(1), None);
        enter(&mut programs);
        while !file.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        programs.left_by(1);
        assert!(programs.tick(Instant::now(), &[]).is_empty());
        programs.tick(Instant::now() + waits::PROGRAM_GRACE, &[]);
        assert_eq!(said(&mut programs), "1 Nobody Exited(Signal(9))");
    }

    #[test]
    fn a_program_that_is_to_stay_is_told_of_once_it_runs_and_stays() {
        let mut programs = Programs::default();
        let (entering, pid, theirs) = start("exec sleep 1000");
        let id = programs.add(entering, Whose::Starter(1), None);
        enter(&mut programs);
        assert!(programs.begun(id).is_none());
        drop(theirs);
        assert_eq!(said(&mut programs), "1 Starter(1) Runs");
        programs.left_by(1);
        assert!(programs.tick(Instant::now() + waits::PROGRAM_GRACE, &[]).is_empty());
        child::signal(&child::pidfd_open(pid).unwrap(), libc::SIGKILL).unwrap();
        assert_eq!(said(&mut programs), "1 Nobody Exited(Signal(9))");
    }

    #[test]
    fn an_end_that_cannot_be_had_yet_is_looked_for_again() {
        let mut programs = Programs::default();
        let (entering, _, _theirs) = start("exec sleep 1000");
        let id = programs.add(entering, Whose::Client(1), None);
        enter(&mut programs);
        // Its end while another process traces it: ended, and cannot be collected.
        assert!(programs.advance(id).is_none());
        let mut interests = Interests::default();
        programs.interests(&mut interests);
        interests.wake(Some(Instant::now()));
        assert_eq!(interests.wait().unwrap(), []);
        programs.signal(1, libc::SIGKILL);
        assert_eq!(said(&mut programs), "1 Client(1) Exited(Signal(9))");
    }

    #[test]
    fn programs_leave_descriptors_for_the_rest() {
        let mut programs = Programs::default();
        let child = spawn(&["sleep", "1000"]);
        let mut count = 0;
        while programs.have_room() {
            let child = Child { pid: child.pid, pidfd: child.pidfd.try_clone().unwrap() };
            let (reports, _) = seqpacket::pair().unwrap();
            programs.add(Entering { child, reports }, Whose::Nobody, None);
            count += 1;
        }
        assert_eq!(count, DESCRIPTORS / 3);
        child.kill();
    }
}
