//! Ports of bridges: their traffic is counted and, if a policy needs it, routed by the host, so that
//! packets between neighbours meet the rules too.

use std::collections::BTreeMap;

use super::phrases::{is, rule};
use super::table::{
    Chain, Element, Field, Hook, KeyPart, Rule, Set, Statement, Table, TableName, Test, Verdict, mask_bytes,
};
use crate::model::firewall::plan::{LinkPlan, NetworkPlan, Plan};
use crate::model::mac::Mac;

/// The map from a port to the chain that leads its packets to the host.
pub const ROUTED: &str = "routed";
/// The sets that count traffic from guests and to guests.
pub const SENT: &str = "sent";
pub const RECEIVED: &str = "received";

const BEFORE_ALL: i32 = -300;
const AFTER_ALL: i32 = 300;
const ACCEPT_REST: Statement = Statement::Verdict(Verdict::Return);
const DROP: Statement = Statement::Verdict(Verdict::Drop);

pub fn traffic_name(owner: &str) -> String {
    format!("{owner}-traffic")
}

/// Tables that count: of ports in the family bridge, of other links in the family inet. They are
/// apart from all others, so that these can be replaced without losing counts.
pub fn traffic_tables(owner: &str, plan: &Plan) -> [Table; 2] {
    let table = |name: TableName, ports: bool| {
        let counting = |field, set: &str| rule([is(field, Test::In(set.to_owned()))]);
        let elements: Vec<Element> = plan
            .containers
            .iter()
            .flat_map(|c| c.links.iter())
            .filter(|link| link.bridge.is_some() == ports)
            .map(|link| Element::link(&link.link))
            .collect();
        Table {
            name,
            sets: vec![Set::links(SENT).with_counters(), Set::links(RECEIVED).with_counters()],
            chains: vec![
                Chain::base(
                    "from-guests",
                    Hook::Prerouting,
                    BEFORE_ALL,
                    vec![counting(Field::Iifname, SENT)],
                ),
                Chain::base(
                    "to-guests",
                    Hook::Postrouting,
                    AFTER_ALL,
                    vec![counting(Field::Oifname, RECEIVED)],
                ),
            ],
            elements: vec![(SENT.to_owned(), elements.clone()), (RECEIVED.to_owned(), elements)],
        }
    };
    let name = traffic_name(owner);
    [table(TableName::bridge(name.clone()), true), table(TableName::inet(name), false)]
}

/// The chain of a bridge's ports. A bridge that is made anew has another address, and so another
/// chain.
pub fn routing_chain(bridge: &str, mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac.0;
    format!("r-{bridge}-{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
}

/// The table that leads packets between neighbours to the host, on the networks that the plan routes and
/// whose bridge's address is in `macs`.
pub fn routing_table(owner: &str, plan: &Plan, macs: &BTreeMap<String, Mac>) -> Table {
    let routed = || {
        let with_mac = |n: &NetworkPlan| macs.get(&n.bridge).map(|mac| (n.bridge.clone(), *mac));
        plan.networks.iter().filter(|n| n.routed).filter_map(move |n| Some((n, with_mac(n)?.1)))
    };
    let mut chains: Vec<_> = routed().map(|(network, mac)| routing(network, mac)).collect();
    chains.push(Chain::base(
        "prerouting",
        Hook::Prerouting,
        BEFORE_ALL + 1,
        vec![rule([Statement::Vmap(Field::Iifname, ROUTED.to_owned())])],
    ));
    let port = |link: &LinkPlan| {
        let bridge = link.bridge.as_deref()?;
        let mac = routed().find(|(network, _)| network.bridge == bridge)?.1;
        Some(port_element(&link.link, bridge, mac))
    };
    let elements = plan.containers.iter().flat_map(|container| container.links.iter().filter_map(port));
    Table {
        name: TableName::bridge(owner),
        sets: vec![Set::verdicts(ROUTED, KeyPart::Link)],
        chains,
        elements: vec![(ROUTED.to_owned(), elements.collect())],
    }
}

/// Leads a port of a bridge to the host.
pub fn port_element(link: &str, bridge: &str, mac: Mac) -> Element {
    Element::link(link).to(Verdict::Jump(routing_chain(bridge, mac)))
}

/// A packet for one receiver goes to the host, whatever its Ethernet address: otherwise a broadcast frame
/// with one guest's IP address would bypass every rule. ARP, neighbour discovery and IP multicast stay
/// between neighbours. Other protocols, tagged frames among them, meet no rule and are dropped. Link-local
/// addresses are not routed (RFC 4291, 2.5.6).
fn routing(network: &NetworkPlan, mac: Mac) -> Chain {
    let ether = |kind: u16| Test::Is(kind.to_be_bytes().to_vec());
    let (arp, ip, ip6) = (0x0806, 0x0800, 0x86dd_u16);
    let v4 = || is(Field::EtherType, ether(ip));
    let v6 = || is(Field::EtherType, ether(ip6));
    let known = [ip, arp, ip6].map(|kind| (kind.to_be_bytes().to_vec(), kind.to_be_bytes().to_vec()));
    let in4 = |prefix: u8, ip: [u8; 4]| is(Field::Daddr4, Test::Under(mask_bytes(true, prefix), ip.to_vec()));
    let in6 = |field, prefix: u8, head: [u8; 2]| {
        let mut bytes = head.to_vec();
        bytes.resize(16, 0);
        is(field, Test::Under(mask_bytes(false, prefix), bytes))
    };
    let mut rules: Vec<Rule> = vec![
        rule([is(Field::EtherType, Test::NotOneOf(known.to_vec())), Statement::Counter, DROP]),
        rule([is(Field::EtherType, ether(arp)), ACCEPT_REST]),
        rule([v4(), in4(4, [224, 0, 0, 0]), ACCEPT_REST]),
        rule([v4(), is(Field::Daddr4, Test::Is(vec![255; 4])), ACCEPT_REST]),
    ];
    if let Some(net) = network.ipv4 {
        let broadcast = Test::Is(net.broadcast().octets().to_vec());
        rules.push(rule([v4(), is(Field::Daddr4, broadcast), ACCEPT_REST]));
    }
    let neighbours = Test::OneOf(vec![(vec![133], vec![136])]);
    let ours = is(Field::EtherDaddr, Test::Is(mac.0.to_vec()));
    let host = [Statement::SetEtherDaddr(mac), Statement::ToHost, Statement::Counter];
    rules.extend([
        rule([v6(), in6(Field::Daddr6, 8, [0xff, 0]), ACCEPT_REST]),
        rule([v6(), is(Field::L4proto, Test::Is(vec![58])), is(Field::Icmpv6Type, neighbours), ACCEPT_REST]),
        rule([ours, ACCEPT_REST]),
        rule([v6(), in6(Field::Saddr6, 10, [0xfe, 0x80]), Statement::Counter, DROP]),
        rule([v6(), in6(Field::Daddr6, 10, [0xfe, 0x80]), Statement::Counter, DROP]),
        rule(host),
    ]);
    Chain::new(routing_chain(&network.bridge, mac), rules)
}
