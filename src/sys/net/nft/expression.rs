//! Statements as the expressions that the kernel runs: values are loaded into registers, compared,
//! and acted upon.

use super::message::Buffer;
use super::uapi::*;
use crate::render::nft::table::{Field, Statement, Test, Verdict, address_bytes};

// Where values stand in headers: of Ethernet, IPv4 (RFC 791), IPv6 (RFC 8200), TCP and UDP, and ICMP.
const ETHER_DADDR: u32 = 0;
const ETHER_TYPE: u32 = 12;
const IPV4_SADDR: u32 = 12;
const IPV4_DADDR: u32 = 16;
const IPV6_SADDR: u32 = 8;
const IPV6_DADDR: u32 = 24;
const DPORT: u32 = 2;
const ICMP_TYPE: u32 = 0;

/// Packets that may be logged at once, before a limit on their rate holds.
const LOG_BURST: u32 = 5;
/// What such a rate is told in: one second.
const SECOND: u64 = 1;

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
        Field::Iifname | Field::Oifname => TYPE_IFNAME,
        Field::Nfproto => TYPE_NFPROTO,
        Field::L4proto => TYPE_INET_PROTOCOL,
        Field::EtherType => TYPE_ETHERTYPE,
        Field::EtherDaddr => TYPE_ETHERADDR,
        Field::Saddr4 | Field::Daddr4 => TYPE_IPADDR,
        Field::Saddr6 | Field::Daddr6 => TYPE_IP6ADDR,
        Field::Dport => TYPE_INET_SERVICE,
        Field::IcmpType => TYPE_ICMP_TYPE,
        Field::Icmpv6Type => TYPE_ICMP6_TYPE,
        Field::CtState => TYPE_CT_STATE,
        Field::CtStatus => TYPE_CT_STATUS,
        Field::DaddrType | Field::DaddrTypeHere => TYPE_FIB_ADDR,
    }
}

/// Appends the expressions of `statement`. `set` is the number of its unnamed set, if it has one.
pub fn write(out: &mut Buffer, statement: &Statement, set: Option<u32>) {
    match statement {
        Statement::Match(field, test) => {
            load(out, *field, NFT_REG_1);
            compare(out, *field, test, set);
        }
        Statement::Vmap(field, map) => {
            load(out, *field, NFT_REG_1);
            lookup(out, map, None, Some(NFT_REG_VERDICT), false);
        }
        Statement::Counter => counter(out),
        Statement::Log { prefix, each_second } => log(out, prefix, *each_second),
        Statement::Verdict(verdict) => expression(out, "immediate", |e| {
            e.u32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            e.nest(NFTA_IMMEDIATE_DATA, |data| write_verdict(data, verdict));
        }),
        Statement::Reject => expression(out, "reject", |e| {
            e.u32(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
            e.attribute(NFTA_REJECT_ICMP_CODE, &[NFT_REJECT_ICMPX_PORT_UNREACH]);
        }),
        Statement::Masquerade => expression(out, "masq", |_| {}),
        Statement::Snat(ip) => {
            immediate(out, &address_bytes(*ip));
            nat(out, NFT_NAT_SNAT, ip.is_ipv4(), None);
        }
        Statement::Dnat { v6, key, map } => dnat(out, *v6, key, map),
        Statement::SetEtherDaddr(mac) => {
            immediate(out, &mac.0);
            expression(out, "payload", |e| {
                e.u32(NFTA_PAYLOAD_SREG, NFT_REG_1);
                e.u32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_LL_HEADER);
                e.u32(NFTA_PAYLOAD_OFFSET, ETHER_DADDR);
                e.u32(NFTA_PAYLOAD_LEN, mac.0.len() as u32);
                e.u32(NFTA_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_NONE);
                e.u32(NFTA_PAYLOAD_CSUM_OFFSET, 0);
            });
        }
        Statement::ToHost => {
            immediate(out, &[PACKET_HOST]);
            expression(out, "meta", |e| {
                e.u32(NFTA_META_KEY, NFT_META_PKTTYPE);
                e.u32(NFTA_META_SREG, NFT_REG_1);
            });
        }
    }
}

fn expression(out: &mut Buffer, name: &str, data: impl FnOnce(&mut Buffer)) {
    out.nest(NFTA_LIST_ELEM, |e| named(e, name, data));
}

fn named(out: &mut Buffer, name: &str, data: impl FnOnce(&mut Buffer)) {
    out.string(NFTA_EXPR_NAME, name);
    out.nest(NFTA_EXPR_DATA, data);
}

/// A counter that begins at 0, as what a set's elements have.
pub fn element_counter(out: &mut Buffer) {
    named(out, "counter", zeros);
}

fn counter(out: &mut Buffer) {
    expression(out, "counter", zeros);
}

fn zeros(out: &mut Buffer) {
    out.u64(NFTA_COUNTER_BYTES, 0);
    out.u64(NFTA_COUNTER_PACKETS, 0);
}

/// NFTA_DATA_VERDICT with code and chain.
pub fn write_verdict(out: &mut Buffer, verdict: &Verdict) {
    out.nest(NFTA_DATA_VERDICT, |v| {
        let code: i32 = match verdict {
            Verdict::Drop => NF_DROP.cast_signed(),
            Verdict::Accept => NF_ACCEPT.cast_signed(),
            Verdict::Jump(_) => NFT_JUMP,
            Verdict::Return => NFT_RETURN,
        };
        v.attribute(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Verdict::Jump(chain) = verdict {
            v.string(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

fn value(out: &mut Buffer, kind: u16, bytes: &[u8]) {
    out.nest(kind, |data| data.attribute(NFTA_DATA_VALUE, bytes));
}

fn immediate(out: &mut Buffer, bytes: &[u8]) {
    expression(out, "immediate", |e| {
        e.u32(NFTA_IMMEDIATE_DREG, NFT_REG_1);
        value(e, NFTA_IMMEDIATE_DATA, bytes);
    });
}

fn load(out: &mut Buffer, field: Field, register: u32) {
    let (link, network, transport) =
        (NFT_PAYLOAD_LL_HEADER, NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER);
    match field {
        Field::Iifname => meta(out, NFT_META_IIFNAME, register),
        Field::Oifname => meta(out, NFT_META_OIFNAME, register),
        Field::Nfproto => meta(out, NFT_META_NFPROTO, register),
        Field::L4proto => meta(out, NFT_META_L4PROTO, register),
        Field::EtherDaddr => payload(out, link, ETHER_DADDR, field, register),
        Field::EtherType => payload(out, link, ETHER_TYPE, field, register),
        Field::Saddr4 => payload(out, network, IPV4_SADDR, field, register),
        Field::Daddr4 => payload(out, network, IPV4_DADDR, field, register),
        Field::Saddr6 => payload(out, network, IPV6_SADDR, field, register),
        Field::Daddr6 => payload(out, network, IPV6_DADDR, field, register),
        Field::Dport => payload(out, transport, DPORT, field, register),
        Field::IcmpType | Field::Icmpv6Type => payload(out, transport, ICMP_TYPE, field, register),
        Field::CtState => conntrack(out, NFT_CT_STATE, register),
        Field::CtStatus => conntrack(out, NFT_CT_STATUS, register),
        Field::DaddrType => address_type(out, NFTA_FIB_F_DADDR, register),
        Field::DaddrTypeHere => address_type(out, NFTA_FIB_F_DADDR | NFTA_FIB_F_IIF, register),
    }
}

fn meta(out: &mut Buffer, key: u32, register: u32) {
    expression(out, "meta", |e| {
        e.u32(NFTA_META_KEY, key);
        e.u32(NFTA_META_DREG, register);
    });
}

fn payload(out: &mut Buffer, base: u32, offset: u32, field: Field, register: u32) {
    expression(out, "payload", |e| {
        e.u32(NFTA_PAYLOAD_DREG, register);
        e.u32(NFTA_PAYLOAD_BASE, base);
        e.u32(NFTA_PAYLOAD_OFFSET, offset);
        e.u32(NFTA_PAYLOAD_LEN, field.size() as u32);
    });
}

fn conntrack(out: &mut Buffer, key: u32, register: u32) {
    expression(out, "ct", |e| {
        e.u32(NFTA_CT_DREG, register);
        e.u32(NFTA_CT_KEY, key);
    });
}

fn address_type(out: &mut Buffer, flags: u32, register: u32) {
    expression(out, "fib", |e| {
        e.u32(NFTA_FIB_DREG, register);
        e.u32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
        e.u32(NFTA_FIB_FLAGS, flags);
    });
}

fn compare(out: &mut Buffer, field: Field, test: &Test, set: Option<u32>) {
    match test {
        Test::Is(bytes) => cmp(out, NFT_CMP_EQ, bytes),
        Test::IsNot(bytes) => cmp(out, NFT_CMP_NEQ, bytes),
        Test::Under(mask, bytes) => {
            masked(out, mask);
            cmp(out, NFT_CMP_EQ, bytes);
        }
        Test::NotUnder(mask, bytes) => {
            masked(out, mask);
            cmp(out, NFT_CMP_NEQ, bytes);
        }
        Test::OneOf(ranges) | Test::NotOneOf(ranges) => match (set, ranges.as_slice()) {
            (Some(id), _) => {
                lookup(out, UNNAMED, Some(id), None, matches!(test, Test::NotOneOf(_)));
            }
            (None, [(first, last)]) if first == last => cmp(out, NFT_CMP_EQ, first),
            (None, ranges) => {
                for (first, last) in ranges {
                    cmp(out, NFT_CMP_GTE, first);
                    cmp(out, NFT_CMP_LTE, last);
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
            let op = if matches!(test, Test::AnyBit(_)) { NFT_CMP_NEQ } else { NFT_CMP_EQ };
            cmp(out, op, &vec![0; field.size()]);
        }
    }
}

fn cmp(out: &mut Buffer, op: u32, bytes: &[u8]) {
    expression(out, "cmp", |e| {
        e.u32(NFTA_CMP_SREG, NFT_REG_1);
        e.u32(NFTA_CMP_OP, op);
        value(e, NFTA_CMP_DATA, bytes);
    });
}

fn masked(out: &mut Buffer, mask: &[u8]) {
    expression(out, "bitwise", |e| {
        e.u32(NFTA_BITWISE_SREG, NFT_REG_1);
        e.u32(NFTA_BITWISE_DREG, NFT_REG_1);
        e.u32(NFTA_BITWISE_LEN, mask.len() as u32);
        value(e, NFTA_BITWISE_MASK, mask);
        value(e, NFTA_BITWISE_XOR, &vec![0; mask.len()]);
    });
}

fn lookup(out: &mut Buffer, set: &str, id: Option<u32>, to: Option<u32>, inverted: bool) {
    expression(out, "lookup", |e| {
        e.string(NFTA_LOOKUP_SET, set);
        e.u32(NFTA_LOOKUP_SREG, NFT_REG_1);
        if let Some(register) = to {
            e.u32(NFTA_LOOKUP_DREG, register);
        }
        if let Some(id) = id {
            e.u32(NFTA_LOOKUP_SET_ID, id);
        }
        if inverted {
            e.u32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
        }
    });
}

fn log(out: &mut Buffer, prefix: &str, each_second: u64) {
    expression(out, "limit", |e| {
        e.u64(NFTA_LIMIT_RATE, each_second);
        e.u64(NFTA_LIMIT_UNIT, SECOND);
        e.u32(NFTA_LIMIT_BURST, LOG_BURST);
        e.u32(NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS);
        e.u32(NFTA_LIMIT_FLAGS, 0);
    });
    expression(out, "log", |e| e.string(NFTA_LOG_PREFIX, prefix));
}

/// `target` of a translation: the small register of the port, if there is one.
fn nat(out: &mut Buffer, kind: u32, v4: bool, port: Option<u32>) {
    expression(out, "nat", |e| {
        e.u32(NFTA_NAT_TYPE, kind);
        e.u32(NFTA_NAT_FAMILY, u32::from(if v4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }));
        e.u32(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
        if let Some(register) = port {
            e.u32(NFTA_NAT_REG_PROTO_MIN, register);
        }
    });
}

fn dnat(out: &mut Buffer, v6: bool, key: &[Field], map: &str) {
    let mut slot = 0;
    for field in key {
        // The first small register is the beginning of the first large one.
        load(out, *field, if slot == 0 { NFT_REG_1 } else { NFT_REG32_00 + slot });
        slot += field.size().div_ceil(4) as u32;
    }
    lookup(out, map, None, Some(NFT_REG_1), false);
    // The port stands behind the address: in the second large register, or in the second small one.
    let port = if v6 { NFT_REG_2 } else { NFT_REG32_00 + 1 };
    nat(out, NFT_NAT_DNAT, !v6, Some(port));
}
