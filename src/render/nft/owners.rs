//! Keeps owners apart, in a table that all of them share. Names of interfaces do not tell whose they are,
//! so each owner's interfaces are in a set. Traffic from one owner's guests reaches another's only by a
//! forward, or as an answer.

use super::phrases::{is, rule};
use super::table::{
    Chain, DNAT, ESTABLISHED, Element, Field, Hook, KeyPart, RELATED, Set, Statement, Table, TableName, Test,
    Verdict,
};

/// All owners' interfaces.
pub const ALL: &str = "links";
/// From an interface to the chain of its owner.
pub const OWNERS: &str = "owners";
/// Before any owner's own rules.
const PRIORITY: i32 = -7;

pub fn table_name(instance: &str) -> TableName {
    TableName::inet(format!("{instance}-owners"))
}

/// The table before it has any owner.
pub fn table(instance: &str) -> Table {
    let forward = vec![
        rule([is(Field::CtState, Test::AnyBit(ESTABLISHED | RELATED)), Statement::Verdict(Verdict::Accept)]),
        rule([Statement::Vmap(Field::Iifname, OWNERS.to_owned())]),
    ];
    Table {
        name: table_name(instance),
        sets: vec![Set::links(ALL), Set::verdicts(OWNERS, KeyPart::Link)],
        chains: vec![Chain::base("forward", Hook::Forward, PRIORITY, forward)],
        elements: Vec::new(),
    }
}

/// The set of one owner's interfaces.
pub fn own_set(owner: &str) -> Set {
    Set::links(&format!("of-{owner}"))
}

/// The chain for packets from one owner's guests.
pub fn own_chain(owner: &str) -> Chain {
    let rules = vec![
        rule([is(Field::Oifname, Test::In(own_set(owner).name)), Statement::Verdict(Verdict::Return)]),
        rule([
            is(Field::Oifname, Test::In(ALL.to_owned())),
            is(Field::CtStatus, Test::NoBit(DNAT)),
            Statement::Counter,
            Statement::Verdict(Verdict::Drop),
        ]),
    ];
    Chain::new(format!("from-{owner}"), rules)
}

/// Elements of the three sets for one interface.
pub fn elements(owner: &str, link: &str) -> [(String, Element); 3] {
    let element = Element::link(link);
    [
        (own_set(owner).name, element.clone()),
        (ALL.to_owned(), element.clone()),
        (OWNERS.to_owned(), element.to(Verdict::Jump(own_chain(owner).name))),
    ]
}
