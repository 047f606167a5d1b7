//! `watch`: notices when another program changes the host's firewall or nagaya's links, and starts repairs.

mod own;
mod trouble;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use self::own::{Harm, Own, process_name};
use self::trouble::{Paces, Trouble};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::owner;
use crate::model::instance::Instance;
use crate::model::waits;
use crate::sys::net::netlink::LinkWatch;
use crate::sys::net::nft::Watch;
use crate::sys::process::caps;
use crate::sys::process::child::Child;
use crate::sys::process::descriptors;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::{Context, SysError, error_text};

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
    // The repair processes get their capabilities back: root's programs start with all that the service may
    // have.
    caps::keep_only(NET_ADMIN)?;
    ready();
    let name = process_name(std::process::id() as i32);
    let own = Own { base: base.name().to_owned(), process: name };
    // Nothing is known of what happened before, so it begins with a repair.
    guard(&mut ears, &own, true, |busy| start_repairs(base, busy), || false)
}

/// Starts a repair for each owner who has none running; each repair finds out by itself what it has to do.
fn start_repairs(base: &Instance, busy: &[Repair]) -> Vec<Repair> {
    let owners = owner::everybody(base).unwrap_or_else(|e| {
        tracing::warn!("{}", error_text(&e));
        Vec::new()
    });
    let start = |owner: &Instance| {
        let mut arguments = vec!["network", "repair"];
        if owner.uid_of_user().is_some() {
            arguments.splice(0..0, ["--owner", owner.user()]);
        }
        let (exe, null) = (Program::own_file()?, descriptors::null()?);
        let fork = Fork::new("start 'nagaya network repair'").streams([Some(null.as_fd()), None, None]);
        Ok(Repair { owner: owner.nft_table(), child: fork.exec(&Program::itself(&exe, arguments)?)? })
    };
    let idle = owners.iter().filter(|owner| !busy.iter().any(|repair| repair.owner == owner.nft_table()));
    let started = idle.map(start);
    started
        .filter_map(|repair| repair.inspect_err(|e: &SysError| tracing::warn!("{}", error_text(e))).ok())
        .collect()
}

/// The repair of one owner's networks.
struct Repair {
    owner: String,
    child: Child,
}

impl Repair {
    fn is_over(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
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

    /// The harm that the next event does to the firewall; none if nothing comes for `timeout`. Harm to
    /// links is looked up later.
    fn next(&mut self, own: &Own, timeout: Duration) -> AppResult<Option<Harm>> {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
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

/// Listens, and repairs what concerns us, until `is_over`.
fn guard(
    ears: &mut Ears,
    own: &Own,
    repair_first: bool,
    mut start_repairs: impl FnMut(&[Repair]) -> Vec<Repair>,
    is_over: impl Fn() -> bool,
) -> AppResult<()> {
    let mut trouble = Trouble::default();
    if repair_first {
        trouble.note(Harm::Grown, Instant::now());
    }
    let mut paces = Paces::new(Instant::now());
    // Repairs that take long, and whether an owner has missed a repair because of one.
    let (mut slow, mut is_missed) = (Vec::<Repair>::new(), false);
    while !is_over() {
        let (now, were_slow) = (Instant::now(), slow.len());
        slow.retain_mut(|repair| !repair.is_over());
        if is_missed && slow.len() < were_slow {
            trouble.note(Harm::Grown, now);
            is_missed = false;
        }
        trouble.see_links(ears.links.is_suspicious(), now);
        let idle = if slow.is_empty() { waits::WATCH_IDLE } else { waits::SLOW_REPAIR_POLL };
        let timeout = trouble.due(&paces).map_or(idle, |due| due.saturating_duration_since(now).min(idle));
        if !timeout.is_zero() {
            if let Some(harm) = ears.next(own, timeout)? {
                trouble.note(harm, Instant::now());
            }
            continue;
        }
        let what = if trouble.is_of_firewall() { "firewall has" } else { "links have" };
        tracing::info!("the host's {what} changed: repairing what networks need");
        ears.links.forget_suspicions();
        let answered = std::mem::take(&mut trouble);
        let mut repairs = start_repairs(&slow);
        is_missed |= !slow.is_empty();
        attend(ears, own, &mut repairs, &mut trouble)?;
        slow.append(&mut repairs);
        ears.links.accept();
        if let Some(pause) = paces.repaired(&answered, Instant::now()) {
            tracing::warn!(
                "somebody else changes nagaya's links or firewall again and again: the next repair is not \
                 before {} s",
                pause.as_secs()
            );
        }
    }
    Ok(())
}

/// Waits for repairs and goes on listening: while they run, it can be seen which events are their own.
fn attend(ears: &mut Ears, own: &Own, repairs: &mut Vec<Repair>, trouble: &mut Trouble) -> AppResult<()> {
    let end = Instant::now() + waits::REPAIR;
    while !repairs.is_empty() && Instant::now() < end {
        if let Some(harm) = ears.next(own, waits::REPAIR_POLL)? {
            trouble.note(harm, Instant::now());
        }
        repairs.retain_mut(|repair| !repair.is_over());
    }
    let end = Instant::now() + waits::REPAIR_SETTLE_MOST;
    while Instant::now() < end
        && let Some(harm) = ears.next(own, Duration::ZERO)?
    {
        trouble.note(harm, Instant::now());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, run};

    fn own() -> Own {
        Own { base: "ngwatch".into(), process: "ngrepair".into() }
    }

    /// Has nft do this as a child of one that is known for ours by its name. It stays for a moment, as
    /// one may that has more to do: who is gone when it is looked for is a stranger.
    fn script(commands: &str) -> Child {
        let text = format!("(echo '{commands}'; sleep 0.3) | nft -i >/dev/null");
        held(&Command::new("sh").arg0("ngrepair").args(["-c", &text]).spawn().unwrap())
    }

    fn held(child: &std::process::Child) -> Child {
        let pid = child.id() as i32;
        Child { pid, pidfd: crate::sys::process::child::pidfd_open(pid).unwrap() }
    }

    fn until(what: &str, timeout: Duration, is_so: impl Fn() -> bool) -> Duration {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < timeout, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
        start.elapsed()
    }

    const REPAIR: &str = "add table inet ngwatch; add chain inet ngwatch c; add rule inet ngwatch c accept";

    /// Runs `body` beside a watcher that repairs with a script, and counts how often it did.
    fn beside(body: impl FnOnce(&AtomicUsize) + Send) {
        beside_slow(Vec::new, body);
    }

    /// The same with repairs of others, which it starts once.
    fn beside_slow(others: impl Fn() -> Vec<Repair> + Send + Sync, body: impl FnOnce(&AtomicUsize) + Send) {
        in_new_netns(|| {
            run("nft", "add table inet ngwatch");
            let mut ears = Ears::open().unwrap();
            let (count, over) = (AtomicUsize::new(0), AtomicBool::new(false));
            let repair = |busy: &[Repair]| {
                count.fetch_add(1, Ordering::SeqCst);
                let mut started = if busy.is_empty() { others() } else { Vec::new() };
                started.push(Repair { owner: "own".into(), child: script(REPAIR) });
                started
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
                assert!(script(&format!("add chain inet ngwatch own{n}")).wait().unwrap().is_success());
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
            let group = crate::sys::net::netlink::LINK_GROUP;
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
            until("the last of it is met", waits::REPAIR_PAUSE_OF_GROWTH + Duration::from_secs(1), repaired);
        });
    }

    /// As a reload of firewalld, a restart of Docker's, and somebody who empties it all.
    #[test]
    fn what_is_lost_is_not_missed_for_longer_after_others_have_changed_their_rules() {
        beside(|_| {
            let end = Instant::now() + Duration::from_secs(5);
            while Instant::now() < end {
                for command in ["-I FORWARD 1 -j DROP", "-A INPUT -j ACCEPT", "-D FORWARD 1", "-F INPUT"] {
                    run("iptables-nft", command);
                }
                std::thread::sleep(Duration::from_millis(150));
            }
            run("nft", "flush ruleset");
            assert!(!has_rule());
            println!("back after {:?}", until("the table is back", Duration::from_secs(2), has_rule));
        });
    }

    #[test]
    fn what_one_owner_holds_up_does_not_hold_up_the_others() {
        let asleep = || {
            let child = held(&Command::new("sleep").arg("8").spawn().unwrap());
            vec![Repair { owner: "asleep".into(), child }]
        };
        beside_slow(asleep, |count| {
            run("nft", "flush ruleset");
            until("the table is back", Duration::from_secs(2), has_rule);
            run("nft", "flush ruleset");
            until("it is back again", waits::REPAIR + Duration::from_secs(3), has_rule);
            assert_eq!(count.load(Ordering::SeqCst), 2);
            until("that owner's turn comes", Duration::from_secs(10), || count.load(Ordering::SeqCst) > 2);
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
