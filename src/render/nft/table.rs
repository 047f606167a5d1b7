//! Tables, sets, chains and rules, in the few shapes that nagaya needs, as plain data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::mac::Mac;

/// Whose packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Inet,
    Bridge,
}

/// Which table is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    pub family: Family,
    pub name: String,
}

/// A whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: TableName,
    pub sets: Vec<Set>,
    /// A chain comes before whatever jumps to it.
    pub chains: Vec<Chain>,
    /// What the sets hold: the set's name and its elements. Apart from them, for an element may name
    /// a chain.
    pub elements: Vec<(String, Vec<Element>)>,
}

/// What the keys of a set are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart {
    Link,
    Ipv4,
    Ipv6,
    Proto,
    Port,
}

/// A set, or a map where `value` says what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub key: Vec<KeyPart>,
    pub value: Option<SetValue>,
    /// Elements are ranges.
    pub interval: bool,
    /// Elements may go by themselves.
    pub timeout: bool,
    /// Elements count packets.
    pub counter: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    Verdict,
    /// An address and a port.
    Target(Vec<KeyPart>),
}

/// One element: its key as the kernel compares it, each part filled up to 4 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<u8>,
    /// Behind the last key of a range.
    pub ends: bool,
    /// Milliseconds from now on; 0: for good.
    pub timeout: u64,
    pub value: Option<ElementValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementValue {
    Verdict(Verdict),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// None: it is only jumped to.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// Where packets enter a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub nat: bool,
    pub hook: Hook,
    pub priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    pub statements: Vec<Statement>,
    /// By which it is found again in a listing.
    pub comment: Option<String>,
}

/// What of a packet is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Iifname,
    Oifname,
    /// 2: IPv4, 10: IPv6.
    Nfproto,
    L4proto,
    EtherType,
    EtherDaddr,
    Saddr4,
    Daddr4,
    Saddr6,
    Daddr6,
    Dport,
    IcmpType,
    Icmpv6Type,
    CtState,
    CtStatus,
    /// Whose address the destination is: 2, the host's own.
    DaddrType,
    /// The same of the interface by which it came.
    DaddrTypeHere,
}

/// What it is compared with. Bytes are in wire order; those of the kernel's own values in the host's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    Is(Vec<u8>),
    IsNot(Vec<u8>),
    /// Value under a mask.
    Under(Vec<u8>, Vec<u8>),
    NotUnder(Vec<u8>, Vec<u8>),
    /// First and last, ascending, disjoint.
    OneOf(Vec<(Vec<u8>, Vec<u8>)>),
    NotOneOf(Vec<(Vec<u8>, Vec<u8>)>),
    In(String),
    NotIn(String),
    /// Under a mask in a set.
    UnderIn(Vec<u8>, String),
    AnyBit(u32),
    NoBit(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    Match(Field, Test),
    /// The verdict that a map has for a field.
    Vmap(Field, String),
    Counter,
    /// Into the kernel's log, so many a second at most.
    Log {
        prefix: String,
        each_second: u64,
    },
    Verdict(Verdict),
    /// Drop, and tell the sender that nobody listens.
    Reject,
    Masquerade,
    Snat(IpAddr),
    /// To where a map leads from these fields.
    Dnat {
        v6: bool,
        key: Vec<Field>,
        map: String,
    },
    SetEtherDaddr(Mac),
    /// The host is to take it for its own.
    ToHost,
}

/// Bits of conntrack's state and status.
pub const ESTABLISHED: u32 = 1 << 1;
pub const RELATED: u32 = 1 << 2;
pub const DNAT: u32 = 1 << 5;

impl TableName {
    pub fn inet(name: impl Into<String>) -> Self {
        Self { family: Family::Inet, name: name.into() }
    }

    pub fn bridge(name: impl Into<String>) -> Self {
        Self { family: Family::Bridge, name: name.into() }
    }
}

impl Set {
    fn new(name: impl Into<String>, key: &[KeyPart], value: Option<SetValue>) -> Self {
        let name = name.into();
        Self { name, key: key.to_vec(), value, interval: false, timeout: false, counter: false }
    }

    /// Names of interfaces.
    pub fn links(name: &str) -> Self {
        Self::new(name, &[KeyPart::Link], None)
    }

    /// Addresses of one family.
    pub fn addresses(name: impl Into<String>, v4: bool) -> Self {
        Self::new(name, &[if v4 { KeyPart::Ipv4 } else { KeyPart::Ipv6 }], None)
    }

    /// From a link or an address to a verdict.
    pub fn verdicts(name: &str, key: KeyPart) -> Self {
        Self::new(name, &[key], Some(SetValue::Verdict))
    }

    /// From these parts to an address and a port.
    pub fn targets(name: &str, key: &[KeyPart], v4: bool) -> Self {
        let address = if v4 { KeyPart::Ipv4 } else { KeyPart::Ipv6 };
        Self::new(name, key, Some(SetValue::Target(vec![address, KeyPart::Port])))
    }

    pub fn with_ranges(self) -> Self {
        Self { interval: true, ..self }
    }

    pub fn with_timeouts(self) -> Self {
        Self { timeout: true, ..self }
    }

    pub fn with_counters(self) -> Self {
        Self { counter: true, ..self }
    }
}

impl Element {
    pub fn new(key: Vec<u8>) -> Self {
        Self { key, ends: false, timeout: 0, value: None }
    }

    pub fn link(name: &str) -> Self {
        Self::new(link_bytes(name))
    }

    pub fn address(ip: IpAddr) -> Self {
        Self::new(address_bytes(ip))
    }

    pub fn to(self, verdict: Verdict) -> Self {
        Self { value: Some(ElementValue::Verdict(verdict)), ..self }
    }
}

impl Rule {
    pub fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self { statements: statements.into(), comment: None }
    }

    pub fn commented(self, comment: impl Into<String>) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }
}

impl Chain {
    pub fn new(name: impl Into<String>, rules: Vec<Rule>) -> Self {
        Self { name: name.into(), base: None, rules }
    }

    pub fn base(name: &str, hook: Hook, priority: i32, rules: Vec<Rule>) -> Self {
        Self { name: name.to_owned(), base: Some(Base { nat: false, hook, priority }), rules }
    }

    pub fn nat(name: &str, hook: Hook, priority: i32, rules: Vec<Rule>) -> Self {
        Self { name: name.to_owned(), base: Some(Base { nat: true, hook, priority }), rules }
    }
}

impl KeyPart {
    /// Bytes that it takes in a key by itself.
    pub fn size(self) -> usize {
        match self {
            Self::Link | Self::Ipv6 => 16,
            Self::Ipv4 => 4,
            Self::Proto => 1,
            Self::Port => 2,
        }
    }
}

impl Field {
    /// Bytes of its value.
    pub fn size(self) -> usize {
        match self {
            Self::Iifname | Self::Oifname | Self::Saddr6 | Self::Daddr6 => 16,
            Self::EtherDaddr => 6,
            Self::Saddr4
            | Self::Daddr4
            | Self::CtState
            | Self::CtStatus
            | Self::DaddrType
            | Self::DaddrTypeHere => 4,
            Self::EtherType | Self::Dport => 2,
            Self::Nfproto | Self::L4proto | Self::IcmpType | Self::Icmpv6Type => 1,
        }
    }
}

pub fn link_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

pub fn address_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Reads what `address_bytes` writes.
pub fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    }
}

pub fn mask_bytes(v4: bool, prefix: u8) -> Vec<u8> {
    match v4 {
        true => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from(mask).octets().to_vec()
        }
        false => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from(mask).octets().to_vec()
        }
    }
}

/// The ranges as elements of a set: each is its first key, and the first behind it unless there is
/// none.
pub fn range_elements(ranges: &[(Vec<u8>, Vec<u8>)]) -> Vec<Element> {
    let mut elements = Vec::with_capacity(ranges.len() * 2);
    for (first, last) in ranges {
        elements.push(Element::new(first.clone()));
        if let Some(key) = next(last) {
            elements.push(Element { ends: true, ..Element::new(key) });
        }
    }
    elements
}

fn next(bytes: &[u8]) -> Option<Vec<u8>> {
    let at = bytes.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut bytes = bytes.to_vec();
    bytes[at] += 1;
    bytes[at + 1..].fill(0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_behind_their_last_key() {
        let ranges = [(vec![10, 0], vec![10, 255]), (vec![255, 0], vec![255, 255])];
        let keys: Vec<_> = range_elements(&ranges).iter().map(|e| (e.key.clone(), e.ends)).collect();
        assert_eq!(keys, [(vec![10, 0], false), (vec![11, 0], true), (vec![255, 0], false)]);
    }

    #[test]
    fn masks_have_as_many_bits_as_the_prefix() {
        assert_eq!(mask_bytes(true, 20), [255, 255, 240, 0]);
        assert_eq!(mask_bytes(true, 0), [0; 4]);
        assert_eq!(mask_bytes(true, 32), [255; 4]);
        assert_eq!(mask_bytes(false, 9)[..3], [255, 128, 0]);
    }
}
