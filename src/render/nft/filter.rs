//! The rules of an owner's policy, in the family inet.
//!
//! A packet from a guest meets the chain `egress` (on its way beyond the host) or `host` (to the host), one
//! to a guest meets `ingress`. Each looks up the chain of the guest's address in a map, then the rules of
//! its network, then the network's default. So the cost of a packet does not grow with the number of
//! containers.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::links::{LINKS, links};
use super::phrases::{family, is, net_test, rule};
use super::table::{
    Chain, DNAT, ESTABLISHED, Element, Field, Hook, KeyPart, RELATED, Rule, Set, Statement, Table, TableName,
    Test, Verdict, address_bytes, range_elements,
};
use crate::model::firewall::merged;
use crate::model::firewall::plan::{ContainerPlan, GroupPlan, NetworkPlan, Plan, RulePlan};
use crate::model::firewall::policy::{Action, Direction, Proto};
use crate::model::name::ContainerId;

/// Lines of one rule in the kernel's log, each second.
const LOGGED: u64 = 10;

/// The comment of the `n`th rule of a list, from 1.
pub fn rule_comment(n: usize) -> String {
    format!("rule {n}")
}

/// The comment of a chain's default.
pub const DEFAULT: &str = "default";

pub fn container_chain(id: &ContainerId, direction: Direction) -> String {
    format!("c-{id}-{}", direction.as_str())
}

pub fn group_chain(name: &str, direction: Direction) -> String {
    format!("g-{name}-{}", direction.as_str())
}

pub fn network_chain(bridge: &str, direction: Direction) -> String {
    format!("n-{bridge}-{}", direction.as_str())
}

fn default_chain(bridge: &str, direction: Direction) -> String {
    format!("d-{bridge}-{}", direction.as_str())
}

/// The map from guests' addresses to their chains.
pub fn address_map(direction: Direction, v4: bool) -> &'static str {
    match (direction, v4) {
        (Direction::In, true) => "to4",
        (Direction::In, false) => "to6",
        (Direction::Out, true) => "from4",
        (Direction::Out, false) => "from6",
    }
}

/// The maps from bridges to their networks' rules, and to their defaults.
pub fn network_map(direction: Direction) -> &'static str {
    if direction == Direction::In { "nets-in" } else { "nets-out" }
}

pub fn default_map(direction: Direction) -> &'static str {
    if direction == Direction::In { "defaults-in" } else { "defaults-out" }
}

/// The name of the kernel's set for a set of the policy.
pub fn address_set(name: &str, v4: bool) -> String {
    format!("s{}-{name}", if v4 { 4 } else { 6 })
}

/// Reads what `address_set` writes.
pub fn name_of_set(set: &str) -> Option<&str> {
    set.strip_prefix("s4-").or_else(|| set.strip_prefix("s6-"))
}

/// All but the translation of addresses.
pub(super) fn table(name: &str, plan: &Plan) -> Table {
    let mut table =
        Table { name: TableName::inet(name), sets: sets(), chains: Vec::new(), elements: Vec::new() };
    for (name, nets) in &plan.sets {
        for v4 in [true, false] {
            let (set, elements) = named_set(name, nets, v4);
            table.elements.push((set.name.clone(), elements));
            table.sets.push(set);
        }
    }
    let own = links(plan).map(Element::link).collect();
    table.elements.push((LINKS.to_owned(), own));
    for network in &plan.networks {
        table.chains.extend(network_chains(network));
        table.elements.extend(network_elements(network));
    }
    table.chains.extend(plan.groups.iter().flat_map(group_chains));
    for container in plan.containers.iter().filter(|container| container.has_policy()) {
        table.chains.extend(container_chains(container));
        table.elements.extend(container_elements(container));
    }
    table.chains.extend(base_chains());
    table
}

fn sets() -> Vec<Set> {
    let mut sets = vec![Set::links(LINKS)];
    for direction in Direction::BOTH {
        for (v4, key) in [(true, KeyPart::Ipv4), (false, KeyPart::Ipv6)] {
            sets.push(Set::verdicts(address_map(direction, v4), key));
        }
        sets.push(Set::verdicts(network_map(direction), KeyPart::Link));
        sets.push(Set::verdicts(default_map(direction), KeyPart::Link));
    }
    sets
}

/// A set of the policy with what it holds of one family.
pub fn named_set(name: &str, nets: &[IpNetwork], v4: bool) -> (Set, Vec<Element>) {
    let bytes = |(first, last): &(IpAddr, IpAddr)| (address_bytes(*first), address_bytes(*last));
    let ranges: Vec<_> = merged(nets.iter().copied(), v4).iter().map(bytes).collect();
    (Set::addresses(address_set(name, v4), v4).with_ranges(), range_elements(&ranges))
}

fn base_chains() -> Vec<Chain> {
    let mut to_guests = vec![
        rule([is(Field::Oifname, Test::NotIn(LINKS.into())), ACCEPT]),
        rule([is(Field::CtState, Test::AnyBit(ESTABLISHED | RELATED)), ACCEPT]),
    ];
    to_guests.extend(lookups(Direction::In));
    let from_guests = || {
        vec![
            rule([is(Field::Iifname, Test::NotIn(LINKS.into())), ACCEPT]),
            rule([is(Field::CtState, Test::AnyBit(ESTABLISHED | RELATED)), ACCEPT]),
        ]
    };
    let mut beyond = from_guests();
    beyond.extend(lookups(Direction::Out));
    let mut to_host = from_guests();
    to_host.extend(services());
    to_host.extend(lookups(Direction::Out));
    // Drops the host's redirects: guests must not learn to send past the host. The kernel has no switch for
    // IPv6, and that for IPv4 holds for the whole host.
    let redirect = |v4: bool, number, kind, code: u8| {
        rule([
            is(Field::Oifname, Test::In(LINKS.into())),
            family(v4),
            is(Field::L4proto, Test::Is(vec![number])),
            is(kind, Test::Is(vec![code])),
            DROP,
        ])
    };
    let redirects =
        vec![redirect(true, 1, Field::IcmpType, 5), redirect(false, ICMPV6, Field::Icmpv6Type, 137)];
    vec![
        Chain::base("egress", Hook::Forward, -5, beyond),
        Chain::base("ingress", Hook::Forward, 0, to_guests),
        Chain::base("host", Hook::Input, 0, to_host),
        Chain::base("redirects", Hook::Output, 0, redirects),
    ]
}

const ICMPV6: u8 = 58;
const ACCEPT: Statement = Statement::Verdict(Verdict::Accept);
const DROP: Statement = Statement::Verdict(Verdict::Drop);

/// What guests may always ask of the host: neighbours, addresses and names.
fn services() -> Vec<Rule> {
    let ports = |ports: &[u16]| {
        Test::OneOf(ports.iter().map(|p| (p.to_be_bytes().to_vec(), p.to_be_bytes().to_vec())).collect())
    };
    let l4 = |number| is(Field::L4proto, Test::Is(vec![number]));
    vec![
        rule([l4(ICMPV6), is(Field::Icmpv6Type, Test::OneOf(vec![(vec![133], vec![136])])), ACCEPT]),
        rule([l4(17), is(Field::Dport, ports(&[53, 67, 547])), ACCEPT]),
        rule([l4(6), is(Field::Dport, ports(&[53])), ACCEPT]),
    ]
}

fn lookups(direction: Direction) -> Vec<Rule> {
    let (ipv4, ipv6, link) = match direction {
        Direction::In => (Field::Daddr4, Field::Daddr6, Field::Oifname),
        Direction::Out => (Field::Saddr4, Field::Saddr6, Field::Iifname),
    };
    vec![
        rule([family(true), Statement::Vmap(ipv4, address_map(direction, true).into())]),
        rule([family(false), Statement::Vmap(ipv6, address_map(direction, false).into())]),
        rule([Statement::Vmap(link, network_map(direction).into())]),
        rule([Statement::Vmap(link, default_map(direction).into())]),
    ]
}

pub fn group_chains(group: &GroupPlan) -> Vec<Chain> {
    let chain = |direction| {
        let label = format!("group {}", group.name);
        let rules = listed(group.rules.of(direction), &label, direction);
        Chain::new(group_chain(&group.name, direction), rules)
    };
    Direction::BOTH.map(chain).to_vec()
}

/// A network's rules, and apart from them its defaults: a container's own default comes in between.
pub fn network_chains(network: &NetworkPlan) -> Vec<Chain> {
    let mut chains = Vec::new();
    for direction in Direction::BOTH {
        let rules = listed(network.rules.of(direction), &network.name, direction);
        chains.push(Chain::new(network_chain(&network.bridge, direction), rules));
        let end = ending(network.default(direction), direction);
        chains.push(Chain::new(default_chain(&network.bridge, direction), end));
    }
    chains
}

/// Only those maps' elements that lead to a rule.
pub fn network_elements(network: &NetworkPlan) -> Vec<(String, Vec<Element>)> {
    let mut elements = Vec::new();
    for direction in Direction::BOTH {
        let jump = |chain| vec![Element::link(&network.bridge).to(Verdict::Jump(chain))];
        if !network.rules.of(direction).is_empty() {
            let chain = network_chain(&network.bridge, direction);
            elements.push((network_map(direction).to_owned(), jump(chain)));
        }
        if network.default(direction) != Action::Allow {
            let chain = default_chain(&network.bridge, direction);
            elements.push((default_map(direction).to_owned(), jump(chain)));
        }
    }
    elements
}

pub fn container_chains(container: &ContainerPlan) -> Vec<Chain> {
    let chain = |direction: Direction| {
        let label = container.name.as_str();
        let mut rules = listed(container.rules.of(direction), label, direction);
        let jump = |group: &String| Statement::Verdict(Verdict::Jump(group_chain(group, direction)));
        rules.extend(container.groups.iter().map(|group| rule([jump(group)])));
        if let Some(action) = container.default(direction) {
            let link = if direction == Direction::In { Field::Oifname } else { Field::Iifname };
            rules.push(rule([Statement::Vmap(link, network_map(direction).into())]));
            rules.extend(ending(action, direction));
        }
        Chain::new(container_chain(&container.id, direction), rules)
    };
    Direction::BOTH.map(chain).to_vec()
}

pub fn container_elements(container: &ContainerPlan) -> Vec<(String, Vec<Element>)> {
    let mut elements = Vec::new();
    for direction in Direction::BOTH {
        for v4 in [true, false] {
            let own = container.addresses.iter().filter(|ip| ip.is_ipv4() == v4);
            let jump = || Verdict::Jump(container_chain(&container.id, direction));
            let found: Vec<_> = own.map(|ip| Element::address(*ip).to(jump())).collect();
            if !found.is_empty() {
                elements.push((address_map(direction, v4).to_owned(), found));
            }
        }
    }
    elements
}

/// The default at the end. Forwarded ports are accepted first: a default does not undo the operator's
/// forward.
fn ending(action: Action, direction: Direction) -> Vec<Rule> {
    let end = rule([Statement::Counter, verdict(action)]).commented(DEFAULT);
    match (action, direction) {
        (Action::Deny | Action::Reject, Direction::In) => {
            vec![rule([is(Field::CtStatus, Test::AnyBit(DNAT)), ACCEPT]), end]
        }
        _ => vec![end],
    }
}

fn verdict(action: Action) -> Statement {
    match action {
        Action::Allow => ACCEPT,
        Action::Deny => DROP,
        Action::Reject => Statement::Reject,
    }
}

fn listed(rules: &[RulePlan], label: &str, direction: Direction) -> Vec<Rule> {
    let one = |(n, rule): (usize, &RulePlan)| {
        let prefix = format!("nagaya {label} {} {}: ", direction.as_str(), n + 1);
        written(rule, direction, &prefix).into_iter().map(move |rule| rule.commented(rule_comment(n + 1)))
    };
    rules.iter().enumerate().flat_map(one).collect()
}

/// One rule of the policy, as one rule of the kernel for each kind of packets that it matches.
fn written(plan: &RulePlan, direction: Direction, prefix: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    for peers in peers(plan, direction) {
        for proto in protos(plan, &peers) {
            let matches: Vec<_> = peers.matches.iter().cloned().chain(proto).collect();
            if plan.log {
                let log = Statement::Log { prefix: prefix.to_owned(), each_second: LOGGED };
                rules.push(Rule::new([matches.clone(), vec![log]].concat()));
            }
            let end = vec![Statement::Counter, verdict(plan.action)];
            rules.push(Rule::new([matches, end].concat()));
        }
    }
    rules
}

/// Matches for a part of a rule's addresses, all of one family or of any.
struct Peers {
    v4: Option<bool>,
    matches: Vec<Statement>,
}

fn peers(plan: &RulePlan, direction: Direction) -> Vec<Peers> {
    if plan.nets.is_empty() && plan.sets.is_empty() {
        return vec![Peers { v4: None, matches: Vec::new() }];
    }
    let mut all = Vec::new();
    for v4 in [true, false] {
        let field = match (direction, v4) {
            (Direction::In, true) => Field::Saddr4,
            (Direction::In, false) => Field::Saddr6,
            (Direction::Out, true) => Field::Daddr4,
            (Direction::Out, false) => Field::Daddr6,
        };
        let nets = nets_test(&plan.nets, v4);
        let sets = plan.sets.iter().map(|set| Test::In(address_set(set, v4)));
        all.extend(
            nets.into_iter()
                .chain(sets)
                .map(|test| Peers { v4: Some(v4), matches: vec![family(v4), is(field, test)] }),
        );
    }
    all
}

fn nets_test(nets: &[IpNetwork], v4: bool) -> Option<Test> {
    let own: Vec<_> = nets.iter().filter(|net| net.is_ipv4() == v4).copied().collect();
    match own.as_slice() {
        [] => None,
        [net] => Some(net_test(*net)),
        _ => {
            let bytes = |(first, last): (IpAddr, IpAddr)| (address_bytes(first), address_bytes(last));
            Some(Test::OneOf(merged(own, v4).into_iter().map(bytes).collect()))
        }
    }
}

fn protos(plan: &RulePlan, peers: &Peers) -> Vec<Vec<Statement>> {
    let by_number = |number| is(Field::L4proto, Test::Is(vec![number]));
    let families: &[bool] = match (plan.proto, peers.v4) {
        (Proto::Any, _) => return vec![Vec::new()],
        (Proto::Icmp, None) => &[true, false],
        (_, Some(false)) => &[false],
        _ => &[true],
    };
    let one = |v4: &bool| {
        let mut matches: Vec<_> = plan.proto.number(*v4).map(by_number).into_iter().collect();
        if plan.proto == Proto::Icmp && peers.v4.is_none() {
            matches.insert(0, family(*v4));
        }
        if !plan.ports.is_empty() {
            matches.push(is(Field::Dport, ports_test(&plan.ports)));
        }
        matches
    };
    families.iter().map(one).collect()
}

fn ports_test(ports: &[(u16, u16)]) -> Test {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let bytes = |port: u16| port.to_be_bytes().to_vec();
    match merged.as_slice() {
        [(first, last)] if first == last => Test::Is(bytes(*first)),
        _ => Test::OneOf(merged.iter().map(|(first, last)| (bytes(*first), bytes(*last))).collect()),
    }
}
