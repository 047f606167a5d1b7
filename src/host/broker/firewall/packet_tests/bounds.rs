//! What an ordinary user has the kernel keep has an end, however it is brought about.

use super::*;
use crate::model::firewall::plan::{GroupPlan, LinkPlan, RulesPlan};
use crate::model::firewall::policy::Action;
use crate::model::name::Name;

fn users() -> Owned {
    Owned { bounds: Some(Bounds { containers: 3 }), ..owned() }
}

fn container(n: u32, last: u8) -> ContainerPlan {
    let id = ContainerId::from_random(n);
    let link = LinkPlan { link: format!("ng{id}"), bridge: Some("lan0".to_owned()) };
    ContainerPlan {
        name: Name::new("web").unwrap(),
        links: vec![link],
        addresses: vec![IpAddr::from([10, 7, 0, last])],
        groups: Vec::new(),
        rules: RulesPlan::default(),
        default_in: Some(Action::Deny),
        default_out: None,
        id,
    }
}

fn is_refused<T: std::fmt::Debug>(answer: Result<T, FirewallError>, what: &str) {
    match answer {
        Err(FirewallError::Refused(why)) if why.contains(what) => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn changes_do_not_pile_up() {
    in_new_netns(|| {
        apply_all(&users(), &Plan::default()).unwrap();
        let with = |container| Change { containers: vec![container], ..Change::default() };
        for n in 1..=3 {
            apply_change(&users(), &with(container(n, n as u8 + 10))).unwrap();
        }
        is_refused(apply_change(&users(), &with(container(4, 20))), "containers");
        // One container by ever other addresses is known by the last ones alone.
        for last in 30..60 {
            apply_change(&users(), &with(container(1, last))).unwrap();
        }
        let listed = run("nft", "list map inet test to4");
        assert_eq!(listed.matches("10.7.0.").count(), 3, "{listed}");
        // Containers without rules, by ever other names: their links do not exist.
        for n in 10..60 {
            apply_change(&users(), &with(ContainerPlan { default_in: None, ..container(n, 100) })).unwrap();
            let id = ContainerId::from_random(n + 100);
            let link = LinkPlan { link: format!("ng{id}"), bridge: None };
            add_links(&users(), &id, &[link]).unwrap();
        }
        for listed in [
            run("nft", "list set bridge test-traffic sent"),
            run("nft", "list set inet test-traffic sent"),
            run("nft", "list set inet test links"),
            run("nft", "list set inet test-blocks links"),
            run("nft", "list set inet test-owners links"),
        ] {
            assert!(listed.matches("\"ng").count() <= 3 * 6 + 3, "{listed}");
        }
        let group = |n: usize| GroupPlan { name: format!("g{n}"), rules: RulesPlan::default() };
        let groups = Change { groups: (0..40).map(group).collect(), ..Change::default() };
        apply_change(&users(), &groups).unwrap();
        apply_change(&users(), &groups).unwrap();
        let more = Change { groups: (40..80).map(group).collect(), ..Change::default() };
        is_refused(apply_change(&users(), &more), "groups");
        let nets = |from: u32| {
            (from..from + 30_000).map(|n| ipnetwork::IpNetwork::from(IpAddr::from((n * 2).to_be_bytes())))
        };
        let set = |name: &str, from| Change {
            sets: BTreeMap::from([(name.to_owned(), nets(from).collect())]),
            ..Change::default()
        };
        apply_change(&users(), &set("a", 1 << 24)).unwrap();
        apply_change(&users(), &set("b", 1 << 24)).unwrap();
        apply_change(&users(), &set("b", 1 << 25)).unwrap();
        is_refused(apply_change(&users(), &set("c", 1 << 24)), "subnets in sets");
    });
}

#[test]
fn plans_are_bounded() {
    let users = users();
    let check = |plan: &Plan| users.check(plan);
    let whole = |change: &dyn Fn(&mut Plan)| {
        let mut plan = Plan::default();
        change(&mut plan);
        plan
    };
    let wide = |n: usize| vec!["192.0.2.0/24".parse().unwrap(); n];
    is_refused(
        check(&whole(&|p| p.containers = (0..4).map(|n| container(n, n as u8 + 10)).collect())),
        "containers",
    );
    is_refused(check(&whole(&|p| p.sets = (0..65).map(|n| (format!("s{n}"), wide(1))).collect())), "sets");
    is_refused(
        check(&whole(&|p| p.sets = (0..2).map(|n| (format!("s{n}"), wide(40_000))).collect())),
        "subnets",
    );
    let mut many = container(1, 10);
    many.addresses = (0..13).map(|n| IpAddr::from([10, 7, 0, 20 + n])).collect();
    is_refused(check(&whole(&|p| p.containers = vec![many.clone()])), "addresses");
}

#[test]
fn blocks_of_an_ordinary_user_are_bounded_in_all() {
    in_new_netns(|| {
        apply_all(&users(), &Plan::default()).unwrap();
        let one = |n: u32| blocked(&std::net::Ipv4Addr::from((11 << 24) + n).to_string(), None, 3600);
        let add =
            |from: u32, to: u32| BlockOrder { add: (from..to).map(one).collect(), ..BlockOrder::default() };
        block(&users(), &add(0, 20_000)).unwrap();
        is_refused(block(&users(), &add(20_000, 40_000)), "32768");
        block(&users(), &add(20_000, 32_768)).unwrap();
        is_refused(block(&users(), &add(32_768, 32_769)), "32768");
        // What is there already holds anew, also where there is no room for more.
        let begun = std::time::Instant::now();
        block(&users(), &add(0, 32_768)).unwrap();
        let renewed = begun.elapsed();
        assert!(block_hits("test").unwrap().is_empty());
        let looked = begun.elapsed() - renewed;
        println!("32,768 blocks renewed in {renewed:?}, looked at in {looked:?}");
        assert!(
            renewed < Duration::from_secs(6) && looked < Duration::from_secs(3),
            "{renewed:?} {looked:?}"
        );
        let gone = BlockOrder { remove: (0..32_767).map(one).collect(), ..BlockOrder::default() };
        block(&users(), &gone).unwrap();
        // Some of those are not there.
        block(&users(), &gone).unwrap();
        let left = run("nft", "list set inet test-blocks b4-32");
        assert_eq!(left.matches("expires").count(), 1, "{left}");
        let kinds = |from: u32| BlockOrder {
            add: (from..from + 3)
                .flat_map(|n| (1..=128).map(move |bits| (n, bits)))
                .map(|(n, bits)| {
                    let net = ipnetwork::Ipv6Network::new(std::net::Ipv6Addr::UNSPECIFIED, bits).unwrap();
                    KernelBlock { address: net.into(), container: Some(n), seconds: 60 }
                })
                .collect(),
            members: (from..from + 3).map(|n| (ContainerId::from_random(n), Vec::new())).collect(),
            ..BlockOrder::default()
        };
        block(&users(), &kinds(1)).unwrap();
        is_refused(block(&users(), &kinds(4)), "kinds");
    });
}

#[test]
fn what_others_change_does_not_hold_up_a_block() {
    in_new_netns(|| {
        apply_all(&users(), &Plan::default()).unwrap();
        let restless = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            // The thread is in the same network namespace.
            scope.spawn(|| {
                while restless.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut batch = Batch::new();
                    batch.remove(&TableName::inet("other"));
                    batch.add_table(&TableName::inet("other"));
                    batch.commit().unwrap();
                }
            });
            let one = |n: u32| blocked(&std::net::Ipv4Addr::from((11 << 24) + n).to_string(), None, 0);
            let order = BlockOrder { add: (0..20_000).map(one).collect(), ..BlockOrder::default() };
            let begun = std::time::Instant::now();
            let done = block(&users(), &order).and_then(|()| block_hits("test"));
            restless.store(false, std::sync::atomic::Ordering::Relaxed);
            done.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        });
    });
}
