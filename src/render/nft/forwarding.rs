//! Keeps the networks that a host was on apart, once it forwards for guests.

use super::phrases::{family, is, rule};
use super::table::{Chain, Element, Field, Hook, Set, Statement, Table, TableName, Test, Verdict};

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

/// What drops packets of these families between `links`. `families`: IPv4 where true, IPv6 where false.
pub fn table(links: &[String], families: &[bool]) -> Table {
    let apart = |v4: &bool| {
        rule([
            family(*v4),
            is(Field::Iifname, Test::In(before(*v4).to_owned())),
            is(Field::Oifname, Test::In(before(*v4).to_owned())),
            Statement::Counter,
            Statement::Verdict(Verdict::Drop),
        ])
    };
    let elements: Vec<Element> = links.iter().map(|name| Element::link(name)).collect();
    Table {
        name: name(),
        sets: families.iter().map(|v4| Set::links(before(*v4))).collect(),
        chains: vec![Chain::base("forward", Hook::Forward, PRIORITY, families.iter().map(apart).collect())],
        elements: families.iter().map(|v4| (before(*v4).to_owned(), elements.clone())).collect(),
    }
}
