//! Keeps the networks that a host was on apart, once it forwards for guests.

use super::phrases::{family, is, rule};
use super::table::{Chain, Element, Field, Hook, Set, Statement, Table, TableName, Test, Verdict};

/// Interfaces that were there before the host forwarded.
const BEFORE: &str = "before";
/// Ahead of everybody's rules.
const PRIORITY: i32 = -20;

/// One for all instances: the kernel's setting is one too. `families`: IPv4 where true, IPv6 where
/// false.
pub fn table(before: &[String], families: &[bool]) -> Table {
    let apart = |v4: &bool| {
        rule([
            family(*v4),
            is(Field::Iifname, Test::In(BEFORE.to_owned())),
            is(Field::Oifname, Test::In(BEFORE.to_owned())),
            Statement::Counter,
            Statement::Verdict(Verdict::Drop),
        ])
    };
    let rules = families.iter().map(apart).collect();
    Table {
        name: TableName::inet("nagaya-forwarding"),
        sets: vec![Set::links(BEFORE)],
        chains: vec![Chain::base("forward", Hook::Forward, PRIORITY, rules)],
        elements: vec![(BEFORE.to_owned(), before.iter().map(|name| Element::link(name)).collect())],
    }
}
