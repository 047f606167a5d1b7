//! Changes that the kernel makes all together or not at all: one batch of messages is one transaction. No
//! program is run.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::NftError;
use super::expression::{self, UNNAMED, Unnamed};
use super::message::{ACK, APPEND, Buffer, CREATE, NLMSG_ERROR, SUBSYSTEM, read_all};
use super::uapi::*;
use crate::render::nft::table::{
    Chain, Element, ElementValue, Family, Hook, KeyPart, Rule, Set, SetValue, Table, TableName,
    range_elements,
};

/// Bytes of one message's elements, below what an attribute's length can say.
const ELEMENTS_BYTES: usize = 60_000;
/// Of a rule's comment: as nft has them (NFTNL_UDATA_COMMENT_MAXLEN), less the NUL.
const LONGEST_COMMENT: usize = 127;

/// Changes to be made together.
#[derive(Debug)]
pub struct Batch {
    out: Buffer,
    sequence: u32,
    sets: u32,
    /// What each message does, for the error that one of them meets.
    steps: Vec<String>,
    genid: Option<u32>,
}

impl Batch {
    pub fn new() -> Self {
        Self { out: Buffer::default(), sequence: 0, sets: 0, steps: Vec::new(), genid: None }
    }

    /// To be made only if the kernel's rules are still those of this generation; else the error's
    /// `is_stale`.
    pub fn only_at(mut self, generation: u32) -> Self {
        self.genid = Some(generation);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Puts the table in the place of any other of its name.
    pub fn replace(&mut self, table: &Table) {
        self.remove(&table.name);
        self.add(table);
    }

    /// Removes the table if it exists.
    pub fn remove(&mut self, table: &TableName) {
        self.add_table(table);
        self.step(table, "remove table", "", NFT_MSG_DELTABLE, 0, |m| m.string(NFTA_TABLE_NAME, &table.name));
    }

    /// Adds the table; of one that is there, chains and sets stay, and rules come behind those that
    /// are there.
    pub fn add(&mut self, table: &Table) {
        self.add_table(&table.name);
        for set in &table.sets {
            self.add_set(&table.name, set);
        }
        for chain in &table.chains {
            self.add_chain(&table.name, chain);
        }
        for chain in &table.chains {
            self.add_rules(&table.name, chain);
        }
        for (set, elements) in &table.elements {
            self.add_elements(&table.name, set, elements);
        }
    }

    pub fn add_table(&mut self, table: &TableName) {
        self.step(table, "add table", "", NFT_MSG_NEWTABLE, CREATE, |m| {
            m.string(NFTA_TABLE_NAME, &table.name)
        });
    }

    pub fn add_set(&mut self, table: &TableName, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        self.step(table, "add set", &set.name, NFT_MSG_NEWSET, CREATE, |m| {
            m.string(NFTA_SET_TABLE, &table.name);
            m.string(NFTA_SET_NAME, &set.name);
            let mut flags = u32::from(set.interval) * NFT_SET_INTERVAL;
            flags |= u32::from(set.timeout) * NFT_SET_TIMEOUT;
            flags |= u32::from(set.value.is_some()) * NFT_SET_MAP;
            m.u32(NFTA_SET_FLAGS, flags);
            m.u32(NFTA_SET_KEY_TYPE, key_type(&set.key));
            m.u32(NFTA_SET_KEY_LEN, key_length(&set.key));
            match &set.value {
                None => {}
                Some(SetValue::Verdict) => {
                    m.u32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
                    m.u32(NFTA_SET_DATA_LEN, 0);
                }
                Some(SetValue::Target(parts)) => {
                    m.u32(NFTA_SET_DATA_TYPE, key_type(parts));
                    m.u32(NFTA_SET_DATA_LEN, key_length(parts));
                }
            }
            m.u32(NFTA_SET_ID, id);
            if set.key == [KeyPart::Link] {
                // Kind, length, value: nft is to list names as it lists its own.
                let mut bytes = vec![NFTNL_UDATA_SET_KEYBYTEORDER, size_of::<u32>() as u8];
                bytes.extend(BYTEORDER_HOST_ENDIAN.to_ne_bytes());
                m.attribute(NFTA_SET_USERDATA, &bytes);
            }
            if set.counter {
                m.nest(NFTA_SET_EXPR, expression::element_counter);
            }
        });
    }

    pub fn delete_set(&mut self, table: &TableName, set: &str) {
        self.step(table, "delete set", set, NFT_MSG_DELSET, 0, |m| {
            m.string(NFTA_SET_TABLE, &table.name);
            m.string(NFTA_SET_NAME, set);
        });
    }

    /// The chain itself, without its rules. That it is there already is fine.
    pub fn add_chain(&mut self, table: &TableName, chain: &Chain) {
        self.step(table, "add chain", &chain.name, NFT_MSG_NEWCHAIN, CREATE, |m| {
            m.string(NFTA_CHAIN_TABLE, &table.name);
            m.string(NFTA_CHAIN_NAME, &chain.name);
            if let Some(base) = chain.base {
                m.nest(NFTA_CHAIN_HOOK, |hook| {
                    hook.u32(NFTA_HOOK_HOOKNUM, hook_number(base.hook));
                    hook.attribute(NFTA_HOOK_PRIORITY, &base.priority.to_be_bytes());
                });
                m.u32(NFTA_CHAIN_POLICY, NF_ACCEPT);
                m.string(NFTA_CHAIN_TYPE, if base.nat { "nat" } else { "filter" });
            }
        });
    }

    /// The chain with these rules and no others.
    pub fn put_chain(&mut self, table: &TableName, chain: &Chain) {
        self.add_chain(table, chain);
        self.flush_chain(table, &chain.name);
        self.add_rules(table, chain);
    }

    pub fn flush_chain(&mut self, table: &TableName, chain: &str) {
        self.step(table, "empty chain", chain, NFT_MSG_DELRULE, 0, |m| {
            m.string(NFTA_RULE_TABLE, &table.name);
            m.string(NFTA_RULE_CHAIN, chain);
        });
    }

    /// Deletes a chain that is there and that nothing jumps to any more, with its rules.
    pub fn delete_chain(&mut self, table: &TableName, chain: &str) {
        self.flush_chain(table, chain);
        self.step(table, "delete chain", chain, NFT_MSG_DELCHAIN, 0, |m| {
            m.string(NFTA_CHAIN_TABLE, &table.name);
            m.string(NFTA_CHAIN_NAME, chain);
        });
    }

    fn add_rules(&mut self, table: &TableName, chain: &Chain) {
        for rule in &chain.rules {
            self.add_rule(table, &chain.name, rule);
        }
    }

    fn add_rule(&mut self, table: &TableName, chain: &str, rule: &Rule) {
        let mut ids = Vec::with_capacity(rule.statements.len());
        for statement in &rule.statements {
            let unnamed = expression::unnamed(statement, self.sets + 1);
            ids.push(unnamed.as_ref().map(|set| set.id));
            if let Some(set) = unnamed {
                self.sets += 1;
                self.add_unnamed(table, &set);
            }
        }
        self.step(table, "add rule to chain", chain, NFT_MSG_NEWRULE, CREATE | APPEND, |m| {
            m.string(NFTA_RULE_TABLE, &table.name);
            m.string(NFTA_RULE_CHAIN, chain);
            m.nest(NFTA_RULE_EXPRESSIONS, |list| {
                for (statement, id) in rule.statements.iter().zip(&ids) {
                    expression::write(list, statement, *id);
                }
            });
            if let Some(comment) = &rule.comment {
                // Kind, length, text with its NUL.
                let text = &comment.as_bytes()[..comment.len().min(LONGEST_COMMENT)];
                let mut bytes = vec![NFTNL_UDATA_RULE_COMMENT, text.len() as u8 + 1];
                bytes.extend(text);
                bytes.push(0);
                m.attribute(NFTA_RULE_USERDATA, &bytes);
            }
        });
    }

    fn add_unnamed(&mut self, table: &TableName, set: &Unnamed) {
        let ranges = set.ranges.iter().any(|(first, last)| first != last);
        self.step(table, "add set of a rule", "", NFT_MSG_NEWSET, CREATE, |m| {
            m.string(NFTA_SET_TABLE, &table.name);
            m.string(NFTA_SET_NAME, UNNAMED);
            m.u32(
                NFTA_SET_FLAGS,
                NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | (u32::from(ranges) * NFT_SET_INTERVAL),
            );
            m.u32(NFTA_SET_KEY_TYPE, set.key);
            m.u32(NFTA_SET_KEY_LEN, set.length);
            m.u32(NFTA_SET_ID, set.id);
        });
        let elements = match ranges {
            true => range_elements(&set.ranges),
            false => set.ranges.iter().map(|(key, _)| Element::new(key.clone())).collect(),
        };
        self.elements(table, UNNAMED, Some(set.id), &elements, NFT_MSG_NEWSETELEM);
    }

    /// Those that are there already stay as they are, unless they lead elsewhere: that is an error.
    pub fn add_elements(&mut self, table: &TableName, set: &str, elements: &[Element]) {
        self.elements(table, set, None, elements, NFT_MSG_NEWSETELEM);
    }

    /// That one is not there is an error.
    pub fn delete_elements(&mut self, table: &TableName, set: &str, elements: &[Element]) {
        self.elements(table, set, None, elements, NFT_MSG_DELSETELEM);
    }

    /// Deletes all that it holds.
    pub fn flush_set(&mut self, table: &TableName, set: &str) {
        self.step(table, "empty set", set, NFT_MSG_DELSETELEM, 0, |m| {
            m.string(NFTA_SET_ELEM_LIST_TABLE, &table.name);
            m.string(NFTA_SET_ELEM_LIST_SET, set);
        });
    }

    fn elements(&mut self, table: &TableName, set: &str, id: Option<u32>, elements: &[Element], kind: u16) {
        let what = if kind == NFT_MSG_NEWSETELEM { "add elements to set" } else { "delete elements of set" };
        let mut rest = elements.iter().peekable();
        while rest.peek().is_some() {
            self.step(table, what, set, kind, CREATE, |m| {
                m.string(NFTA_SET_ELEM_LIST_TABLE, &table.name);
                m.string(NFTA_SET_ELEM_LIST_SET, set);
                if let Some(id) = id {
                    m.u32(NFTA_SET_ELEM_LIST_SET_ID, id);
                }
                let start = m.bytes.len();
                m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                    while list.bytes.len() - start < ELEMENTS_BYTES
                        && let Some(element) = rest.next()
                    {
                        list.nest(NFTA_LIST_ELEM, |e| write_element(e, element));
                    }
                });
            });
        }
    }

    fn step(
        &mut self,
        table: &TableName,
        what: &str,
        name: &str,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Buffer),
    ) {
        self.sequence += 1;
        let name = if name.is_empty() { String::new() } else { format!(" '{name}'") };
        self.steps.push(format!("{what}{name} in table '{table}'"));
        self.out.message(SUBSYSTEM | kind, flags, self.sequence, family(table.family), 0, body);
    }

    /// Makes all the changes.
    ///
    /// # Errors
    /// The first change that cannot be made; none has been made then.
    pub fn commit(self) -> Result<(), NftError> {
        if self.is_empty() {
            return Ok(());
        }
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| NftError::Batch { what, source }
        };
        if self.out.overflown {
            let source = io::Error::other("an attribute is too long");
            return Err(failed("write a change of the firewall")(source));
        }
        let (bytes, last) = self.framed();
        let mut socket = open().map_err(failed("open a netlink socket"))?;
        make_room(&socket, bytes.len());
        socket.set_non_blocking(false).map_err(failed("set up a netlink socket"))?;
        socket.send(&bytes, 0).map_err(failed("send a change of the firewall"))?;
        let answer = answer(&mut socket, last).map_err(failed("hear of a change of the firewall"));
        put_off_closing(socket);
        match answer? {
            None => Ok(()),
            Some((sequence, errno)) => {
                let step = (sequence as usize).checked_sub(1).and_then(|n| self.steps.get(n));
                let what = step.map_or("begin a change of the firewall", String::as_str);
                Err(failed(what)(io::Error::from_raw_os_error(errno)))
            }
        }
    }

    /// The messages between those that begin and end a batch, and the number of the last one, which
    /// is acknowledged.
    fn framed(&self) -> (Vec<u8>, u32) {
        let mut all = Buffer { bytes: Vec::with_capacity(self.out.bytes.len() + 64), overflown: false };
        all.message(NFNL_MSG_BATCH_BEGIN, 0, 0, 0, NFNL_SUBSYS_NFTABLES, |m| {
            if let Some(generation) = self.genid {
                m.u32(NFNL_BATCH_GENID, generation);
            }
        });
        let start = all.bytes.len();
        all.bytes.extend(&self.out.bytes);
        acknowledge_last(&mut all.bytes[start..]);
        all.message(NFNL_MSG_BATCH_END, 0, self.sequence + 1, 0, NFNL_SUBSYS_NFTABLES, |_| {});
        (all.bytes, self.sequence)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// Closing such a socket waits until no processor looks at what was deleted any more: some 10 ms, in
/// which there is other work to do.
fn put_off_closing(socket: Socket) {
    static LAST: Mutex<Option<Socket>> = Mutex::new(None);
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
}

fn acknowledge_last(messages: &mut [u8]) {
    let mut at = 0;
    loop {
        let length = u32::from_ne_bytes([messages[at], messages[at + 1], messages[at + 2], messages[at + 3]]);
        let next = at + (length as usize).next_multiple_of(4);
        if next >= messages.len() {
            let flags = u16::from_ne_bytes([messages[at + 6], messages[at + 7]]) | ACK;
            messages[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
            return;
        }
        at = next;
    }
}

/// A socket that hears the kernel alone.
pub fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Errors come without the message that they are about, which may be long.
    socket.set_cap_ack(true)?;
    Ok(socket)
}

/// A batch is one message to the kernel, and has to fit the socket's buffer. Without the right to go
/// beyond the administrator's bound, that bound holds.
fn make_room(socket: &Socket, bytes: usize) {
    // SAFETY: the descriptor is the socket's, which lives as long as the borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    let wanted = bytes.saturating_mul(2).max(1 << 16);
    let forced = setsockopt(&fd.as_fd(), sockopt::SndBufForce, &wanted);
    if forced.is_err() {
        let _ = setsockopt(&fd.as_fd(), sockopt::SndBuf, &wanted);
    }
    // As many errors as there are messages may come.
    let _ = setsockopt(&fd.as_fd(), sockopt::RcvBufForce, &wanted.max(1 << 20));
}

/// The first error with its message's number; None: all is done. The kernel has worked on the batch
/// before sending it returns, so everything is there to be read.
fn answer(socket: &mut Socket, last: u32) -> io::Result<Option<(u32, i32)>> {
    loop {
        let mut bytes = Vec::with_capacity(1 << 16);
        socket.recv(&mut bytes, 0)?;
        let mut found = None;
        let ended = read_all(&bytes, |message| {
            if message.kind != NLMSG_ERROR {
                return Ok(false);
            }
            let errno = message.errno()?;
            if errno != 0 {
                found = Some((message.sequence, errno));
            }
            Ok(errno != 0 || message.sequence == last)
        })?;
        if ended {
            return Ok(found);
        }
    }
}

fn write_element(out: &mut Buffer, element: &Element) {
    out.nest(NFTA_SET_ELEM_KEY, |key| key.attribute(NFTA_DATA_VALUE, &element.key));
    match &element.value {
        None => {}
        Some(ElementValue::Verdict(verdict)) => {
            out.nest(NFTA_SET_ELEM_DATA, |data| expression::write_verdict(data, verdict))
        }
        Some(ElementValue::Bytes(bytes)) => {
            out.nest(NFTA_SET_ELEM_DATA, |data| data.attribute(NFTA_DATA_VALUE, bytes))
        }
    }
    if element.ends {
        out.u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
    }
    if element.timeout > 0 {
        out.u64(NFTA_SET_ELEM_TIMEOUT, element.timeout);
    }
}

/// The type of the keys, for nft's listings: that of each part.
fn key_type(parts: &[KeyPart]) -> u32 {
    let one = |part: &KeyPart| match part {
        KeyPart::Ipv4 => TYPE_IPADDR,
        KeyPart::Ipv6 => TYPE_IP6ADDR,
        KeyPart::Proto => TYPE_INET_PROTOCOL,
        KeyPart::Port => TYPE_INET_SERVICE,
        KeyPart::Link => TYPE_IFNAME,
    };
    parts.iter().fold(0, |sum, part| sum << TYPE_BITS | one(part))
}

fn key_length(parts: &[KeyPart]) -> u32 {
    match parts {
        [one] => one.size() as u32,
        many => many.iter().map(|part| part.size().next_multiple_of(4) as u32).sum(),
    }
}

pub fn family(family: Family) -> u8 {
    match family {
        Family::Inet => NFPROTO_INET,
        Family::Bridge => NFPROTO_BRIDGE,
    }
}

/// The same numbers in the families inet and bridge.
fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => NF_INET_PRE_ROUTING,
        Hook::Input => NF_INET_LOCAL_IN,
        Hook::Forward => NF_INET_FORWARD,
        Hook::Output => NF_INET_LOCAL_OUT,
        Hook::Postrouting => NF_INET_POST_ROUTING,
    }
}
