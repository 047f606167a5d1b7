//! Blocked addresses, in a table of their own that comes before every accept. It has a set for each prefix
//! length in use, so that blocks may overlap, each with its own end and its own hits.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::links::{LINKS, links};
use super::phrases::{family, is, rule};
use super::table::{
    Chain, Element, Field, Hook, KeyPart, Rule, Set, Statement, Table, TableName, Test, Verdict, mask_bytes,
};
use crate::model::firewall::block::KernelBlock;
use crate::model::firewall::plan::Plan;
use crate::model::firewall::policy::Direction;
use crate::model::name::ContainerId;

const PRIORITY: i32 = -10;

/// One prefix length for all containers or for one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockSet {
    pub container: Option<ContainerId>,
    pub v6: bool,
    pub prefix: u8,
}

impl BlockSet {
    pub fn of(block: &KernelBlock) -> Self {
        Self { container: block.id(), v6: block.address.is_ipv6(), prefix: block.address.prefix() }
    }

    /// `b4-24`, `b6-64-000000ab`.
    pub fn name(&self) -> String {
        let of = self.container.as_ref().map(|id| format!("-{id}")).unwrap_or_default();
        format!("b{}-{}{of}", if self.v6 { 6 } else { 4 }, self.prefix)
    }

    /// Reads what `name` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('b')?.splitn(3, '-');
        let v6 = match parts.next()? {
            "4" => false,
            "6" => true,
            _ => return None,
        };
        let prefix = parts.next()?.parse().ok()?;
        let container = parts.next().map(ContainerId::new).transpose().ok()?;
        let found = Self { container, v6, prefix };
        (found.name() == text).then_some(found)
    }

    pub fn set(&self) -> Set {
        Set::addresses(self.name(), !self.v6).with_timeouts().with_counters()
    }
}

pub fn table_name(owner: &str) -> TableName {
    TableName::inet(format!("{owner}-blocks"))
}

/// The table as it is before anything is blocked.
pub fn table(owner: &str, plan: &Plan) -> Table {
    let sets = [true, false].map(|v4| {
        let key = if v4 { KeyPart::Ipv4 } else { KeyPart::Ipv6 };
        [Direction::In, Direction::Out].map(|direction| Set::verdicts(own_map(direction, v4), key))
    });
    let mut sets: Vec<Set> = sets.into_iter().flatten().collect();
    sets.push(Set::links(LINKS));
    let own = links(plan).map(Element::link).collect();
    let side = |direction: Direction| {
        let link = if direction == Direction::In { Field::Oifname } else { Field::Iifname };
        let jump = Statement::Verdict(Verdict::Jump(side_chain(None, direction)));
        rule([is(link, Test::In(LINKS.into())), jump])
    };
    let mut chains: Vec<_> = Direction::BOTH
        .into_iter()
        .map(|d| Chain::new(side_chain(None, d), side_rules(None, d, &[])))
        .collect();
    let sides = Direction::BOTH.map(side).to_vec();
    chains.push(Chain::base("forward", Hook::Forward, PRIORITY, sides));
    Table { name: table_name(owner), sets, chains, elements: vec![(LINKS.to_owned(), own)] }
}

/// The map from a guest's address to the chain of the blocks for it alone.
pub fn own_map(direction: Direction, v4: bool) -> &'static str {
    match (direction, v4) {
        (Direction::In, true) => "to4",
        (Direction::In, false) => "to6",
        (Direction::Out, true) => "from4",
        (Direction::Out, false) => "from6",
    }
}

/// The chain of packets to guests or from them: of all, or of one.
pub fn side_chain(container: Option<&ContainerId>, direction: Direction) -> String {
    match container {
        None => format!("all-{}", direction.as_str()),
        Some(id) => format!("c-{id}-{}", direction.as_str()),
    }
}

/// The rules of such a chain: the longest prefix first, so that the most specific block counts the hit.
pub fn side_rules(container: Option<&ContainerId>, direction: Direction, sets: &[BlockSet]) -> Vec<Rule> {
    let mut rules = Vec::new();
    if container.is_none() {
        for v4 in [true, false] {
            let own = match (direction, v4) {
                (Direction::In, true) => Field::Daddr4,
                (Direction::In, false) => Field::Daddr6,
                (Direction::Out, true) => Field::Saddr4,
                (Direction::Out, false) => Field::Saddr6,
            };
            rules.push(rule([family(v4), Statement::Vmap(own, own_map(direction, v4).into())]));
        }
    }
    let mut own: Vec<&BlockSet> = sets.iter().filter(|set| set.container.as_ref() == container).collect();
    own.sort_by_key(|set| (set.v6, u8::MAX - set.prefix));
    rules.extend(own.into_iter().map(|set| {
        let peer = match (direction, set.v6) {
            (Direction::In, false) => Field::Saddr4,
            (Direction::In, true) => Field::Saddr6,
            (Direction::Out, false) => Field::Daddr4,
            (Direction::Out, true) => Field::Daddr6,
        };
        let whole = if set.v6 { 128 } else { 32 };
        let test = match set.prefix == whole {
            true => Test::In(set.name()),
            false => Test::UnderIn(mask_bytes(!set.v6, set.prefix), set.name()),
        };
        rule([family(!set.v6), is(peer, test), Statement::Verdict(Verdict::Drop)])
    }));
    rules
}

/// The map elements that lead one container's packets to its own chains.
pub fn own_elements(id: &ContainerId, addresses: &[IpAddr]) -> Vec<(String, Vec<Element>)> {
    let mut elements = Vec::new();
    for direction in Direction::BOTH {
        for v4 in [true, false] {
            let jump = || Verdict::Jump(side_chain(Some(id), direction));
            let own = addresses.iter().filter(|ip| ip.is_ipv4() == v4);
            let found: Vec<_> = own.map(|ip| Element::address(*ip).to(jump())).collect();
            if !found.is_empty() {
                elements.push((own_map(direction, v4).to_owned(), found));
            }
        }
    }
    elements
}

/// The sets that these blocks are in.
pub fn sets_of(blocks: &[KernelBlock]) -> BTreeSet<BlockSet> {
    blocks.iter().map(BlockSet::of).collect()
}

pub fn element(block: &KernelBlock) -> Element {
    let timeout = block.seconds.saturating_mul(1000);
    Element { timeout, ..Element::address(block.address.network()) }
}
