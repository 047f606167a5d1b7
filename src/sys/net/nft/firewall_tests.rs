//! Whole firewalls in network namespaces, judged by nft and by packets.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::listing::Count;
use super::*;
use crate::render::nft::blocks::{self, BlockSet};
use crate::render::nft::table::{Element, Set, Table, TableName};
use crate::render::nft::tests::{block, blocked, full, macs, owned, some_blocks};
use crate::render::nft::{policy_table, ports};
use crate::sys::net::netns_fixture::{in_new_netns, run};

/// Has nft read rules as text.
fn nft_reads(text: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
}

fn added(tables: &[Table]) -> String {
    let mut batch = Batch::new();
    tables.iter().for_each(|table| batch.replace(table));
    batch.commit().unwrap();
    run("nft", "-s list ruleset")
}

fn everything() -> Vec<Table> {
    let mut all = vec![
        policy_table("test", &full()),
        owned(),
        blocked(&some_blocks()),
        ports::routing_table("test", &full(), &macs()),
    ];
    all.extend(ports::traffic_tables("test", &full()));
    all
}

/// A listing with the elements of each set in order: the kernel has none for those of a hash.
fn in_order(listing: &str) -> String {
    let mut out = String::new();
    let mut rest = listing;
    while let Some((before, after)) = rest.split_once("elements = { ") {
        let (inside, after) = after.split_once(" }").unwrap();
        let mut elements: Vec<_> = inside.split(',').map(str::trim).collect();
        elements.sort_unstable();
        out.push_str(&format!("{before}elements = {{ {} }}", elements.join(", ")));
        rest = after;
    }
    out + rest
}

#[test]
fn the_kernel_is_told_what_the_text_says() {
    for table in everything() {
        let by_text = in_new_netns(|| {
            nft_reads(&table.to_string());
            run("nft", "-s list ruleset")
        });
        let by_batch = in_new_netns(|| added(std::slice::from_ref(&table)));
        assert!(by_text.contains("hook"), "{by_text}");
        snapbox::assert_data_eq!(in_order(&by_batch), snapbox::Data::from(in_order(&by_text)).raw());
    }
}

#[test]
fn a_firewall_is_replaced_as_a_whole_and_removed() {
    in_new_netns(|| {
        let once = added(&everything());
        assert_eq!(in_order(&added(&everything())), in_order(&once));
        let mut batch = Batch::new();
        everything().iter().for_each(|table| batch.remove(&table.name));
        batch.commit().unwrap();
        assert_eq!(run("nft", "list ruleset"), "");
    });
}

#[test]
fn a_batch_that_fails_changes_nothing_and_says_what_failed() {
    in_new_netns(|| {
        let table = TableName::inet("test");
        let mut batch = Batch::new();
        batch.add_table(&table);
        batch.add_set(&table, &Set::links("links"));
        batch.delete_elements(&table, "links", &[Element::link("nowhere")]);
        batch.add_elements(&table, "links", &[Element::link("b0")]);
        let error = batch.commit().unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert_eq!(error.to_string(), "cannot delete elements of set 'links' in table 'inet test'");
        assert_eq!(run("nft", "list ruleset"), "");
        assert!(sets(&table).unwrap().is_empty() && rules(&table).unwrap().is_empty());
        assert_eq!(elements(&table, "links").unwrap(), None);
    });
}

#[test]
fn a_change_in_between_is_noticed() {
    in_new_netns(|| {
        let seen = generation().unwrap();
        run("nft", "add table inet other");
        assert_ne!(generation().unwrap(), seen);
        let mut batch = Batch::new().only_at(seen);
        batch.add_table(&TableName::inet("test"));
        assert!(batch.commit().unwrap_err().is_stale());
        let mut batch = Batch::new().only_at(generation().unwrap());
        batch.add_table(&TableName::inet("test"));
        batch.commit().unwrap();
    });
}

#[test]
fn asking_for_a_table_is_cheap() {
    in_new_netns(|| {
        run("nft", "add table inet other");
        assert!(!has_table(&TableName::inet("test")).unwrap());
        run("nft", "add table inet test");
        assert!(!has_table(&TableName::bridge("test")).unwrap());
        let start = Instant::now();
        for _ in 0..1000 {
            assert!(has_table(&TableName::inet("test")).unwrap());
        }
        let each = start.elapsed() / 1000;
        assert!(each < Duration::from_millis(1), "{each:?}: was a program started?");
    });
}

#[test]
fn what_the_kernel_holds_is_read() {
    in_new_netns(|| {
        added(&everything());
        let policy = TableName::inet("test");
        let found = elements(&policy, "to4").unwrap().unwrap();
        let web = found.iter().find(|e| e.key == [10, 7, 0, 2]).unwrap();
        assert_eq!(web.chain.as_deref(), Some("c-00000001-in"));
        let links = elements(&TableName::bridge("test-traffic"), ports::SENT).unwrap().unwrap();
        assert_eq!((links.len(), links[0].count), (4, Some(Count::default())));
        let element = |last| (policy.clone(), "to4".to_owned(), vec![10, 7, 0, last]);
        let named = elements_named(&[element(2), element(9)]).unwrap();
        assert_eq!(named, [Some(web.clone()), None]);
        let listed = rules(&policy).unwrap();
        let own: Vec<_> = listed.iter().filter(|r| r.chain == "c-00000001-in" && r.count.is_some()).collect();
        let comments: Vec<_> = own.iter().filter_map(|r| r.comment.as_deref()).collect();
        assert_eq!(comments[0], "rule 1");
        assert_eq!(comments.last(), Some(&"default"));
        assert_eq!(
            sets(&blocks::table_name("test"))
                .unwrap()
                .iter()
                .filter_map(|s| BlockSet::parse(&s.name))
                .count(),
            5
        );
    });
}

#[test]
fn a_hundred_thousand_blocks_are_one_change() {
    in_new_netns(|| {
        let table = blocked(&[block("10.0.0.0/32", None, 0)]);
        added(std::slice::from_ref(&table));
        let before = generation().unwrap();
        let many: Vec<Element> = (0..100_000u32)
            .map(|n| {
                blocks::element(&block(&std::net::Ipv4Addr::from((11 << 24) + n).to_string(), None, 3600))
            })
            .collect();
        let start = Instant::now();
        let mut batch = Batch::new();
        batch.add_elements(&table.name, "b4-32", &many);
        batch.commit().unwrap();
        let adding = start.elapsed();
        assert_eq!(generation().unwrap(), before + 1);
        let start = Instant::now();
        assert_eq!(elements(&table.name, "b4-32").unwrap().unwrap().len(), 100_001);
        println!("100,000 blocks: added in {adding:?}, listed in {:?}", start.elapsed());
        assert!(adding < Duration::from_secs(3), "{adding:?}");
    });
}
