//! Several networks and interfaces, on hosts whose network is their own.

use serde_json::{Value, json};

use super::host::{Host, until};
use super::lab::{self, Netns};

/// A program's JSON, run by the host's tools in the guest's network namespace.
fn ip_in(host: &Host, name: &str, args: &[&str]) -> Value {
    let init = host.init(name).to_string();
    host.net().json("nsenter", &[&["-t", &init, "-n", "ip", "-j"], args].concat())
}

/// Addresses of an interface of a guest, without link-local ones, with their prefix lengths.
fn addresses(host: &Host, name: &str, interface: &str) -> Vec<String> {
    let links = ip_in(host, name, &["address", "show", interface]);
    let of = |a: &Value| {
        let text = format!("{}/{}", a["local"].as_str().unwrap_or_default(), a["prefixlen"]);
        (a["scope"] == "global").then_some(text)
    };
    links[0]["addr_info"].as_array().expect("addresses").iter().filter_map(of).collect()
}

fn default_gateway(host: &Host, name: &str, family: &str) -> String {
    let routes = ip_in(host, name, &[family, "route", "show", "default"]);
    routes[0]["gateway"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_network_comes_and_goes_with_its_bridge() {
    let host = Host::alone();
    host.ok(&["network", "create", "dmz", "ipv4.address=10.20.0.1/24", "ipv6.address=fd00:20::1/64"]);
    let link = &host.net().json("ip", &["-j", "-d", "address", "show", "dmz"])[0];
    assert_eq!(link["linkinfo"]["info_kind"], "bridge");
    let found: Vec<&str> =
        link["addr_info"].as_array().unwrap().iter().filter_map(|a| a["local"].as_str()).collect();
    assert!(found.contains(&"10.20.0.1") && found.contains(&"fd00:20::1"), "{found:?}");
    let shown: Value =
        serde_json::from_str(&host.ok(&["network", "show", "dmz", "--format", "json"])).unwrap();
    assert_eq!((&shown["up"], &shown["config"]["ipv4.nat"]), (&json!(true), &json!("true")));

    host.ok(&["launch", "tiny", "web", "--network", "dmz", "--ip", "10.20.0.77"]);
    let said = host.fails(1, &["network", "delete", "dmz"]);
    assert!(said.contains("web"), "{said}");
    host.ok(&["delete", "--force", "web"]);
    host.ok(&["network", "delete", "dmz"]);
    assert!(!host.net().succeeds("ip", &["link", "show", "dmz"]));
    assert!(host.fails(1, &["network", "show", "dmz"]).contains("no network 'dmz'"));
}

#[test]
fn guests_have_the_addresses_that_were_asked_for_in_both_families() {
    let host = Host::alone();
    host.ok(&["network", "create", "dmz", "ipv4.address=10.20.0.1/24", "ipv6.address=fd00:20::1/64"]);
    let asked = ["--network", "dmz", "--ip", "10.20.0.77", "--ip", "fd00:20::abc"];
    host.ok(&[&["launch", "tiny", "web"], &asked[..]].concat());
    assert_eq!(addresses(&host, "web", "eth0"), ["10.20.0.77/24", "fd00:20::abc/64"]);
    assert_eq!(default_gateway(&host, "web", "-4"), "10.20.0.1");
    assert_eq!(default_gateway(&host, "web", "-6"), "fd00:20::1");
    for address in ["10.20.0.77", "fd00:20::abc"] {
        assert!(host.net().pings(address), "{address}");
    }
    // Free ones are the lowest, the same number in both.
    host.ok(&["launch", "tiny", "next", "--network", "dmz"]);
    assert_eq!(addresses(&host, "next", "eth0"), ["10.20.0.2/24", "fd00:20::2/64"]);
    host.exec("next", &["ping", "-c1", "-W2", "10.20.0.77"]);
    host.exec("next", &["ping", "-6", "-c1", "-W2", "fd00:20::abc"]);
    // The addresses stay through a stop, and a rename.
    host.ok(&["stop", "--force", "web"]);
    host.ok(&["rename", "web", "mail"]);
    host.ok(&["start", "mail"]);
    assert_eq!(addresses(&host, "mail", "eth0"), ["10.20.0.77/24", "fd00:20::abc/64"]);
    // Nothing that is wrong is taken, and nothing is left of the try.
    let launch = |ip: &str| host.fails(1, &["launch", "tiny", "odd", "--network", "dmz", "--ip", ip]);
    for (ip, reason) in [
        ("10.20.0.77", "belongs to another"),
        ("10.20.0.1", "not an address that a guest may have"),
        ("10.20.0.255", "not an address"),
        ("10.21.0.5", "not an address"),
        ("fd00:20::1", "not an address"),
        ("fd00:20::abc", "belongs to another"),
        ("fe80::1", "not an address"),
    ] {
        let said = launch(ip);
        assert!(said.contains(reason) && said.contains(ip), "{ip}: {said}");
    }
    assert_eq!(host.list().len(), 2);
}

#[test]
fn an_address_that_another_has_had_is_reached_at_once() {
    let host = Host::alone();
    host.ok(&["network", "create", "dmz", "ipv4.address=10.20.0.1/24", "ipv6.address=fd00:20::1/64"]);
    for _ in 0..2 {
        host.ok(&["launch", "tiny", "web", "--network", "dmz"]);
        for address in ["10.20.0.2", "fd00:20::2"] {
            until(4, "it answers", || host.net().pings(address));
        }
        host.ok(&["delete", "--force", "web"]);
    }
}

#[test]
fn a_container_has_several_interfaces_and_keeps_them_through_a_reboot() {
    let host = Host::alone();
    host.ok(&["network", "create", "dmz", "ipv4.address=10.20.0.1/24", "ipv6.address=none"]);
    host.ok(&["launch", "tiny", "web"]);
    host.ok(&["device", "add", "web", "lan", "nic", "network=dmz", "name=lan0", "ipv4.address=10.20.0.9"]);
    let check = || {
        assert_eq!(addresses(&host, "web", "lan0"), ["10.20.0.9/24"]);
        assert_eq!(addresses(&host, "web", "eth0").len(), 2);
        assert_eq!(ip_in(&host, "web", &["-4", "route", "show", "default"]).as_array().unwrap().len(), 1);
        assert!(host.net().pings("10.20.0.9") && host.net().pings(&host.address("web")));
    };
    check();
    let before = host.init("web");
    host.nagaya(&["exec", "web", "--", "kill", "-39", "1"]);
    until(20, "it has rebooted", || host.list()[0]["pid"].as_i64().is_some_and(|pid| pid as i32 != before));
    until(10, "its interfaces are there", || host.net().pings("10.20.0.9"));
    check();
    host.ok(&["restart", "--force", "web"]);
    check();
    host.ok(&["device", "remove", "web", "lan"]);
    assert!(!host.sh("web", "ip -o link").contains("lan0"));
}

#[test]
fn what_cannot_be_a_network_is_refused_by_its_field() {
    let host = Host::alone();
    host.net().sh("ip link add up0 type bridge; ip address add 192.168.77.1/24 dev up0; ip link set up0 up; ip address add fd00:77::1/64 dev up0");
    host.net().sh("ip link add br9 type bridge; ip address add 172.29.0.1/24 dev br9");
    host.ok(&["network", "create", "dmz", "ipv4.address=10.20.0.1/24", "ipv6.address=fd00:20::1/64"]);
    let before = host.ok(&["network", "list", "--format", "json"]);
    for (args, reason) in [
        (vec!["sixteen-letters0"], "name"),
        (vec!["Upper"], "name"),
        (vec!["a;b"], "name"),
        (vec!["none"], "name"),
        (vec!["n2", "ipv4.address=10.20.0.129/25"], "network 'dmz'"),
        (vec!["n2", "ipv4.address=192.168.77.9/26"], "192.168.77.0/24"),
        (vec!["n2", "ipv6.address=fd00:77::9/64"], "fd00:77::/64"),
        (vec!["n2", "ipv6.address=fd00:20::9/64"], "network 'dmz'"),
        (vec!["n2", "ipv4.address=10.30.0.0/24"], "ipv4.address"),
        (vec!["n2", "ipv4.address=10.30.0.1/31"], "ipv4.address"),
        (vec!["n2", "mtu=12"], "mtu"),
        (vec!["n2", "dns.domain=a b"], "dns.domain"),
        (vec!["n2", "ipv4.nat.address=fd00::1"], "ipv4.nat.address"),
        (vec!["n2", "vlan=7"], "vlan"),
        (vec!["n2", "parent=lo"], "lo"),
        (vec!["n2", "parent=missing"], "missing"),
        (vec!["br9"], "br9"),
        (vec!["dmz"], "dmz"),
    ] {
        let said = host.fails(1, &[vec!["network", "create"], args.clone()].concat());
        assert!(said.contains(reason), "{args:?}: {said}");
    }
    assert_eq!(host.ok(&["network", "list", "--format", "json"]), before);
    assert!(!host.net().succeeds("ip", &["link", "show", "n2"]));
    let foreign = host.net().sh("ip -br address show br9");
    assert!(foreign.contains("172.29.0.1/24"), "{foreign}");
}

#[test]
fn what_cannot_be_an_interface_is_refused_by_its_field() {
    let host = Host::alone();
    host.ok(&["create", "tiny", "web"]);
    host.ok(&["create", "tiny", "other"]);
    let taken = host.info("other")["mac"].as_str().unwrap().to_owned();
    let taken = format!("hwaddr={taken}");
    let before = host.ok(&["device", "list", "web", "--format", "json"]);
    for (args, reason) in [
        (vec!["eth1", "hwaddr=01:00:5e:00:00:01"], "hwaddr"),
        (vec!["eth1", &taken], "belongs to another"),
        (vec!["eth1", "network=nowhere"], "no network 'nowhere'"),
        (vec!["eth1", "name=sixteen-letters0"], "name"),
        (vec!["eth1", "name=eth0"], "eth0"),
        (vec!["eth0"], "eth0"),
        (vec!["Eth", "mtu=1500"], "device"),
        (vec!["eth1", "mtu=20"], "mtu"),
        (vec!["eth1", "limits.egress=quick"], "limits.egress"),
        (vec!["eth1", "nictype=macvlan", "parent=missing"], "missing"),
        (vec!["eth1", "nictype=routed"], "ipv4.address"),
        (
            vec!["eth1", "nictype=routed", &format!("ipv4.address={}", host.address("other"))],
            "inside network",
        ),
    ] {
        let mut command = vec!["device", "add", "web", args[0], "nic"];
        command.extend(&args[1..]);
        let said = host.fails(1, &command);
        assert!(said.contains(reason), "{args:?}: {said}");
    }
    assert_eq!(host.ok(&["device", "list", "web", "--format", "json"]), before);
}

#[test]
fn an_existing_bridge_is_joined_and_left_as_it_is() {
    let (host, world) = (Host::alone(), Netns::new());
    host.net().join("up0", &world, "up1");
    host.net().sh("ip link add br0 type bridge; ip link set br0 up; ip link set up0 master br0");
    world.sh("ip address add 192.0.2.1/24 dev up1");
    let before = host.net().sh("ip -br link show br0; ip -br address show br0");
    host.ok(&["network", "create", "lan", "parent=br0", "ipv4.address=192.0.2.1/24"]);
    host.ok(&["launch", "tiny", "web", "--network", "lan", "--ip", "192.0.2.50"]);
    assert_eq!(addresses(&host, "web", "eth0"), ["192.0.2.50/24"]);
    until(5, "the guest is on the host's bridge", || world.pings("192.0.2.50"));
    host.ok(&["delete", "--force", "web"]);
    host.ok(&["network", "delete", "lan"]);
    assert_eq!(host.net().sh("ip -br link show br0; ip -br address show br0"), before);
}

#[test]
fn a_routed_interface_has_a_public_address_without_a_bridge() {
    let (host, world) = (Host::alone(), Netns::new());
    host.net().join("up0", &world, "up1");
    host.net().sh("ip address add 198.51.100.1/24 dev up0; ip route add default via 198.51.100.254 dev up0; sysctl -qw net.ipv4.conf.all.forwarding=1");
    world.sh("ip address add 198.51.100.254/24 dev up1; ip route add 203.0.113.9/32 via 198.51.100.1");
    host.ok(&["create", "tiny", "web", "--network", "none"]);
    host.ok(&[
        "device",
        "add",
        "web",
        "wan",
        "nic",
        "nictype=routed",
        "ipv4.address=203.0.113.9",
        "ipv6.address=2001:db8::9",
    ]);
    host.ok(&["start", "web"]);
    assert_eq!(addresses(&host, "web", "eth0"), ["203.0.113.9/32", "2001:db8::9/128"]);
    assert!(host.net().pings("203.0.113.9") && host.net().pings("2001:db8::9"));
    until(5, "the world reaches it under its own address", || world.pings("203.0.113.9"));
    host.exec("web", &["ping", "-c1", "-W2", "198.51.100.254"]);
    // It is seen as itself: nothing is translated.
    let _server = world.serve(7777);
    let seen = host.sh("web", "nc -w 2 198.51.100.254 7777 < /dev/null");
    assert_eq!(seen, "203.0.113.9");
    host.ok(&["stop", "--force", "web"]);
    assert!(!host.net().sh("ip route").contains("203.0.113.9"));
}

#[test]
fn a_macvlan_shares_an_interface_of_the_host() {
    let (host, world) = (Host::alone(), Netns::new());
    host.net().join("up0", &world, "up1");
    world.sh("ip address add 192.0.2.1/24 dev up1");
    host.ok(&["create", "tiny", "web", "--network", "none"]);
    host.ok(&[
        "device",
        "add",
        "web",
        "lan",
        "nic",
        "nictype=macvlan",
        "parent=up0",
        "ipv4.address=192.0.2.7/24",
        "ipv4.gateway=192.0.2.1",
    ]);
    host.ok(&["start", "web"]);
    assert_eq!(addresses(&host, "web", "eth0"), ["192.0.2.7/24"]);
    assert_eq!(default_gateway(&host, "web", "-4"), "192.0.2.1");
    until(5, "it is on the parent's network", || world.pings("192.0.2.7"));
    let before = host.init("web");
    host.nagaya(&["exec", "web", "--", "kill", "-39", "1"]);
    until(20, "it has rebooted", || host.list()[0]["pid"].as_i64().is_some_and(|pid| pid as i32 != before));
    until(10, "it is there again", || world.pings("192.0.2.7"));
}

#[test]
fn a_network_changes_while_guests_are_on_it() {
    let (host, world) = (Host::alone(), Netns::new());
    host.net().join("up0", &world, "up1");
    host.net().sh("ip address add 198.51.100.1/24 dev up0; ip address add 198.51.100.7/24 dev up0");
    world.sh("ip address add 198.51.100.254/24 dev up1");
    host.ok(&["network", "create", "dmz", "ipv4.address=10.20.0.1/24", "ipv6.address=none"]);
    host.ok(&["launch", "tiny", "web", "--network", "dmz"]);
    let _server = world.serve(7777);
    let seen = || {
        let python = |args: &[&str]| {
            let init = host.init("web").to_string();
            host.net().command("nsenter", &[&["-t", &init, "-n", "python3"], args].concat())
        };
        lab::asks(python, "198.51.100.254", 7777)
    };
    assert_eq!(seen().as_deref(), Some("198.51.100.1"), "the outgoing interface's address");
    host.ok(&["network", "set", "dmz", "ipv4.nat.address=198.51.100.7"]);
    assert_eq!(seen().as_deref(), Some("198.51.100.7"));
    host.ok(&["network", "set", "dmz", "ipv4.nat=false"]);
    assert_eq!(seen(), None, "nobody knows the way back");
    world.sh("ip route add 10.20.0.0/24 via 198.51.100.1");
    assert_eq!(seen().as_deref(), Some("10.20.0.2"));
    host.ok(&["network", "set", "dmz", "mtu=1400", "ipv6.address=fd00:20::1/64"]);
    let link = &host.net().json("ip", &["-j", "address", "show", "dmz"])[0];
    assert_eq!(link["mtu"], 1400);
    assert!(link["addr_info"].as_array().unwrap().iter().any(|a| a["local"] == "fd00:20::1"), "{link}");
    let said = host.fails(1, &["network", "set", "dmz", "ipv4.address=10.21.0.1/24"]);
    assert!(said.contains("web"), "{said}");
    let link = &host.net().json("ip", &["-j", "-4", "address", "show", "dmz"])[0];
    assert_eq!(link["addr_info"][0]["local"], "10.20.0.1");
}

#[test]
fn fifty_launches_at_once_share_no_address() {
    let host = Host::alone();
    let names: Vec<String> = (0..50).map(|n| format!("c{n}")).collect();
    let running: Vec<_> = names.iter().map(|name| host.spawn(&["create", "tiny", name], b"")).collect();
    for command in running {
        let output = command.wait();
        assert!(output.status.success(), "{}", super::host::told(&output));
    }
    let rows = host.list();
    let all: Vec<&str> = rows
        .iter()
        .flat_map(|row| row["addresses"].as_array().unwrap())
        .filter_map(|address| address.as_str())
        .collect();
    let mut unique = all.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!((all.len(), unique.len()), (100, 100));
}
