//! What belongs to nagaya in the host's firewall, and what a change by another program may have done to it.

use crate::render::iptables::Chains;
use crate::sys::net::nft::{Change, Kind, Transaction};
use crate::sys::process;

/// What a change by another program may mean for our networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    None,
    /// Another program's rules have changed and may drop our traffic.
    Grown,
    /// Something of ours may have gone.
    Undone,
}

/// What is ours: tables and chains by name, and processes.
pub struct Own {
    /// The service user's instance, from which all owners' tables have the beginning of their names.
    pub base: String,
    pub process: String,
}

impl Own {
    fn is_owner(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.base);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Whether a chain of iptables' is one of ours.
    fn has_chain(&self, chain: Option<&str>) -> bool {
        chain.and_then(Chains::owner).is_some_and(|owner| self.is_owner(owner))
    }

    /// Whether one of our commands has done it, by itself or through a program like nft. One that is
    /// gone already is a stranger's: to repair once too often does no harm.
    fn has_done(&self, transaction: &Transaction) -> bool {
        let Some((pid, _)) = &transaction.process else { return false };
        process_name(*pid) == self.process
            || process::parent(*pid).is_some_and(|parent| process_name(parent) == self.process)
    }

    /// What it may have done to our networks.
    pub fn harm(&self, transaction: &Transaction) -> Harm {
        if transaction.has_gaps {
            return Harm::Grown;
        }
        if self.has_done(transaction) {
            return Harm::None;
        }
        let harm = transaction.changes.iter().map(|change| self.harm_of(change, transaction));
        harm.max().unwrap_or(Harm::None)
    }

    fn harm_of(&self, change: &Change, transaction: &Transaction) -> Harm {
        if self.is_owner(&change.table) {
            return Harm::Undone;
        }
        // A firewall was loaded, or has another policy.
        if change.kind == Kind::NewBaseChain && ["ip", "ip6", "inet", "bridge"].contains(&change.family) {
            return Harm::Grown;
        }
        if !["ip", "ip6"].contains(&change.family) || change.table != "filter" {
            return Harm::None;
        }
        let is_built_in = matches!(change.chain.as_deref(), Some("FORWARD" | "INPUT"));
        let is_own = self.has_chain(change.chain.as_deref());
        match change.kind {
            Kind::DeletedChain if is_own => Harm::Undone,
            Kind::NewRule if is_built_in || is_own => Harm::Grown,
            Kind::DeletedRule if is_own || (is_built_in && self.has_chain(change.jumps_to.as_deref())) => {
                // One of our own commands empties a chain only to fill it.
                match transaction.changes.contains(&Change { kind: Kind::NewRule, ..change.clone() }) {
                    true => Harm::Grown,
                    false => Harm::Undone,
                }
            }
            // A rule that accepted may be gone from in front of one that drops; and if nothing drops any
            // more, our exceptions are not needed.
            Kind::DeletedRule if is_built_in => Harm::Grown,
            _ => Harm::None,
        }
    }
}

/// The last part of the name under which a process was started.
pub fn process_name(pid: i32) -> String {
    let argv0 = process::argv0(pid);
    String::from_utf8_lossy(argv0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, run};
    use crate::sys::net::nft::Watch;

    fn own() -> Own {
        Own { base: "ngwatch".into(), process: "ngrepair".into() }
    }

    fn change(kind: Kind, family: &'static str, table: &str, chain: Option<&str>) -> Change {
        Change { kind, family, table: table.into(), chain: chain.map(str::to_owned), jumps_to: None }
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
            (vec![change(Kind::DeletedRule, "ip", "filter", Some("FORWARD"))], Harm::Grown),
            (vec![change(Kind::NewRule, "ip", "filter", Some("DOCKER"))], Harm::None),
            (vec![change(Kind::DeletedRule, "ip", "filter", Some("DOCKER"))], Harm::None),
            (vec![change(Kind::DeletedRule, "ip", "nat", Some("ngwatch-fwd"))], Harm::None),
            (vec![change(Kind::NewRule, "inet", "firewalld", Some("filter_FORWARD"))], Harm::None),
        ] {
            assert_eq!(harm(&changes), expected, "{changes:?}");
        }
        assert_eq!(own().harm(&Transaction { has_gaps: true, ..Default::default() }), Harm::Grown);
    }

    /// As iptables does it, and the kernel tells it.
    #[test]
    fn only_what_touches_our_rules_in_their_chains_undoes_our_work() {
        in_new_netns(|| {
            let fill = "*filter\n:ngwatch-1000-fwd - [0:0]\n-A ngwatch-1000-fwd -i x -j ACCEPT\nCOMMIT\n";
            let make = [
                "-N ngwatch-1000-fwd",
                "-A ngwatch-1000-fwd -i x -j ACCEPT",
                "-I FORWARD 1 -j ngwatch-1000-fwd",
                "-N ngwatchdog-fwd",
                "-A FORWARD -j ngwatchdog-fwd",
                "-A FORWARD -p tcp -j ACCEPT",
            ];
            for (command, expected) in [
                ("-D FORWARD -p tcp -j ACCEPT", Harm::Grown),
                ("-D FORWARD -j ngwatchdog-fwd", Harm::Grown),
                ("-A ngwatchdog-fwd -j ACCEPT", Harm::None),
                ("-F ngwatchdog-fwd", Harm::None),
                ("-I ngwatch-1000-fwd 1 -j DROP", Harm::Grown),
                ("restore", Harm::Grown),
                ("-R FORWARD 1 -j ACCEPT", Harm::Undone),
                ("-D FORWARD 1", Harm::Undone),
                ("-F FORWARD", Harm::Undone),
                ("-F ngwatch-1000-fwd", Harm::Undone),
                ("-D ngwatch-1000-fwd 1", Harm::Undone),
                ("-F", Harm::Undone),
            ] {
                for program in ["iptables-nft", "ip6tables-nft"] {
                    make.iter().for_each(|command| drop(run(program, command)));
                    let mut watch = Watch::open().unwrap();
                    match command {
                        "restore" => {
                            let shell = format!("printf '{fill}' | {program}-restore --noflush");
                            let done = std::process::Command::new("sh").args(["-c", &shell]).status();
                            assert!(done.unwrap().success());
                        }
                        _ => drop(run(program, command)),
                    }
                    let heard = std::iter::from_fn(|| watch.next(Duration::from_millis(50)).unwrap());
                    let harm = heard.map(|transaction| own().harm(&transaction)).max();
                    assert_eq!(harm.unwrap_or(Harm::None), expected, "{program} {command}");
                    run("nft", "flush ruleset");
                }
            }
            run("iptables-nft", "-N ngwatch-in");
            let mut watch = Watch::open().unwrap();
            run("iptables-nft", "-X ngwatch-in");
            let heard = watch.next(Duration::from_secs(2)).unwrap().unwrap();
            assert_eq!(own().harm(&heard), Harm::Undone);
        });
    }
}
