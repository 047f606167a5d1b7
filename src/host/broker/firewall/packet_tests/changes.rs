//! What a change, a repair and another owner leave as it was.

use std::time::Instant;

use super::*;
use crate::model::firewall::plan::{LinkPlan, NetworkPlan};
use crate::model::name::Name;

#[test]
fn a_change_touches_nothing_else() {
    const BOTH: &str = "[containers.web01]\ndefault-in = \"deny\"\n[containers.db01]\nin = [{ action = \"allow\", proto = \"tcp\", ports = \"80\" }]\n";
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80]);
        let first = apply(BOTH);
        assert!(reaches(&lab.beyond, "10.7.0.3:80") && !reaches(&lab.beyond, "10.7.0.2:80"));
        let before = count("c-00000002-in", "rule 1");
        assert!(before > 0);
        let grouped = format!("{BOTH}groups = [\"g\"]\n[groups.g]\nin = [{{ action = \"deny\", from = [\"set:s\"] }}]\n[sets]\ns = [\"203.0.113.0/24\"]\n")
            .replace("[containers.web01]\ndefault-in = \"deny\"", "[containers.web01]\ndefault-in = \"allow\"");
        let second = change(&first, &grouped);
        assert!(reaches(&lab.beyond, "10.7.0.2:80"));
        // Its group changed, so its own rules were written anew, but nobody else's.
        let third = change(&second, &grouped.replace("default-in = \"allow\"", "default-in = \"reject\""));
        assert_eq!(heard_as(&lab.beyond, "10.7.0.2:80"), Err(ErrorKind::ConnectionRefused));
        assert!(reaches(&lab.beyond, "10.7.0.3:80") && count("c-00000002-in", "rule 1") > 0);
        let counted = count("c-00000002-in", "rule 1");
        let fourth = change(
            &third,
            &grouped
                .replace("default-in = \"allow\"", "default-in = \"reject\"")
                .replace("203.0.113.0/24", "203.0.113.64/26"),
        );
        assert_eq!(count("c-00000002-in", "rule 1"), counted);
        change(&fourth, BOTH);
        let listed = run("nft", "list ruleset");
        assert!(!listed.contains("g-g-") && !listed.contains("s4-s"), "{listed}");
    });
}

#[test]
fn traffic_is_counted_by_links_and_outlives_a_policy() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80]);
        apply("");
        assert!(reaches(&lab.beyond, "10.7.0.2:80") && reaches(&lab.beyond, "192.0.2.7:80"));
        let before = traffic("test").unwrap();
        for link in ["ng00000001", "ng00000004"] {
            let seen = before[link];
            assert!(
                seen.sent_packets > 1 && seen.received_packets > 1 && seen.sent_bytes > 90,
                "{link} {seen:?}"
            );
        }
        apply("[networks.lan]\ndefault-in = \"deny\"");
        assert!(!reaches(&lab.beyond, "10.7.0.2:80"));
        let after = traffic("test").unwrap();
        assert!(after["ng00000001"].sent_bytes >= before["ng00000001"].sent_bytes);
    });
}

#[test]
fn a_damaged_firewall_is_noticed_and_repaired() {
    in_new_netns(|| {
        let _lab = Lab::new();
        let plan = apply("[containers.web01]\ndefault-in = \"deny\"");
        assert!(!repair(&owned(), &plan).unwrap());
        for damage in [
            "delete table inet test",
            "delete table bridge test",
            "delete table inet test-blocks",
            "delete table inet test-owners",
            "flush chain inet test-owners from-test",
            "flush chain inet test ingress",
            "flush chain bridge test r-lan0-02aa00000001",
            "delete element inet test links { lan0 }",
            "add rule inet test c-00000001-in accept",
            "flush ruleset",
        ] {
            run("nft", damage);
            assert!(!matches(&owned(), &plan).unwrap(), "{damage}");
            assert!(repair(&owned(), &plan).unwrap() && matches(&owned(), &plan).unwrap(), "{damage}");
        }
        run("nft", "add table inet other");
        remove_all("test", "test").unwrap();
        assert_eq!(run("nft", "list tables").trim(), "table inet other");
        assert!(!is_in_place("test", "test").unwrap() && traffic("test").unwrap().is_empty());
        let gone = apply_change(&owned(), &Change::default());
        assert!(matches!(gone, Err(FirewallError::NotInPlace)));
    });
}

#[test]
fn other_owners_guests_stay_out_but_for_forwards() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80]);
        bridge("b1", 3, &["10.9.0.1/24"]);
        let stranger = port("u1", "b1", &["10.9.0.2/24"], &["10.9.0.1"]);
        stranger.run(|| serve_here(&[80]));
        apply("[[forwards]]\ncontainer = \"web01\"\nproto = \"tcp\"\nlisten = \"8080\"\nto = \"80\"");
        assert!(reaches(&stranger, "10.7.0.2:80"), "nobody knows whose it is");
        let mut theirs = Plan::default();
        theirs.networks.push(NetworkPlan {
            name: "b1".into(),
            bridge: "b1".into(),
            ipv4: "10.9.0.1/24".parse().ok(),
            ipv6: None,
            ..plan("").networks[0].clone()
        });
        let other = Owned {
            owner: "test-1000".into(),
            bridges: BTreeMap::from([("b1".into(), vec!["10.9.0.0/24".parse().unwrap()])]),
            ..owned()
        };
        apply_all(&other, &theirs).unwrap();
        apply_all(&other, &theirs).unwrap();
        assert!(!reaches(&stranger, "10.7.0.2:80") && !reaches(&stranger, "192.0.2.7:80"));
        assert!(!reaches(&lab.web, "10.9.0.2:80") && !reaches(&lab.far, "10.9.0.2:80"));
        assert!(reaches(&lab.web, "10.8.0.2:80") && reaches(&stranger, "203.0.113.2:80"));
        assert_eq!(heard_as(&stranger, "203.0.113.1:8080").as_deref(), Ok("10.7.0.1"), "hidden by its owner");
        remove_all("test", "test-1000").unwrap();
        assert!(reaches(&stranger, "10.7.0.2:80"), "forgotten");
        assert!(
            matches(
                &owned(),
                &plan("[[forwards]]\ncontainer = \"web01\"\nproto = \"tcp\"\nlisten = \"8080\"\nto = \"80\"")
            )
            .unwrap()
        );
    });
}

/// A plan with `n` containers more, each with rules of its own.
fn crowd(n: u32) -> Plan {
    let mut plan = plan(
        "[containers.web01]\nin = [{ action = \"allow\", proto = \"tcp\", ports = \"80,443,8000-8100\", from = [\"10.0.0.0/8\", \"192.168.0.0/16\"] }, { action = \"deny\", proto = \"tcp\", ports = \"25\" }]\ndefault-in = \"deny\"",
    );
    let web = plan.container("web01").unwrap().clone();
    plan.containers.extend((0..n).map(|n| ContainerPlan {
        id: ContainerId::from_random(0x1000 + n),
        name: Name::new(&format!("many{n}")).unwrap(),
        links: vec![LinkPlan { link: format!("ng{:08x}", 0x1000 + n), bridge: Some("lan0".into()) }],
        addresses: vec![std::net::Ipv4Addr::from(0x0a07_1000 + n).into()],
        ..web.clone()
    }));
    plan
}

#[test]
fn a_change_costs_the_same_among_a_thousand_containers() {
    in_new_netns(|| {
        bridge("lan0", 1, &[]);
        let mut owned = owned();
        owned.bridges.get_mut("lan0").unwrap().push("10.7.0.0/16".parse().unwrap());
        let mut cost = Vec::new();
        for n in [1, 1000] {
            let plan = crowd(n);
            let start = Instant::now();
            apply_all(&owned, &plan).unwrap();
            println!("{n} containers: all in {:?}", start.elapsed());
            let start = Instant::now();
            assert!(matches(&owned, &plan).unwrap());
            println!("{n} containers: looked over in {:?}", start.elapsed());
            let mut other = plan.clone();
            other.containers[0].default_in = None;
            let changes = [Change::between(&plan, &other).unwrap(), Change::between(&other, &plan).unwrap()];
            let start = Instant::now();
            for _ in 0..10 {
                changes.iter().for_each(|change| apply_change(&owned, change).unwrap());
            }
            cost.push(start.elapsed() / 20);
            let start = Instant::now();
            let links = &plan.containers[0].links;
            (0..10).for_each(|_| add_links(&owned, &plan.containers[0].id, links).unwrap());
            println!(
                "{n} containers: one changed in {:?}, links known in {:?}",
                cost.last().unwrap(),
                start.elapsed() / 10
            );
        }
        assert!(cost[1] < 2 * cost[0] + Duration::from_millis(10), "{cost:?}");
    });
}
