//! Changes of nftables' rules, as the kernel reports them.
#![allow(unsafe_code)]

use crate::model::waits;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::NftError;
use super::message::{Attributes, Received, SUBSYSTEM, family_name, read_all};
use super::uapi::*;

const NEW_GENERATION: u16 = SUBSYSTEM | NFT_MSG_NEWGEN;
/// The kernel's datagrams have 32 KiB at most (NLMSG_GOODSIZE).
const DATAGRAM: usize = 64 << 10;

/// What was done to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    NewTable,
    DeletedTable,
    NewChain,
    /// A new chain, or one with another policy, that packets come to without a jump.
    NewBaseChain,
    DeletedChain,
    NewRule,
    DeletedRule,
    /// Sets, their elements, and whatever else there is.
    Other,
    OtherDeleted,
}

/// One change, of however many of the same kind in the same place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub kind: Kind,
    /// `ip`, `ip6`, `inet`, …
    pub family: &'static str,
    pub table: String,
    /// Of a chain or a rule.
    pub chain: Option<String>,
    /// The chain that a rule leads to.
    pub jumps_to: Option<String>,
}

/// What was done at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    pub changes: BTreeSet<Change>,
    /// Who did it, where the kernel says so: process number and name.
    pub process: Option<(i32, String)>,
    /// More has happened than the kernel could tell.
    pub has_gaps: bool,
}

/// A socket that hears of changes in the network namespace in which it was opened.
pub struct Watch {
    socket: Socket,
    /// Heard, and not yet complete.
    pending: Transaction,
    ready: VecDeque<Transaction>,
}

impl Watch {
    /// Hears of what happens from now on. Needs CAP_NET_ADMIN.
    pub fn open() -> Result<Self, NftError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(NFNLGRP_NFTABLES)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(NftError::Listen)?;
        Ok(Self { socket, pending: Transaction::default(), ready: Default::default() })
    }

    /// The next transaction; none where there is none within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Transaction>, NftError> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(transaction) = self.ready.pop_front() {
                return Ok(Some(transaction));
            }
            let is_midway = !self.pending.changes.is_empty();
            let left = if is_midway {
                waits::NFT_TRANSACTION
            } else {
                end.saturating_duration_since(Instant::now())
            };
            if self.wait(left)? {
                self.hear()?;
            } else if is_midway {
                // Whatever has ended it was lost.
                return Ok(Some(Transaction { has_gaps: true, ..std::mem::take(&mut self.pending) }));
            } else {
                return Ok(None);
            }
        }
    }

    /// What there is to be waited for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket lives longer than this borrow of its descriptor.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    fn wait(&self, timeout: Duration) -> Result<bool, NftError> {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let fd = self.fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(NftError::Listen(e.into())),
        }
    }

    fn hear(&mut self) -> Result<(), NftError> {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        match self.socket.recv_from(&mut datagram, 0) {
            // Only the kernel has the number 0: other senders are not heard.
            Ok((_, sender)) if sender.port_number() != 0 => Ok(()),
            Ok(_) => read(&datagram, &mut self.pending, &mut self.ready).map_err(NftError::Listen),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                self.ready.push_back(Transaction { has_gaps: true, ..std::mem::take(&mut self.pending) });
                Ok(())
            }
            Err(e) => Err(NftError::Listen(e)),
        }
    }
}

/// Takes in one datagram: a message that says "new generation" ends a transaction.
fn read(datagram: &[u8], pending: &mut Transaction, ready: &mut VecDeque<Transaction>) -> io::Result<()> {
    read_all(datagram, |message| {
        match message.kind {
            NEW_GENERATION => {
                pending.process = process(message.attributes()?)?;
                ready.push_back(std::mem::take(pending));
            }
            kind if kind & !0xff == SUBSYSTEM => {
                pending.changes.insert(change(kind & 0xff, message)?);
            }
            _ => {}
        }
        Ok(false)
    })?;
    Ok(())
}

fn change(kind: u16, message: Received<'_>) -> io::Result<Change> {
    let attributes = message.attributes()?;
    // Attribute 1 is the table's name in all messages but that of a generation.
    let table = attributes.text(NFTA_TABLE_NAME)?.unwrap_or_default();
    let (rule_chain, chain) = (|| attributes.text(NFTA_RULE_CHAIN), || attributes.text(NFTA_CHAIN_NAME));
    let (kind, chain) = match kind {
        NFT_MSG_NEWTABLE => (Kind::NewTable, None),
        NFT_MSG_DELTABLE => (Kind::DeletedTable, None),
        NFT_MSG_NEWCHAIN if attributes.find(NFTA_CHAIN_HOOK)?.is_some() => (Kind::NewBaseChain, chain()?),
        NFT_MSG_NEWCHAIN => (Kind::NewChain, chain()?),
        NFT_MSG_DELCHAIN => (Kind::DeletedChain, chain()?),
        NFT_MSG_NEWRULE => (Kind::NewRule, rule_chain()?),
        NFT_MSG_DELRULE => (Kind::DeletedRule, rule_chain()?),
        // Set, element, object, flow table: new, get, delete, in this order.
        11 | 14 | 20 | 24 => (Kind::OtherDeleted, None),
        _ => (Kind::Other, None),
    };
    let jumps_to = match kind {
        Kind::NewRule | Kind::DeletedRule => jump(attributes)?,
        _ => None,
    };
    Ok(Change { kind, family: family_name(message.family()?), table, chain, jumps_to })
}

/// Where a rule jumps or goes to.
fn jump(rule: Attributes<'_>) -> io::Result<Option<String>> {
    for expression in rule.within(NFTA_RULE_EXPRESSIONS)?.into_iter().flatten() {
        let expression = Attributes(expression?.1);
        if expression.text(NFTA_EXPR_NAME)?.as_deref() != Some("immediate") {
            continue;
        }
        let mut data = Some(expression);
        for kind in [NFTA_EXPR_DATA, NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT] {
            data = data.map(|data| data.within(kind)).transpose()?.flatten();
        }
        if let Some(chain) = data.map(|verdict| verdict.text(NFTA_VERDICT_CHAIN)).transpose()?.flatten() {
            return Ok(Some(chain));
        }
    }
    Ok(None)
}

fn process(attributes: Attributes<'_>) -> io::Result<Option<(i32, String)>> {
    let number = attributes.number(NFTA_GEN_PROC_PID)?.map(|number| number as i32);
    Ok(number.zip(attributes.text(NFTA_GEN_PROC_NAME)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, run};

    const SOON: Duration = Duration::from_secs(2);

    fn change(kind: Kind, family: &'static str, table: &str, chain: Option<&str>) -> Change {
        Change { kind, family, table: table.into(), chain: chain.map(str::to_owned), jumps_to: None }
    }

    #[test]
    fn transactions_are_heard_with_their_changes_and_authors() {
        in_new_netns(|| {
            run("nft", "add table inet before");
            let mut watch = Watch::open().unwrap();
            assert_eq!(watch.next(Duration::from_millis(50)).unwrap(), None);
            run("nft", "add chain inet before way { type filter hook forward priority 0 ; }");
            let heard = watch.next(SOON).unwrap().unwrap();
            assert_eq!(heard.process.unwrap().1, "nft");
            let base = change(Kind::NewBaseChain, "inet", "before", Some("way"));
            assert_eq!(heard.changes.into_iter().collect::<Vec<_>>(), [base]);
            run("nft", "add rule inet before way accept ; add chain inet before plain");
            let heard = watch.next(SOON).unwrap().unwrap();
            assert!(heard.changes.contains(&change(Kind::NewRule, "inet", "before", Some("way"))));
            assert!(heard.changes.contains(&change(Kind::NewChain, "inet", "before", Some("plain"))));
            run("nft", "flush ruleset");
            let heard = watch.next(SOON).unwrap().unwrap();
            assert!(heard.changes.contains(&change(Kind::DeletedTable, "inet", "before", None)), "{heard:?}");
            run("iptables-nft", "-P FORWARD DROP");
            let heard = std::iter::from_fn(|| watch.next(Duration::from_millis(100)).unwrap());
            let base = change(Kind::NewBaseChain, "ip", "filter", Some("FORWARD"));
            assert!(heard.flat_map(|heard| heard.changes).any(|change| change == base));
            // Another namespace's are not heard.
            in_new_netns(|| run("nft", "add table inet elsewhere"));
            assert_eq!(watch.next(Duration::from_millis(100)).unwrap(), None);
        });
    }

    #[test]
    fn it_is_heard_where_rules_that_come_and_go_lead_to() {
        in_new_netns(|| {
            run("iptables-nft", "-N mine");
            let mut watch = Watch::open().unwrap();
            let mut heard = |command: &str, kind| {
                run("iptables-nft", command);
                let heard: Vec<_> =
                    std::iter::from_fn(|| watch.next(Duration::from_millis(100)).unwrap()).collect();
                let rules = heard.into_iter().flat_map(|heard| heard.changes);
                let rules = rules.filter(|change| change.kind == kind && change.table == "filter");
                rules.map(|change| (change.chain.unwrap(), change.jumps_to)).collect::<Vec<_>>()
            };
            let to = |chain: Option<&str>| [("FORWARD".to_owned(), chain.map(str::to_owned))];
            let jump = "FORWARD -m comment --comment x -j mine";
            assert_eq!(heard(&format!("-A {jump}"), Kind::NewRule), to(Some("mine")));
            assert_eq!(heard(&format!("-D {jump}"), Kind::DeletedRule), to(Some("mine")));
            assert_eq!(heard("-A FORWARD -p tcp -g mine", Kind::NewRule), to(Some("mine")));
            assert_eq!(heard("-A FORWARD -j DROP", Kind::NewRule), to(None));
            assert_eq!(heard("-D FORWARD 2", Kind::DeletedRule), to(None));
            assert_eq!(heard("-F FORWARD", Kind::DeletedRule), to(Some("mine")));
        });
    }

    #[test]
    fn many_changes_are_one_and_too_many_are_a_gap() {
        in_new_netns(|| {
            let mut watch = Watch::open().unwrap();
            let elements: Vec<String> = (0..3000).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
            let set =
                format!("add set inet t s {{ type ipv4_addr ; elements = {{ {} }} ; }}", elements.join(", "));
            run("nft", "add table inet t");
            run("nft", &set);
            let heard: Vec<_> =
                std::iter::from_fn(|| watch.next(Duration::from_millis(200)).unwrap()).collect();
            let has_gaps = heard.iter().any(|heard| heard.has_gaps);
            let changes: BTreeSet<_> = heard.into_iter().flat_map(|heard| heard.changes).collect();
            assert!(has_gaps || changes.contains(&change(Kind::Other, "inet", "t", None)), "{changes:?}");
            assert!(changes.len() <= 2, "{changes:?}");
        });
    }

    #[test]
    fn a_damaged_message_is_an_error() {
        let read = |bytes: &[u8]| read(bytes, &mut Transaction::default(), &mut Default::default());
        assert!(read(&[20, 0, 0, 0, 0, 10]).is_err());
        let mut message = vec![0; 24];
        (message[0], message[5], message[20]) = (24, 10, 9);
        assert!(read(&message).is_err());
    }
}
