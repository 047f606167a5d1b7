//! What rules let through, in which order, and by which ways.

use super::*;

#[test]
fn without_a_policy_everything_is_open() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80]);
        apply("");
        assert!(reaches(&lab.beyond, "10.7.0.2:80") && reaches(&lab.beyond, "[fd07::2]:80"));
        assert!(reaches(&lab.db, "10.7.0.2:80") && reaches(&lab.old, "10.7.0.2:80"));
        assert_eq!(heard_as(&lab.web, "203.0.113.2:80").unwrap(), "203.0.113.1");
        assert_eq!(heard_as(&lab.web, "[2001:db8::2]:80").unwrap(), "2001:db8::1");
        assert_eq!(
            heard_as(&lab.web, "10.8.0.2:80").unwrap(),
            "10.7.0.2",
            "networks of one owner see each other"
        );
        let hidden = run("nft", "list chain bridge test prerouting");
        assert!(hidden.contains("vmap @routed"), "{hidden}");
        assert!(connect("10.7.0.2:80").is_ok());
    });
}

#[test]
fn rules_of_a_container_its_groups_and_its_network_hold_in_their_order() {
    const POLICY: &str = r#"
[sets]
admins = ["203.0.113.66", "2001:db8::/64"]
[groups.web]
in = [{ action = "allow", proto = "tcp", ports = "80,443" }]
[networks.lan]
default-in = "deny"
in = [{ action = "allow", proto = "icmp" }, { action = "allow", proto = "tcp", ports = "7000-7100" }]
[containers.web01]
groups = ["web"]
in = [
    { action = "deny", from = ["203.0.113.66"], proto = "tcp", ports = "80" },
    { action = "allow", proto = "tcp", ports = "22", from = ["set:admins"], log = true },
    { action = "reject", proto = "tcp", ports = "7001" },
]
"#;
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[22, 80, 81, 7000, 7001]);
        apply(POLICY);
        assert!(reaches(&lab.beyond, "10.7.0.2:80"), "by the group");
        assert!(!reaches(&lab.beyond, "10.7.0.2:22"), "not in the set");
        assert!(reaches(&lab.beyond, "[fd07::2]:22"), "in the set");
        lab.beyond.run(|| run("ip", "route add 10.7.0.0/24 via 203.0.113.1 src 203.0.113.66"));
        assert!(reaches(&lab.beyond, "10.7.0.2:22"), "in the set");
        assert_eq!(heard_as(&lab.beyond, "10.7.0.2:80"), Err(ErrorKind::TimedOut), "by its own rule 1");
        assert!(!reaches(&lab.beyond, "10.7.0.2:81"), "by the network's default");
        assert!(reaches(&lab.beyond, "10.7.0.2:7000"), "by the network");
        assert_eq!(heard_as(&lab.beyond, "10.7.0.2:7001"), Err(ErrorKind::ConnectionRefused));
        assert!(lab.beyond.run(|| pings("10.7.0.2") && pings("fd07::2")));
        assert!(reaches(&lab.beyond, "10.8.0.2:81"), "another network");
        // The other guest of the network has the network's word only.
        assert!(!reaches(&lab.beyond, "10.7.0.3:80") && reaches(&lab.beyond, "10.7.0.3:7001"));
        assert!(connect("10.7.0.2:81").is_ok(), "the host itself always reaches its guests");
        assert!(reaches(&lab.web, "203.0.113.2:81"), "answers to a guest's own connections come back");
        assert!(count("c-00000001-in", "rule 2") > 0 && count("c-00000001-in", "rule 3") > 0);
        assert!(count("g-web-in", "rule 1") > 0 && count("d-lan0-in", "default") > 0);
    });
}

#[test]
fn a_containers_own_default_goes_before_its_networks() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80, 81]);
        apply(
            r#"
[networks.lan]
default-in = "deny"
in = [{ action = "deny", proto = "tcp", ports = "81" }]
[containers.web01]
default-in = "allow"
[containers.far01]
default-in = "reject"
in = [{ action = "allow", proto = "tcp", ports = "80" }]
"#,
        );
        assert!(reaches(&lab.beyond, "10.7.0.2:80") && !reaches(&lab.beyond, "10.7.0.3:80"));
        assert!(!reaches(&lab.beyond, "10.7.0.2:81"), "the network's rules come before the default");
        assert!(reaches(&lab.old, "192.0.2.7:80"), "a guest by a link of its own");
        assert_eq!(heard_as(&lab.old, "192.0.2.7:81"), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn what_leaves_a_guest_is_ruled_too_also_to_the_host() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80, 443]);
        serve_here(&[80, 53]);
        let answers = UdpSocket::bind("0.0.0.0:53").unwrap();
        apply(
            r#"
[containers.web01]
default-out = "deny"
out = [{ action = "allow", proto = "tcp", ports = "443", to = ["203.0.113.0/24"] }]
"#,
        );
        assert!(reaches(&lab.web, "203.0.113.2:443") && !reaches(&lab.web, "203.0.113.2:80"));
        assert!(!reaches(&lab.web, "10.7.0.1:80") && !reaches(&lab.web, "203.0.113.1:80"), "the host");
        assert!(reaches(&lab.web, "10.7.0.1:53") && reaches(&lab.web, "[fd07::1]:53"), "names");
        assert!(!reaches(&lab.web, "10.7.0.3:80") && !reaches(&lab.web, "[fd07::3]:80"), "its neighbour");
        assert!(reaches(&lab.db, "10.7.0.2:80"), "and the neighbour has answers");
        assert!(reaches(&lab.db, "10.7.0.1:80"));
        lab.web.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(b"name?", "10.7.0.1:53").unwrap();
        });
        answers.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert_eq!(answers.recv_from(&mut [0; 16]).unwrap().1.ip().to_string(), "10.7.0.2");
    });
}
