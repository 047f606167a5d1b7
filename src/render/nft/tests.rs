//! The tables as text. That the kernel is told the same, and what it makes of it, is tested where it
//! is told.

use std::collections::BTreeMap;

use super::blocks::{self, BlockSet};
use super::table::Chain;
use super::{links, owners, policy_table, ports};
use crate::model::firewall::Plan;
use crate::model::firewall::block::KernelBlock;
use crate::model::firewall::fixture::plan;
use crate::model::firewall::policy::Direction;
use crate::model::mac::Mac;

/// A policy with one of everything.
pub fn full() -> Plan {
    let mut plan = plan(
        r#"
[sets]
office = ["198.51.100.0/24", "198.51.101.0/24", "2001:db8:1::/48", "203.0.113.7"]
empty = []
[groups.web]
in = [{ action = "allow", proto = "tcp", ports = "80,443,8000-8100" }, { action = "allow", proto = "icmp" }]
[networks.lan]
default-in = "deny"
default-out = "reject"
out = [{ action = "reject", proto = "tcp", ports = "25" }, { action = "allow", proto = "udp", ports = "1000-2000" }]
[containers.web01]
groups = ["web"]
default-in = "deny"
in = [
    { action = "allow", proto = "tcp", ports = "22", from = ["set:office", "192.0.2.1", "192.0.2.128/25"], log = true },
    { action = "deny", from = ["10.7.0.3", "fd07::/64"] },
    { action = "allow", proto = "icmp", from = ["192.0.2.0/24"] },
    { action = "allow", proto = "esp" },
]
[containers.far01]
default-in = "allow"
[[forwards]]
container = "web01"
proto = "tcp"
listen = "8080"
to = "80"
[[forwards]]
container = "old01"
proto = "udp"
listen = "5000-5001"
address = "203.0.113.1"
"#,
    );
    plan.networks[1].nat4 = crate::model::network::Nat::To("203.0.113.9".parse().unwrap());
    plan
}

/// The table of owners with the fixture's in it.
pub fn owned() -> super::table::Table {
    let mut table = owners::table("test");
    table.sets.push(owners::own_set("test-1000"));
    table.chains.insert(0, owners::own_chain("test-1000"));
    for link in links::links(&full()) {
        let one = owners::elements("test-1000", link);
        table.elements.extend(one.into_iter().map(|(set, element)| (set, vec![element])));
    }
    table
}

pub fn macs() -> BTreeMap<String, Mac> {
    BTreeMap::from([
        ("lan0".to_owned(), Mac([2, 0xaa, 0, 0, 0, 1])),
        ("old0".to_owned(), Mac([2, 0xaa, 0, 0, 0, 2])),
    ])
}

pub fn block(address: &str, container: Option<u32>, seconds: u64) -> KernelBlock {
    KernelBlock { address: address.parse().unwrap(), container, seconds }
}

/// The table of blocks with these in it.
pub fn blocked(some: &[KernelBlock]) -> super::table::Table {
    let plan = full();
    let mut table = blocks::table("test", &plan);
    let sets: Vec<BlockSet> = blocks::sets_of(some).into_iter().collect();
    table.sets.extend(sets.iter().map(BlockSet::set));
    table.chains.retain(|chain| chain.base.is_some());
    let web = &plan.container("web01").unwrap().id;
    for container in [Some(web), None] {
        for direction in Direction::BOTH {
            let rules = blocks::side_rules(container, direction, &sets);
            table.chains.insert(0, Chain::new(blocks::side_chain(container, direction), rules));
        }
    }
    let web = plan.container("web01").unwrap();
    table.elements.extend(blocks::own_elements(&web.id, &web.addresses));
    table.elements.extend(some.iter().map(|b| (BlockSet::of(b).name(), vec![blocks::element(b)])));
    table
}

pub fn some_blocks() -> Vec<KernelBlock> {
    vec![
        block("192.0.2.1/32", None, 0),
        block("192.0.2.0/24", None, 0),
        block("2001:db8::/32", None, 0),
        block("198.51.100.0/24", Some(1), 0),
        block("2001:db8::1/128", Some(1), 0),
    ]
}

#[test]
fn the_policy_is_the_golden_one() {
    let text = format!("{}\n{}", policy_table("test", &full()), owned());
    snapbox::assert_data_eq!(text, snapbox::file!["../../../tests/golden/nft-policy.txt"].raw());
}

#[test]
fn the_blocks_are_the_golden_ones() {
    let text = blocked(&some_blocks()).to_string();
    snapbox::assert_data_eq!(text, snapbox::file!["../../../tests/golden/nft-blocks.txt"].raw());
}

#[test]
fn the_ports_are_the_golden_ones() {
    let [of_ports, of_links] = ports::traffic_tables("test", &full());
    let text = format!("{}\n{of_ports}\n{of_links}", ports::routing_table("test", &full(), &macs()));
    snapbox::assert_data_eq!(text, snapbox::file!["../../../tests/golden/nft-ports.txt"].raw());
}

#[test]
fn names_of_sets_are_read_back() {
    for block in some_blocks() {
        let set = BlockSet::of(&block);
        assert_eq!(BlockSet::parse(&set.name()), Some(set));
    }
    for bad in ["b4", "b5-1", "b4-x", "b4-24-", "b4-024", "links", "b4-24-0000000g"] {
        assert_eq!(BlockSet::parse(bad), None, "{bad}");
    }
}
