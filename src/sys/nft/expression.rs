//! Statements as the expressions that the kernel runs: values are loaded into registers, compared,
//! and acted upon. Numbers as in linux/netfilter/nf_tables.h.

use super::message::Buffer;
use crate::render::nft::table::{Field, Statement, Test, Verdict, address_bytes};

const LIST_ELEMENT: u16 = 1;
/// Register of 16 bytes, the first of the small ones (4 bytes each), and that of verdicts.
const FIRST: u32 = 1;
const SMALL: u32 = 8;
const VERDICT: u32 = 0;

/// Comparisons.
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

/// A set without a name of its own, made for one rule.
pub struct Unnamed {
    pub id: u32,
    pub key: u32,
    pub length: u32,
    pub ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

/// By which a rule finds its set before the kernel has given that a name.
pub const UNNAMED: &str = "__set%d";

/// The unnamed set that a statement needs, under the number `id`.
pub fn unnamed(statement: &Statement, id: u32) -> Option<Unnamed> {
    let Statement::Match(field, Test::OneOf(ranges) | Test::NotOneOf(ranges)) = statement else {
        return None;
    };
    let single = matches!(statement, Statement::Match(_, Test::OneOf(_))) && ranges.len() == 1;
    (!single).then(|| Unnamed {
        id,
        key: data_type(*field),
        length: field.size() as u32,
        ranges: ranges.clone(),
    })
}

/// What nft, when it lists, takes a field's values for (its own numbers).
fn data_type(field: Field) -> u32 {
    match field {
        Field::Iifname | Field::Oifname => 41,
        Field::Nfproto => 2,
        Field::L4proto => 12,
        Field::EtherType => 10,
        Field::EtherDaddr => 9,
        Field::Saddr4 | Field::Daddr4 => 7,
        Field::Saddr6 | Field::Daddr6 => 8,
        Field::Dport => 13,
        Field::IcmpType => 14,
        Field::Icmpv6Type => 29,
        Field::CtState => 26,
        Field::CtStatus => 28,
        Field::DaddrType | Field::DaddrTypeHere => 38,
    }
}

/// Appends the expressions of `statement`. `set` is the number of its unnamed set, if it has one.
pub fn write(out: &mut Buffer, statement: &Statement, set: Option<u32>) {
    match statement {
        Statement::Match(field, test) => {
            load(out, *field, FIRST);
            compare(out, *field, test, set);
        }
        Statement::Vmap(field, map) => {
            load(out, *field, FIRST);
            lookup(out, map, None, Some(VERDICT), false);
        }
        Statement::Counter => counter(out),
        Statement::Log { prefix, each_second } => log(out, prefix, *each_second),
        Statement::Verdict(verdict) => expression(out, "immediate", |e| {
            e.u32(1, VERDICT);
            e.nest(2, |data| write_verdict(data, verdict));
        }),
        Statement::Reject => expression(out, "reject", |e| {
            // NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH
            e.u32(1, 2);
            e.attribute(2, &[1]);
        }),
        Statement::Masquerade => expression(out, "masq", |_| {}),
        Statement::Snat(ip) => {
            immediate(out, &address_bytes(*ip));
            nat(out, 0, ip.is_ipv4(), None);
        }
        Statement::Dnat { v6, key, map } => dnat(out, *v6, key, map),
        Statement::SetEtherDaddr(mac) => {
            immediate(out, &mac.0);
            expression(out, "payload", |e| {
                for (kind, value) in [(5, FIRST), (2, 0), (3, 0), (4, 6), (6, 0), (7, 0)] {
                    e.u32(kind, value);
                }
            });
        }
        Statement::ToHost => {
            // PACKET_HOST; NFT_META_PKTTYPE
            immediate(out, &[0]);
            expression(out, "meta", |e| {
                e.u32(2, 19);
                e.u32(3, FIRST);
            });
        }
    }
}

fn expression(out: &mut Buffer, name: &str, data: impl FnOnce(&mut Buffer)) {
    out.nest(LIST_ELEMENT, |e| named(e, name, data));
}

fn named(out: &mut Buffer, name: &str, data: impl FnOnce(&mut Buffer)) {
    out.string(1, name);
    out.nest(2, data);
}

/// A counter that begins at 0, as what a set's elements have.
pub fn element_counter(out: &mut Buffer) {
    named(out, "counter", zeros);
}

fn counter(out: &mut Buffer) {
    expression(out, "counter", zeros);
}

fn zeros(out: &mut Buffer) {
    out.u64(1, 0);
    out.u64(2, 0);
}

/// NFTA_DATA_VERDICT with code and chain.
pub fn write_verdict(out: &mut Buffer, verdict: &Verdict) {
    out.nest(2, |v| {
        let code: i32 = match verdict {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Jump(_) => -3,
            Verdict::Return => -5,
        };
        v.attribute(1, &code.to_be_bytes());
        if let Verdict::Jump(chain) = verdict {
            v.string(2, chain);
        }
    });
}

fn value(out: &mut Buffer, kind: u16, bytes: &[u8]) {
    out.nest(kind, |data| data.attribute(1, bytes));
}

fn immediate(out: &mut Buffer, bytes: &[u8]) {
    expression(out, "immediate", |e| {
        e.u32(1, FIRST);
        value(e, 2, bytes);
    });
}

fn load(out: &mut Buffer, field: Field, register: u32) {
    let (link, network, transport) = (0, 1, 2);
    match field {
        Field::Iifname => meta(out, 6, register),
        Field::Oifname => meta(out, 7, register),
        Field::Nfproto => meta(out, 15, register),
        Field::L4proto => meta(out, 16, register),
        Field::EtherDaddr => payload(out, link, 0, field, register),
        Field::EtherType => payload(out, link, 12, field, register),
        Field::Saddr4 => payload(out, network, 12, field, register),
        Field::Daddr4 => payload(out, network, 16, field, register),
        Field::Saddr6 => payload(out, network, 8, field, register),
        Field::Daddr6 => payload(out, network, 24, field, register),
        Field::Dport => payload(out, transport, 2, field, register),
        Field::IcmpType | Field::Icmpv6Type => payload(out, transport, 0, field, register),
        Field::CtState => conntrack(out, 0, register),
        Field::CtStatus => conntrack(out, 2, register),
        // NFTA_FIB_F_DADDR, with NFTA_FIB_F_IIF
        Field::DaddrType => address_type(out, 2, register),
        Field::DaddrTypeHere => address_type(out, 2 | 8, register),
    }
}

fn meta(out: &mut Buffer, key: u32, register: u32) {
    expression(out, "meta", |e| {
        e.u32(2, key);
        e.u32(1, register);
    });
}

fn payload(out: &mut Buffer, base: u32, offset: u32, field: Field, register: u32) {
    expression(out, "payload", |e| {
        for (kind, value) in [(1, register), (2, base), (3, offset), (4, field.size() as u32)] {
            e.u32(kind, value);
        }
    });
}

fn conntrack(out: &mut Buffer, key: u32, register: u32) {
    expression(out, "ct", |e| {
        e.u32(1, register);
        e.u32(2, key);
    });
}

fn address_type(out: &mut Buffer, flags: u32, register: u32) {
    expression(out, "fib", |e| {
        e.u32(1, register);
        // NFT_FIB_RESULT_ADDRTYPE
        e.u32(2, 3);
        e.u32(3, flags);
    });
}

fn compare(out: &mut Buffer, field: Field, test: &Test, set: Option<u32>) {
    match test {
        Test::Is(bytes) => cmp(out, EQUAL, bytes),
        Test::IsNot(bytes) => cmp(out, UNEQUAL, bytes),
        Test::Begins(text) => cmp(out, EQUAL, text.as_bytes()),
        Test::Under(mask, bytes) => {
            masked(out, mask);
            cmp(out, EQUAL, bytes);
        }
        Test::NotUnder(mask, bytes) => {
            masked(out, mask);
            cmp(out, UNEQUAL, bytes);
        }
        Test::OneOf(ranges) | Test::NotOneOf(ranges) => match (set, ranges.as_slice()) {
            (Some(id), _) => {
                lookup(out, UNNAMED, Some(id), None, matches!(test, Test::NotOneOf(_)));
            }
            (None, [(first, last)]) if first == last => cmp(out, EQUAL, first),
            (None, ranges) => {
                for (first, last) in ranges {
                    cmp(out, AT_LEAST, first);
                    cmp(out, AT_MOST, last);
                }
            }
        },
        Test::In(name) => lookup(out, name, None, None, false),
        Test::NotIn(name) => lookup(out, name, None, None, true),
        Test::UnderIn(mask, name) => {
            masked(out, mask);
            lookup(out, name, None, None, false);
        }
        Test::AnyBit(bits) | Test::NoBit(bits) => {
            masked(out, &bits.to_ne_bytes());
            let op = if matches!(test, Test::AnyBit(_)) { UNEQUAL } else { EQUAL };
            cmp(out, op, &vec![0; field.size()]);
        }
    }
}

fn cmp(out: &mut Buffer, op: u32, bytes: &[u8]) {
    expression(out, "cmp", |e| {
        e.u32(1, FIRST);
        e.u32(2, op);
        value(e, 3, bytes);
    });
}

fn masked(out: &mut Buffer, mask: &[u8]) {
    expression(out, "bitwise", |e| {
        for (kind, number) in [(1, FIRST), (2, FIRST), (3, mask.len() as u32)] {
            e.u32(kind, number);
        }
        value(e, 4, mask);
        value(e, 5, &vec![0; mask.len()]);
    });
}

fn lookup(out: &mut Buffer, set: &str, id: Option<u32>, to: Option<u32>, inverted: bool) {
    expression(out, "lookup", |e| {
        e.string(1, set);
        e.u32(2, FIRST);
        if let Some(register) = to {
            e.u32(3, register);
        }
        if let Some(id) = id {
            e.u32(4, id);
        }
        if inverted {
            e.u32(5, 1);
        }
    });
}

fn log(out: &mut Buffer, prefix: &str, each_second: u64) {
    expression(out, "limit", |e| {
        e.u64(1, each_second);
        e.u64(2, 1);
        // Burst; packets, not bytes.
        e.u32(3, 5);
        e.u32(4, 0);
        e.u32(5, 0);
    });
    expression(out, "log", |e| e.string(2, prefix));
}

/// `target` of a translation: the small register of the port, if there is one.
fn nat(out: &mut Buffer, kind: u32, v4: bool, port: Option<u32>) {
    expression(out, "nat", |e| {
        e.u32(1, kind);
        e.u32(2, if v4 { 2 } else { 10 });
        e.u32(3, FIRST);
        if let Some(register) = port {
            e.u32(5, register);
        }
    });
}

fn dnat(out: &mut Buffer, v6: bool, key: &[Field], map: &str) {
    let mut slot = 0;
    for field in key {
        // The first small register is the beginning of the first large one.
        load(out, *field, if slot == 0 { FIRST } else { SMALL + slot });
        slot += field.size().div_ceil(4) as u32;
    }
    lookup(out, map, None, Some(FIRST), false);
    let words = if v6 { 4 } else { 1 };
    nat(out, 1, !v6, Some(if v6 { 2 } else { SMALL + words }));
}
