//! The broker's verbs, each declared once: its request and answer, what it is about, what a caller must be allowed,
//! whether it may take long, how long its request may be, and in a line each what it does and what it checks. From
//! this table come the server's trait, hostd's passing on, the caller's end, the description on the bus,
//! `docs/broker.md`, and the list that the tests with hostile callers go through.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::Action;
use super::error::HostError;
use super::packet::{Carries, Packet};
use super::requests::{
    AdjustLink, Applied, ApplyFirewall, AttachLink, AttachLxcfs, Block, BlockHitList, BlockHits,
    ChangeFirewall, Clear, Cleared, DetachLink, Done, EnsureNames, EnsureNetwork, FirewallInPlace,
    ForgetContainer, InPlace, KeepSources, LendDevice, Lent, MakePool, MendLink, Mended, Namespace,
    RegisterMachine, RemoveFirewall, RemoveNetwork, RemovePool, RuleCountList, RuleCounts, SetDiskQuota,
    SetLimits, SetUp, Setup, Spawn, Spawned, StorageNamespace, Traffic, TrafficMap,
};

/// What a verb is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The caller's account and ids.
    Owner,
    Storage,
    Network,
    Firewall,
    Container,
}

/// How long a verb may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It waits for nobody.
    Cheap,
    /// It may wait for other brokers, for the kernel, or for a service of the host's.
    Long,
}

/// What is said of a verb.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub subject: Subject,
    /// What hostd has the caller be allowed first. Root and a daemonless owner are asked nothing.
    pub action: Action,
    pub pace: Pace,
    /// Longest request, in bytes of JSON.
    pub longest: usize,
    pub does: &'static str,
    pub checks: &'static str,
}

/// A verb's request.
pub trait Request: Serialize + DeserializeOwned + Carries + Send {
    const VERB: Verb;
    type Answer: Serialize + DeserializeOwned + Carries + Send;
}

/// Of a container, a network, or some interfaces.
const SHORT: usize = 64 * 1024;
/// Of a whole firewall.
const FIREWALL: usize = 64 * 1024 * 1024;
/// Of all guests of a network.
const NAMES: usize = 16 * 1024 * 1024;

macro_rules! verbs {
    ($( $verb:ident, $method:ident, $answer:ident, $subject:ident, $action:ident, $pace:ident, $longest:ident,
        $does:literal, $checks:literal; )+) => {
        /// A verb of the broker's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Verb {
            $( #[doc = $does] $verb, )+
        }

        impl Verb {
            pub const ALL: &'static [Self] = &[$( Self::$verb ),+];

            /// Its name on the bus.
            pub fn name(self) -> &'static str {
                match self { $( Self::$verb => stringify!($verb), )+ }
            }

            pub fn spec(self) -> Spec {
                match self { $(
                    Self::$verb => Spec {
                        subject: Subject::$subject,
                        action: Action::$action,
                        pace: Pace::$pace,
                        longest: $longest,
                        does: $does,
                        checks: $checks,
                    },
                )+ }
            }
        }

        $( impl Request for $verb {
            const VERB: Verb = Verb::$verb;
            type Answer = $answer;
        } )+

        /// Whoever carries verbs out.
        pub trait Verbs: Sync {
            /// Longest request that this caller may send, in bytes.
            fn longest(&self, verb: Verb) -> Result<usize, HostError> {
                Ok(verb.spec().longest)
            }

            $( #[doc = $does]
            fn $method(&self, request: $verb) -> impl Future<Output = Result<$answer, HostError>> + Send; )+
        }

        /// Carries out `verb`.
        pub async fn carry_out(host: &impl Verbs, verb: Verb, request: Packet) -> Result<Packet, HostError> {
            let longest = host.longest(verb)?;
            match verb { $(
                Verb::$verb => Packet::seal(host.$method(request.open(longest)?).await?),
            )+ }
        }
    };
}

verbs! {
    Setup, setup, SetUp, Owner, Setup, Long, SHORT,
        "makes the caller's ids and directories where they are missing",
        "ids, accounts and directories belong to nobody else";
    StorageNamespace, storage_namespace, Namespace, Storage, Containers, Cheap, SHORT,
        "makes a user namespace over the storage ids",
        "the caller is set up";
    SetDiskQuota, set_disk_quota, Done, Storage, Containers, Cheap, SHORT,
        "bounds what a container's directory or a volume may take of the disk, and counts it from now on if it is new",
        "the id; the ids are runtime ids of the owner, and the number of the quota is one of them, or for a volume one of the storage ids; the directory belongs to the storage ids; a limit is not below what is used, unless that is said";
    MakePool, make_pool, Done, Storage, Containers, Cheap, SHORT,
        "makes a pool in a directory, closed to others, and gives it to the storage ids",
        "root has just typed the directory, or the grant names it, or it is a daemonless owner's; no link leads there, root owns it and nobody else can write to it; a pool that is there belongs to the storage ids; there are 32 at most";
    RemovePool, remove_pool, Done, Storage, Containers, Cheap, SHORT,
        "removes an empty pool from a directory",
        "`MakePool` has made one of the owner's there";
    EnsureNetwork, ensure_network, InPlace, Network, Network, Long, SHORT,
        "makes a network's bridge, with its addresses, and has the host forward",
        "the bridge's name is one of the owner's, and a bridge that is there is the owner's too; an ordinary user's subnets are private or granted, at most /20, nobody else's, and no more of them than granted";
    RemoveNetwork, remove_network, Done, Network, Network, Long, SHORT,
        "removes a network's bridge, which has no port any more",
        "the bridge, as above";
    EnsureNames, ensure_names, Done, Network, Network, Long, NAMES,
        "starts a dnsmasq for a network, and tells it the guests, or stops it",
        "the network, as above, and `EnsureNetwork` was called for it; the guests' addresses are in it, and they are no more than the owner can have";
    FirewallInPlace, firewall_in_place, InPlace, Firewall, Network, Cheap, SHORT,
        "tells whether the owner's tables are there",
        "nothing: they are found by the owner's name";
    ApplyFirewall, apply_firewall, Applied, Firewall, Network, Long, FIREWALL,
        "puts the owner's whole firewall in place, and lets its traffic through other firewalls",
        "networks, links and addresses are the owner's; ports of the host, as granted";
    ChangeFirewall, change_firewall, Done, Firewall, Network, Long, FIREWALL,
        "changes parts of a firewall that is in place",
        "the same";
    RemoveFirewall, remove_firewall, Done, Firewall, Network, Long, SHORT,
        "takes the owner's whole firewall away",
        "bridges that are not the owner's are passed over";
    ForgetContainer, forget_container, Done, Firewall, Network, Long, SHORT,
        "removes a deleted container's elements and counts",
        "the id; links are found by it and by the owner's name";
    Block, block, Done, Firewall, Network, Long, FIREWALL,
        "blocks and unblocks addresses in one transaction",
        "the lists are whole; what is blocked for single containers goes to the owner's own tables";
    BlockHits, block_hits, BlockHitList, Firewall, Network, Cheap, SHORT,
        "counts what has hit the owner's blocks",
        "nothing: they are found by the owner's name";
    Traffic, traffic, TrafficMap, Firewall, Network, Cheap, SHORT,
        "counts what has passed the owner's links",
        "nothing: they are found by the owner's name";
    RuleCounts, rule_counts, RuleCountList, Firewall, Network, Cheap, SHORT,
        "counts what the owner's rules have decided",
        "nothing: they are found by the owner's name";
    AdjustLink, adjust_link, Done, Container, Containers, Long, SHORT,
        "gives a running container's interface other rates and another isolation",
        "the id; the interface as for `Spawn`";
    MendLink, mend_link, Mended, Container, Containers, Long, SHORT,
        "puts back what others have changed at the host's end of a running container's interface",
        "the same; `EnsureNetwork` was called for the bridge before";
    Spawn, spawn, Spawned, Container, Containers, Long, SHORT,
        "starts a monitor with its guest, or a monitor for a guest that has lost its own",
        "id, name, interfaces with their addresses; the ids are runtime ids of the owner; all trees belong to the storage ids, and each descriptor is of its kind; a layer that is named in a directory is found there without links, and nowhere else; `EnsureNetwork` was called for the bridge before; the grant allows another container; an init to take over is process 1 of this container's cgroup and has its ids";
    LendDevice, lend_device, Lent, Container, Containers, Long, SHORT,
        "makes a mount of a directory or device node for a running container, which its monitor attaches",
        "the id, which runs and has these runtime ids; the directory or node, as for `Spawn`";
    AttachLink, attach_link, Done, Container, Containers, Long, SHORT,
        "gives a running container one more interface, known to the firewall and filtered before it is up",
        "the id, which runs; the interface as for `Spawn`; it has none in that place";
    DetachLink, detach_link, Done, Container, Containers, Long, SHORT,
        "takes an interface away from a running container",
        "the id; the link is found by it and by the owner's name";
    KeepSources, keep_sources, Done, Container, Containers, Cheap, NAMES,
        "forgets which other directories root has allowed for disks of its own containers",
        "the caller is the service user; nothing is added by it";
    SetLimits, set_limits, Done, Container, Containers, Cheap, SHORT,
        "gives a running container other limits: all of them or, on failure, none",
        "the id; the numbers make sense, the disks are there, and the grant allows it";
    Clear, clear, Cleared, Container, Containers, Long, SHORT,
        "ends what runs of a container, and removes its cgroup and links",
        "the id; everything is found by it and by the owner's name";
    AttachLxcfs, attach_lxcfs, Done, Container, Containers, Cheap, SHORT,
        "gives a running container the lxcfs that the host has now",
        "the id";
    RegisterMachine, register_machine, Done, Container, Containers, Cheap, SHORT,
        "tells systemd-machined of a running container, and does not wait for it",
        "the id, the name and the uuid";
}

impl Verb {
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verb| verb.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as `docs/broker.md` has it.
    fn table() -> String {
        let mut text =
            "| verb | about | allowed by | pace | request | does | checks |\n|---|---|---|---|---|---|---|\n"
                .to_owned();
        for verb in Verb::ALL {
            let Spec { subject, action, pace, longest, does, checks } = verb.spec();
            let (subject, action) =
                (format!("{subject:?}").to_lowercase(), format!("{action:?}").to_lowercase());
            let pace = if pace == Pace::Cheap { "quick" } else { "slow" };
            let longest = if longest < 1 << 20 {
                format!("{} KiB", longest >> 10)
            } else {
                format!("{} MiB", longest >> 20)
            };
            text += &format!(
                "| `{}` | {subject} | {action} | {pace} | {longest} | {does} | {checks} |\n",
                verb.name()
            );
        }
        text
    }

    #[test]
    fn the_docs_have_the_table() {
        let page = include_str!("../../../docs/broker.md");
        let table = table();
        assert!(page.ends_with(&table), "docs/broker.md is to end with:\n{table}");
    }

    #[test]
    fn verbs_are_found_by_their_names_alone() {
        for verb in Verb::ALL {
            assert_eq!(Verb::named(verb.name()), Some(*verb));
        }
        assert_eq!(Verb::named("setup").or(Verb::named("")), None);
    }
}
