//! `watch`: notices when somebody else changes the host's firewall or links of ours, and has what networks
//! need repaired.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::error::{AppError, AppResult};
use super::owner;
use crate::model::instance::Instance;
use crate::sys::netlink::LinkWatch;
use crate::sys::nft::{Change, Kind, Transaction, Watch};
use crate::sys::{Context, SysError, caps, error_text, process};

/// How long it is to be quiet before a repair: who loads rules loads many.
const SETTLE: Duration = Duration::from_millis(150);
/// … and how long that is waited for at most.
const SETTLE_AT_MOST: Duration = Duration::from_millis(500);
/// From one repair to the next. It doubles as long as every repair is followed by its undoing: somebody
/// else may be as stubborn.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Whoever makes it grow longer than that is told of.
const LONG_PAUSE: Duration = Duration::from_secs(4);
/// The pause while a firewall grows, which may take long, as at a start of Docker's: somebody else's work,
/// but not against ours.
const PAUSE_OF_GROWTH: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(3600);
const NET_ADMIN: u32 = 12;

/// Watches until this process is ended. `ready` is called once nothing can be missed any more.
///
/// # Errors
/// Where this is not root, or the kernel does not tell.
pub fn run(base: &Instance, ready: impl FnOnce()) -> AppResult<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(AppError::Refused("only root can watch the host's firewall".to_owned()));
    }
    let mut ears = Ears::open()?;
    // Those who repair have them again: root's programs begin with what the service may have at all.
    caps::keep_only(NET_ADMIN)?;
    ready();
    let name = process_name(std::process::id() as i32);
    let own = Own { base: base.name().to_owned(), process: name };
    // What happened before is not known.
    guard(&mut ears, &own, true, || start_repairs(base), || false)
}

/// A repair for each owner; each finds out by itself what it has to do.
fn start_repairs(base: &Instance) -> Vec<Child> {
    let owners = owner::everybody(base).unwrap_or_else(|e| {
        tracing::warn!("{}", error_text(&e));
        Vec::new()
    });
    let start = |owner: &Instance| {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("nagaya").stdin(Stdio::null());
        if owner.person().is_some() {
            command.args(["--owner", owner.user()]);
        }
        command.args(["network", "repair"]).spawn().cannot(|| "start 'nagaya network repair'")
    };
    let started = owners.iter().map(start);
    started.filter_map(|child| child.inspect_err(|e| tracing::warn!("{}", error_text(e))).ok()).collect()
}

/// What is listened to.
struct Ears {
    firewall: Watch,
    links: LinkWatch,
}

impl Ears {
    fn open() -> AppResult<Self> {
        let links = LinkWatch::open().map_err(io::Error::other).cannot(|| "hear of changes of links")?;
        Ok(Self { firewall: Watch::open()?, links })
    }

    /// What the next that is heard has done to the firewall; none where it is quiet for `patience`. What
    /// links have suffered they tell themselves.
    fn next(&mut self, own: &Own, patience: Duration) -> AppResult<Option<Harm>> {
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let (firewall, links) = (self.firewall.fd(), self.links.fd());
        let mut fds = [PollFd::new(&firewall, PollFlags::IN), PollFd::new(&links, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) if fds[1].revents().is_empty() => {}
            Ok(_) => {
                self.links.hear().map_err(io::Error::other).cannot(|| "hear of changes of links")?;
                let heard = self.firewall.next(Duration::ZERO)?;
                return Ok(Some(heard.map_or(Harm::None, |transaction| own.harm(&transaction))));
            }
            Err(e) => return Err(SysError::new("wait for changes", e).into()),
        }
        Ok(self.firewall.next(Duration::ZERO)?.map(|transaction| own.harm(&transaction)))
    }
}

/// What somebody else's change may mean for our networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    None,
    /// Theirs has grown, and may drop what is ours.
    Grown,
    /// Something of ours may have gone.
    Undone,
}

/// What is ours: tables by name, and processes.
struct Own {
    /// The service user's instance, from which all owners' tables have the beginning of their names.
    base: String,
    process: String,
}

impl Own {
    fn has_table(&self, change: &Change) -> bool {
        let rest = change.table.strip_prefix(&self.base);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Whether one of our commands has done it, by itself or through a program like nft. One that is
    /// gone already is a stranger's: to repair once too often does no harm.
    fn has_done(&self, transaction: &Transaction) -> bool {
        let Some((pid, _)) = &transaction.process else { return false };
        process_name(*pid) == self.process
            || process::parent(*pid).is_some_and(|parent| process_name(parent) == self.process)
    }

    /// What it may have done to our networks.
    fn harm(&self, transaction: &Transaction) -> Harm {
        if transaction.has_gaps {
            return Harm::Grown;
        }
        if self.has_done(transaction) {
            return Harm::None;
        }
        transaction.changes.iter().map(|change| self.harm_of(change)).max().unwrap_or(Harm::None)
    }

    fn harm_of(&self, change: &Change) -> Harm {
        if self.has_table(change) {
            return Harm::Undone;
        }
        let is_iptables = ["ip", "ip6"].contains(&change.family) && change.table == "filter";
        let is_built_in = matches!(change.chain.as_deref(), Some("FORWARD" | "INPUT"));
        match change.kind {
            // A firewall was loaded, or has another policy.
            Kind::NewBaseChain if ["ip", "ip6", "inet", "bridge"].contains(&change.family) => Harm::Grown,
            Kind::NewRule if is_iptables && is_built_in => Harm::Grown,
            Kind::DeletedRule if is_iptables && is_built_in => Harm::Undone,
            _ => Harm::None,
        }
    }
}

fn process_name(pid: i32) -> String {
    let argv0 = process::argv0(pid);
    String::from_utf8_lossy(argv0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()).into_owned()
}

/// Listens, and repairs what concerns us, until `is_over`.
fn guard(
    ears: &mut Ears,
    own: &Own,
    repair_first: bool,
    mut start_repairs: impl FnMut() -> Vec<Child>,
    is_over: impl Fn() -> bool,
) -> AppResult<()> {
    let mut harm = if repair_first { Harm::Grown } else { Harm::None };
    let mut pause = PAUSE;
    let mut next_at = Instant::now();
    while !is_over() {
        if harm == Harm::None && !ears.links.is_suspicious() {
            let patience = next_at.saturating_duration_since(Instant::now());
            // A long time without trouble, and the next is the first again.
            if patience.is_zero() {
                pause = PAUSE;
            }
            harm = ears.next(own, if patience.is_zero() { IDLE } else { patience })?.unwrap_or(Harm::None);
            continue;
        }
        harm = harm.max(settle(ears, own, next_at)?);
        if harm == Harm::None && !ears.links.is_suspicious() {
            // What was suspicious has gone together with its container, or was undone.
            continue;
        }
        let what = if harm == Harm::None { "links have" } else { "firewall has" };
        if harm == Harm::Grown {
            pause = pause.min(PAUSE_OF_GROWTH);
        }
        tracing::info!("the host's {what} changed: repairing what networks need");
        if pause > LONG_PAUSE {
            tracing::warn!(
                "somebody else changes nagaya's links or firewall again and again: after this repair the next \
                 is not before {} s",
                pause.as_secs()
            );
        }
        ears.links.forget_suspicions();
        let mut repairs = start_repairs();
        harm = Harm::None;
        while !repairs.is_empty() {
            // Heard while it is done, it can be told who does it.
            harm = harm.max(ears.next(own, GLANCE)?.unwrap_or(Harm::None));
            repairs.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        }
        while let Some(heard) = ears.next(own, Duration::ZERO)? {
            harm = harm.max(heard);
        }
        ears.links.accept();
        next_at = Instant::now() + pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Waits until it is quiet, and not before `not_before`. Tells what was done to the firewall meanwhile.
fn settle(ears: &mut Ears, own: &Own, not_before: Instant) -> AppResult<Harm> {
    let at_most = (Instant::now() + SETTLE_AT_MOST).max(not_before);
    let mut harm = Harm::None;
    loop {
        let left = at_most.saturating_duration_since(Instant::now());
        let heard = ears.next(own, SETTLE.min(left))?;
        harm = harm.max(heard.unwrap_or(Harm::None));
        let now = Instant::now();
        if now >= at_most || (heard.is_none() && now >= not_before) {
            return Ok(harm);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::sys::netns_fixture::{in_new_netns, run};

    fn own() -> Own {
        Own { base: "ngwatch".into(), process: "ngrepair".into() }
    }

    fn change(kind: Kind, family: &'static str, table: &str, chain: Option<&str>) -> Change {
        Change { kind, family, table: table.into(), chain: chain.map(str::to_owned) }
    }

    #[test]
    fn only_what_may_harm_concerns_us() {
        let harm = |changes: &[Change]| {
            let changes = changes.iter().cloned().collect();
            own().harm(&Transaction { changes, process: None, has_gaps: false })
        };
        for (changes, expected) in [
            (vec![change(Kind::DeletedTable, "inet", "ngwatch", None)], Harm::Undone),
            (vec![change(Kind::DeletedTable, "inet", "ngwatch-1000", None)], Harm::Undone),
            (vec![change(Kind::DeletedTable, "inet", "ngwatchdog", None)], Harm::None),
            (vec![change(Kind::DeletedRule, "inet", "ngwatch", Some("forward"))], Harm::Undone),
            (vec![change(Kind::OtherDeleted, "inet", "ngwatch-blocks", None)], Harm::Undone),
            (vec![change(Kind::NewBaseChain, "inet", "filter", Some("forward"))], Harm::Grown),
            (vec![change(Kind::NewBaseChain, "arp", "filter", Some("in"))], Harm::None),
            (vec![change(Kind::DeletedRule, "ip", "filter", Some("FORWARD"))], Harm::Undone),
            (vec![change(Kind::NewRule, "ip", "filter", Some("DOCKER"))], Harm::None),
            (vec![change(Kind::NewRule, "inet", "firewalld", Some("filter_FORWARD"))], Harm::None),
        ] {
            assert_eq!(harm(&changes), expected, "{changes:?}");
        }
        assert_eq!(own().harm(&Transaction { has_gaps: true, ..Default::default() }), Harm::Grown);
    }

    /// Has nft do this as a child of one that is known for ours by its name. It stays for a moment, as
    /// one may that has more to do: who is gone when it is looked for is a stranger.
    fn script(commands: &str) -> Child {
        let text = format!("(echo '{commands}'; sleep 0.3) | nft -i >/dev/null");
        Command::new("sh").arg0("ngrepair").args(["-c", &text]).spawn().unwrap()
    }

    fn until(what: &str, patience: Duration, is_so: impl Fn() -> bool) -> Duration {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < patience, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
        start.elapsed()
    }

    const REPAIR: &str = "add table inet ngwatch; add chain inet ngwatch c; add rule inet ngwatch c accept";

    /// Runs `body` beside a watcher that repairs with a script, and counts how often it did.
    fn beside(body: impl FnOnce(&AtomicUsize) + Send) {
        in_new_netns(|| {
            run("nft", "add table inet ngwatch");
            let mut ears = Ears::open().unwrap();
            let (count, over) = (AtomicUsize::new(0), AtomicBool::new(false));
            let repair = || {
                count.fetch_add(1, Ordering::SeqCst);
                vec![script(REPAIR)]
            };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    guard(&mut ears, &own(), false, repair, || over.load(Ordering::SeqCst)).unwrap()
                });
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&count)));
                over.store(true, Ordering::SeqCst);
                // It looks up at the next change.
                run("nft", "add table inet bye");
                done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            });
        });
    }

    fn has_rule() -> bool {
        let listed = Command::new("nft").args(["list", "table", "inet", "ngwatch"]).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).contains("accept")
    }

    #[test]
    fn a_lost_table_is_back_within_a_second_and_once_is_enough() {
        beside(|count| {
            run("nft", "flush ruleset");
            let took = until("the table is back", Duration::from_secs(1), has_rule);
            println!("back after {took:?}");
            std::thread::sleep(Duration::from_millis(2500));
            assert_eq!(count.load(Ordering::SeqCst), 1, "a repair is no reason for a repair");
        });
    }

    #[test]
    fn own_commands_are_left_alone_and_a_storm_is_one_repair() {
        beside(|count| {
            for n in 0..5 {
                assert!(script(&format!("add chain inet ngwatch own{n}")).wait().unwrap().success());
            }
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(count.load(Ordering::SeqCst), 0, "own commands");
            run("nft", "add table inet other");
            run("nft", "add chain inet other plain");
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(count.load(Ordering::SeqCst), 0, "strangers' own affairs");
            let end = Instant::now() + Duration::from_millis(400);
            while Instant::now() < end {
                run("iptables-nft", "-A FORWARD -j DROP");
            }
            until("the storm is noticed", Duration::from_secs(2), || count.load(Ordering::SeqCst) > 0);
            std::thread::sleep(Duration::from_millis(1500));
            assert_eq!(count.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn links_are_repaired_but_not_when_their_guests_end() {
        beside(|count| {
            let group = crate::sys::netlink::LINK_GROUP;
            for n in 1..=2 {
                run("ip", &format!("link add ng0000000{n} group {group} type veth peer name peer{n}"));
                run("ip", &format!("link set ng0000000{n} up"));
            }
            std::thread::sleep(Duration::from_millis(300));
            run("ip", "link set ng00000002 down");
            run("ip", "link del peer2");
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(count.load(Ordering::SeqCst), 0, "containers come and go");
            run("ip", "link set ng00000001 down");
            until("the link is missed", Duration::from_secs(1), || count.load(Ordering::SeqCst) > 0);
            std::thread::sleep(Duration::from_millis(2500));
            assert_eq!(count.load(Ordering::SeqCst), 1, "what cannot be put right is not tried for ever");
        });
    }

    /// A firewall that takes long to load is met soon after it has done.
    #[test]
    fn the_pauses_do_not_grow_with_somebody_elses_rules() {
        beside(|count| {
            let end = Instant::now() + Duration::from_secs(8);
            while Instant::now() < end {
                run("iptables-nft", "-A FORWARD -j DROP");
                std::thread::sleep(Duration::from_millis(300));
            }
            let before = count.load(Ordering::SeqCst);
            assert!((3..=8).contains(&before), "{before} repairs in 8 s");
            run("iptables-nft", "-P FORWARD DROP");
            let repaired = || count.load(Ordering::SeqCst) > before;
            until("the last of it is met", PAUSE_OF_GROWTH + Duration::from_secs(1), repaired);
        });
    }

    /// Two that undo each other's work do not keep the host busy.
    #[test]
    fn the_pauses_grow_while_somebody_fights() {
        beside(|count| {
            run("nft", "flush ruleset");
            let end = Instant::now() + Duration::from_secs(7);
            while Instant::now() < end {
                if has_rule() {
                    run("nft", "flush ruleset");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let count = count.load(Ordering::SeqCst);
            assert!((3..=5).contains(&count), "{count} repairs in 7 s");
        });
    }
}
