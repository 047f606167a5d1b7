//! Keeps the networks that a host was on apart, once it forwards for guests.

use super::phrases::{family, is, rule};
use super::table::{
    Chain, Element, Field, Hook, Set, Statement, Table, TableName, Test, Verdict, link_bytes,
};

/// Ahead of everybody's rules.
const PRIORITY: i32 = -20;

/// One for all instances: the kernel's setting is one too.
pub fn name() -> TableName {
    TableName::inet("nagaya-forwarding")
}

/// The set of interfaces that were there before the host forwarded IPv4, or IPv6. It is there only if
/// the host did not.
pub fn before(v4: bool) -> &'static str {
    if v4 { "before_ipv4" } else { "before_ipv6" }
}

/// What drops packets of these families between `links`. `families`: IPv4 where true, IPv6 where false. What leaves by
/// the interface by which it has come is let through: with br_netfilter that is a frame which a bridge passes on from
/// one of its ports to another.
pub fn table(links: &[String], families: &[bool]) -> Table {
    const BETWEEN: &str = "between";
    let apart = |v4: &bool| {
        rule([
            family(*v4),
            is(Field::Iifname, Test::In(before(*v4).to_owned())),
            is(Field::Oifname, Test::In(before(*v4).to_owned())),
            Statement::Verdict(Verdict::Jump(BETWEEN.to_owned())),
        ])
    };
    let same = |link: &String| {
        rule([
            is(Field::Iifname, Test::Is(link_bytes(link))),
            is(Field::Oifname, Test::Is(link_bytes(link))),
            Statement::Verdict(Verdict::Return),
        ])
    };
    let dropped = rule([Statement::Counter, Statement::Verdict(Verdict::Drop)]);
    let between = Chain::new(BETWEEN, links.iter().map(same).chain([dropped]).collect());
    let elements: Vec<Element> = links.iter().map(|name| Element::link(name)).collect();
    Table {
        name: name(),
        sets: families.iter().map(|v4| Set::links(before(*v4))).collect(),
        chains: vec![
            between,
            Chain::base("forward", Hook::Forward, PRIORITY, families.iter().map(apart).collect()),
        ],
        elements: families.iter().map(|v4| (before(*v4).to_owned(), elements.clone())).collect(),
    }
}
