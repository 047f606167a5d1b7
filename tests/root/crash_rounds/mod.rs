//! Round after round a random command is killed at a random moment, and sometimes a monitor or what
//! serves ordinary users with it. Nothing may be left that `list` does not account for, and all that
//! there is must work. `NAGAYA_CRASH_ROUNDS` says how many rounds there are, `NAGAYA_TEST_SEED` which.

mod check;
mod orders;
mod site;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use self::orders::{Order, order};
use self::site::Site;
use super::crash::{Random, group_of};
use super::daemonless_user::DaemonlessUser;
use super::host::{Host, pids, until};
use super::hostd_users::HostdUsers;
use super::leftovers;

/// Rounds between two looks at what there is, and between two times of clearing everything away.
const LOOK: u32 = 10;
const CLEAR: u32 = 100;
/// Containers that are worked on.
const NAMES: u64 = 4;

/// Rounds of a test; `usual` where the environment says nothing.
fn rounds(usual: u32) -> u32 {
    std::env::var("NAGAYA_CRASH_ROUNDS").ok().map_or(usual, |n| n.parse().expect("a number of rounds"))
}

#[test]
fn rounds_of_killed_commands_leave_nothing() {
    let host = Host::alone();
    Rounds::new(Site::of_host(&host)).run(rounds(60));
}

#[test]
fn rounds_of_an_ordinary_users_killed_commands_and_hostd_leave_nothing() {
    let users = HostdUsers::alone(1);
    let user = users.granted(0);
    Rounds::new(Site::of_user(&user)).run(rounds(30));
}

#[test]
fn rounds_of_killed_commands_without_any_broker_of_the_hosts_leave_nothing() {
    let user = DaemonlessUser::with_template();
    Rounds::new(Site::of_daemonless(&user)).run(rounds(30));
}

/// A command that is to be killed.
struct Victim {
    child: Child,
    verb: &'static str,
    words: Vec<String>,
    /// When it is killed, after its start.
    delay: Duration,
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    /// Manager and broker together.
    Group,
    Manager,
    /// What the manager has forked.
    Broker,
    Nothing,
}

struct Rounds<'a> {
    site: Site<'a>,
    random: Random,
    /// How long a verb takes, about.
    usual: BTreeMap<&'static str, Duration>,
    /// Process groups of commands that may have left something running.
    groups: Vec<i32>,
    /// What the commands have said to standard error.
    said: tempfile::NamedTempFile,
    input: tempfile::NamedTempFile,
    kills: u32,
}

impl<'a> Rounds<'a> {
    fn new(site: Site<'a>) -> Self {
        let input = tempfile::NamedTempFile::new().expect("make a file");
        fs::write(input.path(), vec![b'x'; 200_000]).expect("write a file");
        let said = tempfile::NamedTempFile::new().expect("make a file");
        let random = Random::seeded();
        Self { site, random, usual: BTreeMap::new(), groups: Vec::new(), said, input, kills: 0 }
    }

    fn run(mut self, rounds: u32) {
        let began = Instant::now();
        self.site.ok(&["launch", "tiny", "keeper"]);
        self.site.ok(&["exec", "keeper", "--", "sh", "-c", "echo precious > /root/file"]);
        // What is made at the first need and kept.
        self.site.ok(&["launch", "tiny", "first"]);
        self.site.ok(&["firewall", "allow", "first", "tcp", "80"]);
        self.site.ok(&["firewall", "block", "203.0.113.1"]);
        self.site.ok(&["firewall", "unblock", "203.0.113.1"]);
        self.site.ok(&["delete", "--force", "first"]);
        let init = self.site.init("keeper");
        let before = check::everything(&self.site);
        for round in 1..=rounds {
            self.round(round);
            if round % LOOK == 0 || round == rounds {
                self.settle();
                check::accounted_for(&self.site);
                assert_eq!(self.site.init("keeper"), init);
            }
            if round % CLEAR == 0 || round == rounds {
                assert_eq!(self.site.ok(&["exec", "keeper", "--", "cat", "/root/file"]), "precious\n");
                check::all_work_and_go(&self.site);
                self.settle();
                leftovers::is_again(|| check::everything(&self.site), &before, "all was deleted");
            }
        }
        let each = began.elapsed() / rounds.max(1);
        println!("{rounds} rounds, {} kills, {each:?} each", self.kills);
    }

    fn round(&mut self, round: u32) {
        let there = self.site.names();
        let name = format!("c{}", self.random.below(NAMES));
        if self.random.below(12) == 0 {
            self.kill_some_monitor(round);
        }
        if self.random.below(10) == 0 {
            self.kill_some_service(round);
        }
        let how = match self.random.below(10) {
            0..5 => Kill::Group,
            5..7 => Kill::Manager,
            7..9 => Kill::Broker,
            _ => Kill::Nothing,
        };
        // Sometimes two are at work on the same.
        let count = if self.random.below(6) == 0 { 2 } else { 1 };
        let first = self.order(&name, there.contains(&name));
        let mut victims = vec![self.start(first)];
        // Nothing else may be at work while the database is rebuilt.
        if count == 2 && victims[0].verb != "repair" {
            let second = self.order(&name, there.contains(&name));
            if second.verb != "repair" {
                victims.push(self.start(second));
            }
        }
        for victim in &victims {
            println!("round {round}: {} {how:?} after {:?}", victim.words.join(" "), victim.delay);
        }
        let start = Instant::now();
        for victim in victims {
            std::thread::sleep((start + victim.delay).saturating_duration_since(Instant::now()));
            self.end(victim, how);
        }
    }

    fn order(&mut self, name: &str, exists: bool) -> Order {
        order(&mut self.random, name, exists, &self.site)
    }

    fn start(&mut self, Order { verb, words, input }: Order) -> Victim {
        let usual = *self.usual.entry(verb).or_insert(Duration::from_millis(30));
        let delay = Duration::from_micros(self.random.below(usual.as_micros() as u64 + 1));
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let child = self.site.spawn(&args, self.said.path(), input.then(|| self.input.path()));
        Victim { child, verb, words, delay }
    }

    fn end(&mut self, mut victim: Victim, how: Kill) {
        let pid = Pid::from_child(&victim.child);
        let ended = victim.child.try_wait().expect("wait for a child");
        if let Some(usual) = self.usual.get_mut(victim.verb) {
            // So that three of four are killed in the middle.
            *usual = if ended.is_some() { *usual * 17 / 20 } else { *usual * 21 / 20 };
            *usual = (*usual).clamp(Duration::from_millis(2), Duration::from_secs(1));
        }
        if ended.is_none() {
            self.kills += u32::from(how != Kill::Nothing);
            match how {
                Kill::Group => drop(rustix::process::kill_process_group(pid, Signal::KILL)),
                Kill::Manager => drop(rustix::process::kill_process(pid, Signal::KILL)),
                Kill::Broker => children(pid.as_raw_nonzero().get()).into_iter().for_each(kill),
                Kill::Nothing => {}
            }
        }
        self.groups.push(pid.as_raw_nonzero().get());
        // A program in a guest that is paused meanwhile goes on when that does.
        let is_program = victim.verb.starts_with("exec");
        let end = Instant::now() + Duration::from_secs(if is_program { 3 } else { 100 });
        let status = loop {
            match victim.child.try_wait().expect("wait for a child") {
                Some(status) => break status,
                None if Instant::now() > end && is_program => {
                    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                    break victim.child.wait().expect("wait for a child");
                }
                None if Instant::now() > end => {
                    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                    panic!("{} does not end\n{}", victim.words.join(" "), self.told());
                }
                None => std::thread::sleep(Duration::from_micros(500)),
            }
        };
        // A panic is nobody's right, whatever was killed.
        let words = victim.words.join(" ");
        assert!(status.code() != Some(101), "{words} has panicked\n{}", self.told());
        if how == Kill::Nothing && !self.site.is_served() {
            assert!(status.code() != Some(70), "{words} says that it has a bug\n{}", self.told());
        }
    }

    /// The end of what the commands have said.
    fn told(&self) -> String {
        let text = fs::read(self.said.path()).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(300_000)..]).into_owned()
    }

    /// Waits until nothing runs any more of the commands that were killed.
    fn settle(&mut self) {
        // The next command is to find what they have left.
        self.site.ok(&["list"]);
        let groups = std::mem::take(&mut self.groups);
        until(60, "the killed commands' processes have ended", || {
            !pids().any(|pid| group_of(pid).is_some_and(|group| groups.contains(&group)))
        });
    }

    fn kill_some_monitor(&mut self, round: u32) {
        self.kill_one_of(&self.site.monitors(), round, "monitor");
    }

    fn kill_some_service(&mut self, round: u32) {
        self.kill_one_of(&self.site.service(), round, "process of the service");
    }

    fn kill_one_of(&mut self, pids: &[i32], round: u32, what: &str) {
        if !pids.is_empty() {
            let pid = pids[self.random.below(pids.len() as u64) as usize];
            println!("round {round}: {what} {pid} is killed");
            kill(pid);
            self.kills += 1;
        }
    }
}

impl Drop for Rounds<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.told());
        }
    }
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// A command in a group of its own, whose errors go to a file.
fn spawn(mut command: Command, said: &std::path::Path, input: Option<&std::path::Path>) -> Child {
    use std::os::unix::process::CommandExt;
    command.env("NAGAYA_LOG", "nagaya=info");
    let said = fs::OpenOptions::new().append(true).open(said).expect("open a file");
    let input = input.map_or_else(Stdio::null, |path| fs::File::open(path).expect("open a file").into());
    command.process_group(0).stdin(input).stdout(Stdio::null()).stderr(said);
    command.spawn().expect("start a command")
}
