//! Firewalls among real machines: a host, guests on two networks and one by a link of its own, and a
//! machine beyond. Judged by connections and by what the kernel lists.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use super::*;
use crate::model::firewall::block::KernelBlock;
use crate::model::firewall::fixture::{facts, plan, policy};
use crate::model::firewall::plan::NetworkPlan;
use crate::model::mac::Mac;
use crate::model::name::Name;
use crate::model::network::Nat;
use crate::sys::netns_fixture::{Netns, in_new_netns, pings, run};

/// Whoever has the networks of the fixture.
pub fn owned() -> Owned {
    let nets = |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect();
    Owned {
        owner: "test".to_owned(),
        instance: "test".to_owned(),
        bridges: BTreeMap::from([
            ("lan0".to_owned(), nets(&["10.7.0.0/24", "fd07::/64"])),
            ("old0".to_owned(), nets(&["10.8.0.0/24"])),
            ("br9".to_owned(), nets(&[])),
        ]),
        routed: nets(&["192.0.2.0/24"]),
        link: Box::new(|id, link| link.starts_with(&format!("ng{id}"))),
        ports: Ports::all(),
        nat: Some(Vec::new()),
    }
}

/// The machines; the calling thread stands in the host's namespace.
struct Lab {
    web: Netns,
    db: Netns,
    old: Netns,
    far: Netns,
    beyond: Netns,
}

/// No waiting for addresses that somebody else might have.
fn settle() {
    for scope in ["all", "default"] {
        set(&format!("ipv6/conf/{scope}/accept_dad"), "0");
    }
}

fn bridge(name: &str, mac: u8, addresses: &[&str]) {
    run("ip", &format!("link add {name} address 02:aa:00:00:00:{mac:02x} type bridge"));
    run("ip", &format!("link set {name} up"));
    for address in addresses {
        run("ip", &format!("address add {address} dev {name} nodad"));
    }
}

/// A machine at the other end of the host's link `link`.
fn machine(link: &str, addresses: &[&str], router: &[&str]) -> Netns {
    let machine = Netns::new();
    machine.run(settle);
    let path = format!("/proc/{}/fd/{}", std::process::id(), machine.as_fd().as_raw_fd());
    run("ip", &format!("link add {link} type veth peer name eth0 netns {path}"));
    run("ip", &format!("link set {link} up"));
    machine.run(|| {
        run("ip", "link set lo up");
        run("ip", "link set eth0 up");
        for address in addresses {
            run("ip", &format!("address add {address} dev eth0 nodad"));
        }
        for router in router {
            run("ip", &format!("route add default via {router} dev eth0 onlink"));
        }
    });
    machine
}

fn port(link: &str, bridge: &str, addresses: &[&str], router: &[&str]) -> Netns {
    let machine = machine(link, addresses, router);
    run("ip", &format!("link set {link} master {bridge}"));
    machine
}

fn set(key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{key}"), value).unwrap();
}

/// Whether br_netfilter has bridged packets pass the rules of the family inet, as a host with Docker
/// does.
fn pass_bridged(on: bool) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        if std::fs::exists(&path).unwrap() {
            std::fs::write(path, if on { "1" } else { "0" }).unwrap();
        }
    }
}

impl Lab {
    fn new() -> Self {
        pass_bridged(false);
        settle();
        run("ip", "link set lo up");
        bridge("lan0", 1, &["10.7.0.1/24", "fd07::1/64"]);
        bridge("old0", 2, &["10.8.0.1/24"]);
        let lan = ["10.7.0.1", "fd07::1"];
        let lab = Self {
            web: port("ng00000001", "lan0", &["10.7.0.2/24", "fd07::2/64"], &lan),
            db: port("ng00000002", "lan0", &["10.7.0.3/24", "fd07::3/64"], &lan),
            old: port("ng00000003", "old0", &["10.8.0.2/24"], &["10.8.0.1"]),
            far: machine("ng00000004", &["192.0.2.7/32"], &["169.254.0.1"]),
            beyond: machine(
                "up0",
                &["203.0.113.2/24", "203.0.113.66/24", "2001:db8::2/64"],
                &["203.0.113.1", "2001:db8::1"],
            ),
        };
        run("ip", "address add 169.254.0.1/32 dev ng00000004");
        run("ip", "route add 192.0.2.7 dev ng00000004");
        for address in ["203.0.113.1/24", "203.0.113.9/24", "2001:db8::1/64"] {
            run("ip", &format!("address add {address} dev up0 nodad"));
        }
        set("ipv4/ip_forward", "1");
        set("ipv6/conf/all/forwarding", "1");
        lab
    }

    /// Every guest, and the machine beyond, says at these ports whom it hears.
    fn serve(&self, ports: &[u16]) {
        for machine in [&self.web, &self.db, &self.old, &self.far, &self.beyond] {
            machine.run(|| serve_here(ports));
        }
    }
}

/// Answers connections for as long as the test lasts.
fn serve_here(ports: &[u16]) {
    for port in ports {
        let listener = TcpListener::bind(("::", *port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                std::thread::spawn(move || {
                    let _ = stream.write_all(format!("{peer}\n").as_bytes());
                    let mut bytes = [0; 64];
                    while let Ok(n @ 1..) = stream.read(&mut bytes) {
                        let _ = stream.write_all(&bytes[..n]);
                    }
                });
            }
        });
    }
}

/// A connection, and as whom the other end hears it.
fn connect(to: &str) -> Result<(TcpStream, String), ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(600)).map_err(|e| e.kind())?;
    stream.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != [b'\n'] {
        if stream.read(&mut byte).map_err(|e| e.kind())? == 0 {
            return Err(ErrorKind::UnexpectedEof);
        }
        line.extend(byte);
    }
    Ok((stream, String::from_utf8(line).unwrap().trim().to_owned()))
}

fn heard_as(from: &Netns, to: &str) -> Result<String, ErrorKind> {
    from.run(|| connect(to).map(|(_, name)| name))
}

fn reaches(from: &Netns, to: &str) -> bool {
    heard_as(from, to).is_ok()
}

fn still_there(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok()
}

fn apply(text: &str) -> Plan {
    let plan = plan(text);
    apply_all(&owned(), &plan).unwrap();
    assert!(is_in_place("test", "test").unwrap() && matches(&owned(), &plan).unwrap());
    plan
}

fn change(from: &Plan, text: &str) -> Plan {
    let to = plan(text);
    apply_change(&owned(), &Change::between(from, &to).unwrap()).unwrap();
    assert!(matches(&owned(), &to).unwrap(), "{}", run("nft", "list ruleset"));
    to
}

fn blocked(address: &str, container: Option<u32>, seconds: u64) -> KernelBlock {
    KernelBlock { address: address.parse().unwrap(), container, seconds }
}

fn count(chain: &str, rule: &str) -> u64 {
    let all = rule_counts("test").unwrap();
    all.iter().find(|c| c.chain == chain && c.rule == rule).map_or(0, |c| c.packets)
}

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
            let listed = crate::sys::netns_fixture::json("ip", "-j -6 address show dev eth0 scope link");
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
fn forwards_lead_to_guests_from_wherever_one_asks() {
    let text = |extra: &str| {
        format!(
            r#"
[containers.web01]
default-in = "deny"
{extra}
[[forwards]]
container = "web01"
proto = "tcp"
listen = "8080-8081"
to = "80-81"
[[forwards]]
container = "old01"
proto = "tcp"
listen = "9090"
address = "203.0.113.9"
to = "80"
"#
        )
    };
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80, 81]);
        let before = apply(&text(""));
        assert_eq!(
            heard_as(&lab.beyond, "203.0.113.1:8080").unwrap(),
            "203.0.113.2",
            "with the asker's address"
        );
        assert_eq!(heard_as(&lab.beyond, "[2001:db8::1]:8081").unwrap(), "2001:db8::2");
        assert!(!reaches(&lab.beyond, "10.7.0.2:80"), "its own address is closed");
        assert!(reaches(&lab.beyond, "203.0.113.9:9090") && !reaches(&lab.beyond, "203.0.113.1:9090"));
        assert!(connect("203.0.113.1:8080").is_ok() && connect("[2001:db8::1]:8080").is_ok(), "the host");
        assert!(connect("127.0.0.1:8080").is_err(), "not by the loopback");
        for host in ["203.0.113.1:8080", "10.7.0.1:8080"] {
            assert_eq!(heard_as(&lab.db, host).as_deref(), Ok("10.7.0.1"), "a neighbour at {host}");
            assert_eq!(heard_as(&lab.web, host).as_deref(), Ok("10.7.0.1"), "itself at {host}");
        }
        assert_eq!(heard_as(&lab.old, "203.0.113.1:8080").unwrap(), "10.8.0.2", "another network");
        let closed = change(&before, &text("in = [{ action = \"deny\", proto = \"tcp\", ports = \"80\" }]"));
        assert!(!reaches(&lab.beyond, "203.0.113.1:8080"), "an explicit rule wins");
        assert!(reaches(&lab.beyond, "203.0.113.1:8081"));
        change(&closed, "[containers.web01]\ndefault-in = \"deny\"");
        assert!(!reaches(&lab.beyond, "203.0.113.1:8081") && !reaches(&lab.beyond, "203.0.113.9:9090"));
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
fn the_bridges_own_names_service_is_not_forwarded_away() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[53]);
        serve_here(&[53]);
        apply("[[forwards]]\ncontainer = \"old01\"\nproto = \"tcp\"\nlisten = \"53\"");
        assert_eq!(heard_as(&lab.beyond, "203.0.113.1:53").unwrap(), "203.0.113.2");
        let by_host = heard_as(&lab.old, "10.8.0.1:53").unwrap();
        assert_eq!(by_host, "10.8.0.2", "the host heard it, not the guest by the host");
        run("nft", "delete table inet test");
        assert_eq!(heard_as(&lab.old, "10.8.0.1:53").unwrap(), by_host);
    });
}

#[test]
fn guests_go_out_with_the_address_that_was_chosen_or_their_own() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80]);
        let mut plan = plan("");
        plan.networks[0].nat4 = Nat::To("203.0.113.9".parse().unwrap());
        plan.networks[1].nat4 = Nat::Off;
        let mut owned = owned();
        assert!(matches!(apply_all(&owned, &plan), Err(FirewallError::Refused(_))));
        owned.nat = None;
        apply_all(&owned, &plan).unwrap();
        assert_eq!(heard_as(&lab.web, "203.0.113.2:80").unwrap(), "203.0.113.9");
        assert_eq!(heard_as(&lab.old, "203.0.113.2:80").unwrap(), "10.8.0.2");
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
        order(&[blocked("203.0.113.0/24", None, 2)], &[one]);
        assert!(!reaches(&lab.beyond, "10.7.0.2:80"));
        assert_eq!(block_hits("test").unwrap()[0].address, net.address);
        std::thread::sleep(Duration::from_millis(1700));
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

#[test]
fn macs_are_those_of_bridges_that_are_there() {
    in_new_netns(|| {
        let plan = plan("[networks.lan]\ndefault-in = \"deny\"");
        assert!(macs(&plan).is_empty());
        bridge("lan0", 1, &[]);
        bridge("old0", 2, &[]);
        assert_eq!(macs(&plan), BTreeMap::from([("lan0".to_owned(), Mac([2, 0xaa, 0, 0, 0, 1]))]));
    });
}
