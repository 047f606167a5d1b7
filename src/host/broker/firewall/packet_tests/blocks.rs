//! Blocked addresses.

use std::time::Instant;

use super::*;

#[test]
fn blocks_cut_what_is_there_and_keep_off_what_comes() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80]);
        let empty = BlockOrder::default();
        assert!(matches!(block(&owned(), &empty), Err(FirewallError::NotInPlace)));
        apply("");
        let order = |add: &[KernelBlock], remove: &[KernelBlock]| {
            let members = vec![(ContainerId::from_random(1), vec!["10.7.0.2".parse().unwrap()])];
            block(&owned(), &BlockOrder { add: add.to_vec(), remove: remove.to_vec(), members }).unwrap();
        };
        let (mut stream, _) = lab.beyond.run(|| connect("10.7.0.2:80")).unwrap();
        assert!(still_there(&mut stream));
        let (one, net) = (blocked("203.0.113.2/32", None, 0), blocked("203.0.113.0/24", None, 60));
        order(&[one, net], &[]);
        assert!(!still_there(&mut stream), "a connection is cut");
        assert!(!reaches(&lab.beyond, "10.7.0.2:80") && !reaches(&lab.beyond, "10.8.0.2:80"));
        assert!(!reaches(&lab.web, "203.0.113.2:80"), "nor is it reached");
        assert!(reaches(&lab.beyond, "[fd07::2]:80") && lab.beyond.run(|| pings("203.0.113.1")));
        let hits = block_hits("test").unwrap();
        assert!(hits.len() == 1 && hits[0].address == one.address && hits[0].packets > 3, "{hits:?}");
        // The wider one goes on without the narrower, and then ends by itself.
        order(&[blocked("203.0.113.0/24", None, 4)], &[one]);
        assert!(!reaches(&lab.beyond, "10.7.0.2:80"));
        assert_eq!(block_hits("test").unwrap()[0].address, net.address);
        std::thread::sleep(Duration::from_millis(3700));
        assert!(reaches(&lab.beyond, "10.7.0.2:80"));
        order(&[], &[one, net]);

        order(&[blocked("203.0.113.0/25", Some(1), 0), blocked("2001:db8::/32", None, 60)], &[]);
        assert!(!reaches(&lab.beyond, "10.7.0.2:80") && !reaches(&lab.web, "203.0.113.2:80"));
        assert!(reaches(&lab.beyond, "10.7.0.3:80"), "for one container only");
        assert!(!reaches(&lab.beyond, "[fd07::3]:80"));
        order(&[blocked("2001:db8::/32", None, 1)], &[]);
        order(&[blocked("2001:db8::/32", None, 0)], &[]);
        std::thread::sleep(Duration::from_millis(1200));
        assert!(!reaches(&lab.beyond, "[fd07::3]:80"), "it holds anew, for longer");
        apply("[containers.web01]\ndefault-in = \"allow\"");
        assert!(!reaches(&lab.beyond, "10.7.0.2:80"), "a policy that is applied leaves blocks alone");
        let (id, address) = (ContainerId::from_random(1), "10.7.0.2".parse().unwrap());
        remove_container(&owned(), &id, &["ng00000001".to_owned()], &[address, "fd07::2".parse().unwrap()])
            .unwrap();
        assert!(reaches(&lab.beyond, "10.7.0.2:80"));
        let listed = run("nft", "list ruleset");
        assert!(!listed.contains("-00000001") && !listed.contains("ng00000001"), "{listed}");
        let foreign = BlockOrder {
            members: vec![(ContainerId::from_random(1), vec!["9.9.9.9".parse().unwrap()])],
            ..empty
        };
        assert!(matches!(block(&owned(), &foreign), Err(FirewallError::Refused(_))));
    });
}

#[test]
fn a_hundred_thousand_addresses_are_blocked_quickly() {
    in_new_netns(|| {
        apply_all(&owned(), &plan("")).unwrap();
        let one = |n: u32| blocked(&std::net::Ipv4Addr::from((11 << 24) + n).to_string(), None, 3600);
        let add: Vec<_> = (0..100_000).map(one).collect();
        let order = BlockOrder { add, ..BlockOrder::default() };
        let start = Instant::now();
        block(&owned(), &order).unwrap();
        let all = start.elapsed();
        let start = Instant::now();
        block(&owned(), &BlockOrder { add: vec![one(100_001)], ..BlockOrder::default() }).unwrap();
        let more = start.elapsed();
        let start = Instant::now();
        block(&owned(), &BlockOrder { remove: order.add, ..BlockOrder::default() }).unwrap();
        println!("100,000 blocks in {all:?}, one more in {more:?}, taken back in {:?}", start.elapsed());
        assert!(all < Duration::from_secs(3) && more < Duration::from_millis(50), "{all:?} {more:?}");
        assert!(block_hits("test").unwrap().is_empty());
    });
}
