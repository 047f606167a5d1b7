//! Guests of one bridge, whose packets are led through the host.

use super::routing::macs;
use super::*;
use crate::model::firewall::fixture::{facts, policy};
use crate::model::firewall::plan::LinkPlan;
use crate::model::mac::Mac;
use crate::sys::net::hardware_address;

#[test]
fn neighbours_have_no_way_around_the_host() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80, 81]);
        apply(
            "[containers.web01]\ndefault-in = \"deny\"\nin = [{ action = \"allow\", proto = \"tcp\", ports = \"80\" }]",
        );
        for address in ["10.7.0.2", "[fd07::2]"] {
            assert!(
                reaches(&lab.db, &format!("{address}:80")) && !reaches(&lab.db, &format!("{address}:81"))
            );
        }
        let inside = lab.web.run(|| UdpSocket::bind("0.0.0.0:5000").unwrap());
        inside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let heard = || inside.recv_from(&mut [0; 16]).is_ok();
        let say = || {
            lab.db.run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_broadcast(true).unwrap();
                socket.send_to(b"x", "10.7.0.2:5000").unwrap();
            });
        };
        say();
        assert!(!heard());
        // A frame to all, with one guest's address in it.
        lab.db.run(|| run("ip", "neigh replace 10.7.0.2 lladdr ff:ff:ff:ff:ff:ff dev eth0"));
        say();
        assert!(!heard());
        lab.db.run(|| run("ip", "neigh replace 10.7.0.2 lladdr 01:00:5e:00:00:01 dev eth0"));
        say();
        assert!(!heard());
        apply("");
        say();
        assert!(heard(), "without a policy, nothing is in the way of such a frame");
    });
}

#[test]
fn a_guests_link_local_address_is_no_way_around_either() {
    in_new_netns(|| {
        let lab = Lab::new();
        let local = lab.web.run(|| {
            let listed = crate::sys::net::netns_fixture::json("ip", "-j -6 address show dev eth0 scope link");
            let addresses = listed[0]["addr_info"].as_array().unwrap();
            addresses.iter().find_map(|a| a["local"].as_str()).unwrap().to_owned()
        });
        let ping = || lab.db.run(|| pings(&format!("{local}%eth0")));
        apply("");
        assert!(ping());
        apply("[containers.web01]\ndefault-in = \"deny\"");
        assert!(!ping());
        assert!(lab.db.run(|| pings("fe80::aa:ff:fe00:1%eth0")), "the host's is within reach");
    });
}

#[test]
fn where_bridged_packets_meet_rules_anyway_the_same_holds() {
    in_new_netns(|| {
        let lab = Lab::new();
        pass_bridged(true);
        lab.serve(&[80, 81]);
        let forward =
            "[[forwards]]\ncontainer = \"web01\"\nproto = \"tcp\"\nlisten = \"8080\"\nto = \"80\"\n";
        let before = apply(forward);
        assert!(reaches(&lab.db, "10.7.0.2:80") && reaches(&lab.db, "[fd07::2]:81"));
        assert_eq!(heard_as(&lab.db, "10.7.0.1:8080").as_deref(), Ok("10.7.0.1"));
        assert!(
            Change::between(&before, &plan(&format!("{forward}[containers.web01]\ndefault-in = \"deny\"\n")))
                .is_none()
        );
        apply(&format!(
            "{forward}[containers.web01]\ndefault-in = \"deny\"\nin = [{{ action = \"allow\", proto = \"tcp\", ports = \"81\" }}]"
        ));
        assert!(!reaches(&lab.db, "10.7.0.2:80") && !reaches(&lab.db, "[fd07::2]:80"));
        assert!(reaches(&lab.db, "10.7.0.2:81") && reaches(&lab.db, "[fd07::2]:81"));
        assert_eq!(heard_as(&lab.db, "203.0.113.1:8080").as_deref(), Ok("10.7.0.1"));
        // There the bridge itself sends it back by the port that it came by.
        run("bridge", "link set dev ng00000001 hairpin on");
        assert_eq!(heard_as(&lab.web, "203.0.113.1:8080").as_deref(), Ok("10.7.0.1"));
    });
}

#[test]
fn macs_are_those_that_bridges_have_or_will_have() {
    in_new_netns(|| {
        let plan = plan("[networks.lan]\ndefault-in = \"deny\"");
        let coming = hardware_address::of_new_bridge("lan0");
        assert_eq!(macs(&plan), BTreeMap::from([("lan0".to_owned(), coming)]));
        bridge("lan0", 1, &[]);
        bridge("old0", 2, &[]);
        assert_eq!(macs(&plan), BTreeMap::from([("lan0".to_owned(), Mac([2, 0xaa, 0, 0, 0, 1]))]));
    });
}

#[test]
fn links_become_known_one_by_one() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80, 81]);
        let mut early = facts();
        early.containers.retain(|member| !["db01", "far01"].contains(&member.name.as_str()));
        let text = "[containers.web01]\ndefault-in = \"deny\"";
        apply_all(&owned(), &Plan::of(&policy(text), &early).unwrap()).unwrap();
        assert!(reaches(&lab.db, "10.7.0.2:80"), "its port is not known yet");
        let whole = plan(text);
        for name in ["db01", "far01"] {
            let container = whole.container(name).unwrap();
            add_links(&owned(), &container.id, &container.links).unwrap();
            add_links(&owned(), &container.id, &container.links).unwrap();
        }
        assert!(!reaches(&lab.db, "10.7.0.2:80"));
        run("ip", "link set lan0 address 02:aa:00:00:00:77");
        assert!(repair(&owned(), &whole).unwrap(), "the bridge is another one");
        assert!(!reaches(&lab.db, "10.7.0.2:80") && lab.db.run(|| pings("10.7.0.1")));
        assert!(traffic("test").unwrap().contains_key("ng00000004"));
        assert!(matches(&owned(), &whole).unwrap());
        let strange = [LinkPlan { link: "eth0".into(), bridge: None }];
        let refused = add_links(&owned(), &ContainerId::from_random(1), &strange);
        assert!(matches!(refused, Err(FirewallError::Refused(_))));
    });
}
