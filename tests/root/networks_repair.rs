//! What others on the host do to networks and links is put back; what waits for a guest's next start
//! stands in nobody's way. On hosts whose network is their own.

use serde_json::Value;

use super::errors::REFUSED;
use super::host::{Host, told, until};
use super::hostd_users::HostdUsers;

const WEB: &str = "10.20.0.10";
const DB: &str = "10.20.0.11";

/// A host with a network `dmz` and two guests on it.
fn site() -> Host {
    let host = Host::alone();
    host.ok(&["network", "create", "dmz", "ipv4.address=10.20.0.1/24", "ipv6.address=none"]);
    for (name, ip) in [("web", WEB), ("db", DB)] {
        host.ok(&["launch", "tiny", name, "--network", "dmz", "--ip", ip]);
    }
    until(5, "the guests answer", || host.net().pings(WEB) && host.net().pings(DB));
    host
}

fn link(host: &Host, name: &str) -> String {
    host.info(name)["host_link"].as_str().expect("a link").to_owned()
}

fn words(host: &Host, words: &str) -> String {
    host.ok(&words.split(' ').collect::<Vec<_>>())
}

/// What a command says beside its output.
fn noted(host: &Host, words: &str) -> String {
    let output = host.nagaya(&words.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{words}: {}", told(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn notes(host: &Host, name: &str) -> String {
    host.info(name)["notes"].to_string()
}

fn mtu(host: &Host, link: &str) -> u64 {
    host.net().json("ip", &["-j", "link", "show", link])[0]["mtu"].as_u64().expect("an MTU")
}

#[test]
fn running_guests_are_reached_again_whatever_was_done_to_their_links() {
    let host = site();
    let (web, db) = (link(&host, "web"), link(&host, "db"));
    words(&host, "firewall allow web tcp 80");
    // What waits for the next start is not to be put in place before it.
    words(&host, "device set web eth0 ipv4.address=10.20.0.99");
    for harm in [
        "ip link del dmz".to_owned(),
        format!("ip link set {web} nomaster; ip link set {db} nomaster"),
        format!("ip link set {web} down; ip link set {db} down"),
        "ip address flush dev dmz; ip link set dmz down".to_owned(),
        format!("tc qdisc del dev {web} clsact; ip link set {db} down; ip link del dmz; nft flush ruleset"),
    ] {
        host.net().sh(&harm);
        assert!(!host.net().pings(WEB) || !host.net().pings(DB), "{harm}");
        words(&host, "network repair");
        for guest in [WEB, DB] {
            until(5, &harm, || host.net().pings(guest));
        }
        assert!(host.net().sh(&format!("tc filter show dev {web} ingress")).contains("bpf"), "{harm}");
        assert_eq!(notes(&host, "web").matches("network repair").count(), 0, "{harm}");
    }
    host.exec("web", &["ping", "-c1", "-W2", DB]);
    host.net().sh("sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.dmz.forwarding=0");
    words(&host, "network repair");
    let set = host.net().sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/dmz/forwarding");
    assert_eq!(set, "1\n1\n");
    // Where all is well nothing is changed or said.
    let seen =
        || host.net().sh("ip address; tc qdisc; bridge -d link; nft -a list ruleset | grep -v counter");
    let before = seen();
    assert_eq!(noted(&host, "network repair"), "");
    assert!(seen() == before, "a repair of nothing changes nothing");
}

#[test]
fn a_guest_whose_link_is_gone_is_named_and_a_restart_helps() {
    let host = site();
    host.net().sh(&format!("ip link del {}; ip link set {} down", link(&host, "web"), link(&host, "db")));
    assert!(notes(&host, "web").contains("is gone") && notes(&host, "db").contains("is down"));
    let doctor = String::from_utf8_lossy(&host.nagaya(&["doctor"]).stdout).into_owned();
    assert!(doctor.contains("'db'") && doctor.contains("and 1 more"), "{doctor}");
    assert!(doctor.contains("nagaya network repair"), "{doctor}");
    let said = host.fails(REFUSED, &["network", "repair"]);
    assert!(said.contains("'web'") && said.contains("nagaya restart web") && !said.contains("db"), "{said}");
    until(5, "the other one is reached", || host.net().pings(DB));
    // What is changed of it meanwhile is for the next start.
    words(&host, "device set web eth0 limits.egress=10Mbit");
    words(&host, "restart --force web");
    until(5, "it is reached", || host.net().pings(WEB));
    words(&host, "network repair");
    assert!(host.net().sh("ip -o link show type ifb").contains("ig"));
}

#[test]
fn a_users_guest_is_reached_again_too() {
    let users = HostdUsers::alone(1);
    let ann = users.granted(0);
    ann.ok(&["launch", "tiny", "web"]);
    let (address, link) = (ann.address("web"), ann.info("web")["host_link"].as_str().unwrap().to_owned());
    until(5, "it answers", || users.host.net().pings(&address));
    for harm in [
        format!("ip link set {link} nomaster"),
        format!("ip link del {}", ann.info("web")["bridge"].as_str().unwrap()),
    ] {
        users.host.net().sh(&harm);
        assert!(!users.host.net().pings(&address), "{harm}");
        ann.ok(&["network", "repair"]);
        until(5, &harm, || users.host.net().pings(&address));
    }
}

#[test]
fn a_device_that_waits_for_the_next_start_blocks_nothing_and_can_be_taken_back() {
    let host = site();
    words(&host, "network create lan ipv4.address=10.21.0.1/24 ipv6.address=none");
    assert!(!noted(&host, "device add web eth1 nic network=lan").contains("next start"));
    assert!(noted(&host, "device set web eth1 hwaddr=02:00:00:00:00:77").contains("next start"));
    for pair in [
        "ipv4.nat=false",
        "mtu=1400",
        "security.port_isolation=true",
        "user.x=1",
        "ipv4.nat.address=10.20.0.1",
    ] {
        words(&host, &format!("network set lan {pair}"));
        words(&host, &format!("network set dmz {pair}"));
    }
    let port = || host.net().json("bridge", &["-j", "-d", "link", "show", "dev", &link(&host, "web")]);
    assert_eq!(port()[0]["isolated"], true);
    assert!(notes(&host, "web").contains("'eth1'"), "{}", notes(&host, "web"));
    words(&host, "network repair");
    words(&host, "device remove web eth1");
    assert!(!notes(&host, "web").contains("'eth1'"));
    words(&host, "device add web eth1 nic network=lan mtu=1400");
    assert!(noted(&host, "device set web eth1 mtu=1300").contains("next start"));
    assert!(notes(&host, "web").contains("'eth1' changes"));
    assert!(!noted(&host, "device set web eth1 mtu=1400").contains("next start"));
    assert!(!notes(&host, "web").contains("'eth1'"));
    words(&host, "device remove web eth1");
    words(&host, "network set lan mtu=1300");
}

#[test]
fn an_mtu_that_is_taken_back_or_refused_leaves_no_trace() {
    let host = site();
    words(&host, "network create lan ipv4.address=10.21.0.1/24 ipv6.address=none mtu=1400");
    assert_eq!(mtu(&host, "lan"), 1400);
    words(&host, "network unset lan mtu");
    assert_eq!(mtu(&host, "lan"), 1500);
    // The bridge is changed before somebody else's program on port 53 refuses the rest.
    let _other = super::lab::serve(host.net().pid(), &[53]);
    let before = host.ok(&["network", "show", "dmz"]);
    let said = host.fails(3, &["network", "set", "dmz", "mtu=1400", "dns.domain=dmz.example"]);
    assert!(said.contains("53"), "{said}");
    assert_eq!((mtu(&host, "dmz"), host.ok(&["network", "show", "dmz"])), (1500, before));
}

#[test]
fn guests_that_see_a_change_at_their_next_start_are_listed() {
    let host = site();
    words(&host, "create tiny idle --network dmz");
    for pair in ["mtu=1400", "ipv4.address=10.20.0.254/24"] {
        let said = noted(&host, &format!("network set dmz {pair}"));
        assert!(said.contains("next start of: db, web (nagaya restart db web)"), "{pair}: {said}");
    }
    words(&host, "restart --force db");
    assert!(!notes(&host, "db").contains("next start") && notes(&host, "web").contains("'eth0' changes"));
    assert!(noted(&host, "network set dmz dns.domain=dmz.example").contains("next start of: db, web"));
    assert!(notes(&host, "db").contains("DNS servers"));
    assert!(!noted(&host, "network set dmz ipv4.nat=false").contains("next start"));
    let said: Value = serde_json::from_str(&words(&host, "network show dmz --format json")).expect("JSON");
    assert_eq!(said["config"]["dns.domain"], "dmz.example");
}

#[test]
fn a_host_without_ipv6_says_so() {
    let host = Host::alone();
    let hidden = |args: &str| {
        let script = format!("mount -t tmpfs none /proc/sys/net && exec \"$0\" {args}");
        let mut command = host.program("unshare", &["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_nagaya")]);
        command.env("NAGAYA_INSTANCE", host.name());
        super::host::Running::start(command, b"").wait()
    };
    for args in [
        "network create n6 ipv4.address=none ipv6.address=fd00:6::1/64",
        "device add idle wan nic nictype=routed ipv6.address=2001:db8::9",
    ] {
        host.nagaya(&["create", "tiny", "idle", "--network", "none"]);
        let output = hidden(args);
        assert!(told(&output).contains("this host has no IPv6"), "{args}: {}", told(&output));
    }
}
