//! Address translation: guests' traffic that leaves with the host's address, and ports of the host's that
//! lead to guests.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::links::LINKS;
use super::phrases::{family, is, net_test, rule};
use super::table::{
    Chain, DNAT, Element, ElementValue, Field, Hook, KeyPart, Rule, Set, Statement, Table, Test, Verdict,
    address_bytes, mask_bytes,
};
use crate::model::firewall::plan::{ForwardPlan, NetworkPlan, Plan};
use crate::model::network::Nat;

const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
const ACCEPT: Statement = Statement::Verdict(Verdict::Accept);
/// RTN_LOCAL of linux/rtnetlink.h.
const LOCAL: u32 = 2;

/// The map of forwards at any address of the host's, or at chosen ones.
fn map(v4: bool, chosen: bool) -> &'static str {
    match (v4, chosen) {
        (true, false) => "ports4",
        (true, true) => "ports4-at",
        (false, false) => "ports6",
        (false, true) => "ports6-at",
    }
}

/// The maps of one family.
pub fn maps(v4: bool) -> [&'static str; 2] {
    [map(v4, false), map(v4, true)]
}

const FAMILIES: [(bool, KeyPart); 2] = [(true, KeyPart::Ipv4), (false, KeyPart::Ipv6)];

/// Adds the translations to a table that has the set of links.
pub(super) fn add(table: &mut Table, plan: &Plan) {
    table.sets.extend(sets());
    table.elements.extend(forward_elements(&plan.forwards));
    table.chains.push(Chain::nat("postrouting", Hook::Postrouting, SRCNAT, leaving(plan)));
    let mut arriving = own_services();
    arriving.extend(redirections());
    table.chains.push(Chain::nat("prerouting", Hook::Prerouting, DSTNAT, arriving));
    // What the host sends to itself cannot leave by another interface: route_localnet stays off.
    let loopback4 = is(Field::Daddr4, Test::Under(mask_bytes(true, 8), vec![127, 0, 0, 0]));
    let loopback6 = is(Field::Daddr6, Test::Is(address_bytes(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]))));
    let mut from_host =
        vec![rule([family(true), loopback4, ACCEPT]), rule([family(false), loopback6, ACCEPT])];
    from_host.extend(redirections());
    table.chains.push(Chain::nat("output", Hook::Output, DSTNAT, from_host));
}

fn sets() -> Vec<Set> {
    let of = |(v4, address): (bool, KeyPart)| {
        [
            Set::targets(map(v4, false), &[KeyPart::Proto, KeyPart::Port], v4),
            Set::targets(map(v4, true), &[address, KeyPart::Proto, KeyPart::Port], v4),
        ]
    };
    FAMILIES.into_iter().flat_map(of).collect()
}

/// The elements of the maps; each map once, also an empty one.
pub fn forward_elements(forwards: &[ForwardPlan]) -> Vec<(String, Vec<Element>)> {
    let mut all = Vec::new();
    for (v4, chosen) in [(true, false), (true, true), (false, false), (false, true)] {
        let own = forwards.iter().filter(|f| f.to.is_ipv4() == v4 && f.listen.is_some() == chosen);
        all.push((map(v4, chosen).to_owned(), own.filter_map(element).collect()));
    }
    all
}

fn element(forward: &ForwardPlan) -> Option<Element> {
    let mut key = forward.listen.map(address_bytes).unwrap_or_default();
    key.extend([forward.proto.number(true)?, 0, 0, 0]);
    key.extend(forward.port.to_be_bytes());
    key.extend([0, 0]);
    let mut target = address_bytes(forward.to);
    target.extend(forward.to_port.to_be_bytes());
    target.extend([0, 0]);
    Some(Element { value: Some(ElementValue::Bytes(target)), ..Element::new(key) })
}

/// A bridge's own address answers names and addresses, whatever is forwarded at the host's others.
fn own_services() -> Vec<Rule> {
    let here = is(Field::DaddrTypeHere, Test::Is(LOCAL.to_ne_bytes().to_vec()));
    let port = |port: u16| port.to_be_bytes().to_vec();
    let ours = |number: u8, ports: &[u16]| {
        let ports = ports.iter().map(|p| (port(*p), port(*p))).collect();
        rule([
            is(Field::Iifname, Test::In(LINKS.into())),
            is(Field::L4proto, Test::Is(vec![number])),
            is(Field::Dport, Test::OneOf(ports)),
            here.clone(),
            ACCEPT,
        ])
    };
    vec![ours(17, &[53, 67, 547]), ours(6, &[53])]
}

fn redirections() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (v4, _) in FAMILIES {
        let address = if v4 { Field::Daddr4 } else { Field::Daddr6 };
        let to = |key: &[Field], chosen| Statement::Dnat {
            v6: !v4,
            key: key.to_vec(),
            map: map(v4, chosen).to_owned(),
        };
        let local = is(Field::DaddrType, Test::Is(LOCAL.to_ne_bytes().to_vec()));
        rules.push(rule([family(v4), to(&[address, Field::L4proto, Field::Dport], true)]));
        rules.push(rule([family(v4), local, to(&[Field::L4proto, Field::Dport], false)]));
    }
    rules
}

fn leaving(plan: &Plan) -> Vec<Rule> {
    let mut rules: Vec<Rule> = plan.networks.iter().flat_map(hairpins).collect();
    rules.push(rule([is(Field::Oifname, Test::In(LINKS.into())), ACCEPT]));
    rules.extend(plan.networks.iter().flat_map(translations));
    rules
}

fn subnets(network: &NetworkPlan) -> [(Option<IpNetwork>, Nat); 2] {
    [(network.ipv4.map(IpNetwork::V4), network.nat4), (network.ipv6.map(IpNetwork::V6), network.nat6)]
}

fn fields(net: IpNetwork) -> (Field, Field) {
    if net.is_ipv4() { (Field::Saddr4, Field::Daddr4) } else { (Field::Saddr6, Field::Daddr6) }
}

/// Hairpin NAT: if a guest reaches itself or a neighbour by a port of the host's, the answer must go
/// through the host. Otherwise it would come from an address that the guest has not asked.
fn hairpins(network: &NetworkPlan) -> Vec<Rule> {
    let one = |net: IpNetwork| {
        let (source, destination) = fields(net);
        rule([
            family(net.is_ipv4()),
            is(source, net_test(net)),
            is(destination, net_test(net)),
            is(Field::CtStatus, Test::AnyBit(DNAT)),
            Statement::Counter,
            Statement::Masquerade,
        ])
    };
    subnets(network).into_iter().filter_map(|(net, _)| net.map(one)).collect()
}

fn translations(network: &NetworkPlan) -> Vec<Rule> {
    let one = |(net, nat): (Option<IpNetwork>, Nat)| {
        let net = net?;
        let end = match nat {
            Nat::Off => return None,
            Nat::Masquerade => Statement::Masquerade,
            Nat::To(ip) => Statement::Snat(ip),
        };
        let (source, destination) = fields(net);
        let whole = if net.is_ipv4() { 32 } else { 128 };
        let elsewhere = match net.prefix() == whole {
            true => Test::IsNot(address_bytes(net.network())),
            false => Test::NotUnder(mask_bytes(net.is_ipv4(), net.prefix()), address_bytes(net.network())),
        };
        let statements = [
            family(net.is_ipv4()),
            is(source, net_test(net)),
            is(destination, elsewhere),
            Statement::Counter,
            end,
        ];
        Some(rule(statements))
    };
    subnets(network).into_iter().filter_map(one).collect()
}
