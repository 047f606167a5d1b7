//! nftables tables of our own, as plain data.

pub mod blocks;
pub mod filter;
pub mod nat;
pub mod ports;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use ipnetwork::Ipv4Network;
use nftables::batch::Batch;
use nftables::expr::{Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix};
use nftables::schema::{Chain, NfListObject, NfObject, Nftables, Rule, Table};
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use crate::model::firewall::Plan;
use crate::model::lan::Network;

const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";
/// Priorities `filter` and `srcnat` by their numbers, as nft itself prints them.
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// A whole table: what it is called and all that it holds, in the order in which it is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRules {
    pub family: NfFamily,
    pub name: String,
    objects: Vec<NfListObject<'static>>,
}

/// The table of an instance with one network: forwarding accepted from and to its bridge, but not
/// from the bridges of other owners, whose names match one of `others` (a `*` at the end matches
/// anything); and the guests' addresses hidden behind the host's.
///
/// The accepts are for our own chain alone: a drop in another program's chain still drops.
pub fn network_table(table: &str, network: &Network, others: &[String]) -> TableRules {
    let subnet = network.ipv4;
    let bridge = || Expression::String(network.bridge.clone().into());
    let strangers = others.iter().filter(|other| **other != network.bridge).map(|other| {
        let other = Expression::String(other.clone().into());
        let statements = vec![
            compare(meta(MetaKey::Iifname), Operator::EQ, other),
            compare(meta(MetaKey::Iifname), Operator::NEQ, bridge()),
            compare(meta(MetaKey::Oifname), Operator::EQ, bridge()),
            Statement::Drop(None),
        ];
        (FORWARD, statements)
    });
    let own = [
        (FORWARD, vec![compare(meta(MetaKey::Iifname), Operator::EQ, bridge()), Statement::Accept(None)]),
        (FORWARD, vec![compare(meta(MetaKey::Oifname), Operator::EQ, bridge()), Statement::Accept(None)]),
        (
            POSTROUTING,
            vec![
                compare(ip_field("saddr"), Operator::EQ, prefix(subnet)),
                compare(ip_field("daddr"), Operator::NEQ, prefix(subnet)),
                Statement::Masquerade(None),
            ],
        ),
    ];
    let mut objects = vec![
        base_chain(table, FORWARD, NfChainType::Filter, NfHook::Forward, FILTER),
        base_chain(table, POSTROUTING, NfChainType::NAT, NfHook::Postrouting, SRCNAT),
    ];
    objects.extend(strangers.chain(own).map(|(chain, statements)| rule(table, chain, statements)));
    TableRules { family: NfFamily::INet, name: table.to_owned(), objects }
}

/// An owner's policy and translations, in one table. `strangers` are patterns of the names of other
/// owners' bridges (a `*` at the end matches anything).
pub fn policy_table(owner: &str, plan: &Plan, strangers: &[String]) -> table::Table {
    let mut table = filter::table(owner, plan, strangers);
    nat::add(&mut table, plan);
    table
}

impl TableRules {
    /// One batch that puts this table in the place of whatever has its name. The first addition
    /// is there for the deletion, which fails where nothing is.
    pub fn replacement(&self) -> Nftables<'static> {
        let mut batch = removal_batch(self.family, &self.name);
        batch.add(bare_table(self.family, &self.name));
        for object in &self.objects {
            batch.add(object.clone());
        }
        batch.to_nftables()
    }

    /// Whether `nft -j list table` printed this table: the same chains, and in each the same
    /// rules in the same order.
    pub fn is_listed_in(&self, listed: &Nftables<'_>) -> bool {
        let mut wanted: Vec<_> = std::iter::once(bare_table(self.family, &self.name))
            .chain(self.objects.iter().cloned())
            .collect();
        let mut found: Vec<_> = listed.objects.iter().filter_map(without_handle).collect();
        wanted.sort_by_key(place);
        found.sort_by_key(place);
        wanted == found
    }
}

/// One batch after which there is no such table, whether or not there was.
pub fn removal(family: NfFamily, name: &str) -> Nftables<'static> {
    removal_batch(family, name).to_nftables()
}

fn removal_batch(family: NfFamily, name: &str) -> Batch<'static> {
    let mut batch = Batch::new();
    batch.add(bare_table(family, name));
    batch.delete(bare_table(family, name));
    batch
}

/// Sorts a table before its chains before its rules; rules of one chain keep their order, for
/// the sort is stable.
fn place(object: &NfListObject<'_>) -> (u8, String) {
    match object {
        NfListObject::Table(table) => (0, table.name.to_string()),
        NfListObject::Chain(chain) => (1, chain.name.to_string()),
        NfListObject::Rule(rule) => (2, rule.chain.to_string()),
        _ => (3, String::new()),
    }
}

/// What was listed, without the numbers that the kernel gave it. None for what says nothing of
/// the table.
fn without_handle(object: &NfObject<'_>) -> Option<NfListObject<'static>> {
    let NfObject::ListObject(object) = object else {
        return None;
    };
    let own = serde_json::to_value(object).and_then(serde_json::from_value::<NfListObject<'static>>);
    match own.ok()? {
        NfListObject::MetainfoObject(_) => None,
        NfListObject::Table(table) => Some(NfListObject::Table(Table { handle: None, ..table })),
        NfListObject::Chain(chain) => Some(NfListObject::Chain(Chain { handle: None, ..chain })),
        NfListObject::Rule(rule) => Some(NfListObject::Rule(Rule { handle: None, ..rule })),
        other => Some(other),
    }
}

fn bare_table(family: NfFamily, name: &str) -> NfListObject<'static> {
    NfListObject::Table(Table { family, name: name.to_owned().into(), handle: None })
}

fn base_chain(
    table: &str,
    name: &'static str,
    kind: NfChainType,
    hook: NfHook,
    priority: i32,
) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: table.to_owned().into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

fn rule(table: &str, chain: &'static str, statements: Vec<Statement<'static>>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: table.to_owned().into(),
        chain: chain.into(),
        expr: statements.into(),
        ..Rule::default()
    })
}

fn compare(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn ip_field(field: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: "ip".into(),
        field: field.into(),
    })))
}

fn prefix(subnet: Ipv4Network) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(Expression::String(subnet.network().to_string().into())),
        len: subnet.prefix().into(),
    }))
}

#[cfg(test)]
mod network_tests {
    use super::*;

    fn rules() -> TableRules {
        let network = Network { bridge: "test0".into(), ipv4: "10.77.16.1/20".parse().unwrap() };
        network_table("test", &network, &["test-*".to_owned(), "test0".to_owned()])
    }

    /// As `nft -j list table` prints a table that holds these rules.
    fn listing(rules: &TableRules) -> Nftables<'static> {
        let mut batch = Batch::new();
        batch.add_obj(bare_table(rules.family, &rules.name));
        rules.objects.iter().cloned().for_each(|object| batch.add_obj(object));
        batch.to_nftables()
    }

    #[test]
    fn the_ruleset_is_the_golden_one() {
        let rendered = serde_json::to_string_pretty(&rules().replacement()).unwrap() + "\n";
        snapbox::assert_data_eq!(rendered, snapbox::file!["../../tests/golden/nft-network.json"].raw());
    }

    #[test]
    fn a_listing_in_another_order_of_chains_is_the_same_table() {
        let mut listed = listing(&rules());
        assert!(rules().is_listed_in(&listed));
        listed.objects.to_mut().swap(1, 2);
        assert!(rules().is_listed_in(&listed));
    }

    #[test]
    fn a_listing_with_more_less_or_other_rules_is_not() {
        let whole = listing(&rules());
        let last = whole.objects.len() - 1;
        let mut less = whole.clone();
        less.objects.to_mut().remove(last);
        assert!(!rules().is_listed_in(&less));
        let mut more = whole.clone();
        more.objects.to_mut().push(whole.objects[last].clone());
        assert!(!rules().is_listed_in(&more));
        let mut swapped = whole;
        swapped.objects.to_mut().swap(3, 4);
        assert!(!rules().is_listed_in(&swapped));
    }
}
