//! Ordinary users' networks, through nagaya-hostd: as many, and as much of the host's world, as the
//! grant holds.

use serde_json::Value;

use super::errors::REFUSED;
use super::hostd_users::{HostdUser, HostdUsers};
use super::lab::{self, Netns};

fn ok(user: &HostdUser<'_>, words: &str) -> String {
    user.ok(&words.split(' ').collect::<Vec<_>>())
}

fn refused(user: &HostdUser<'_>, words: &str, reason: &str) {
    let said = user.fails(REFUSED, &words.split(' ').collect::<Vec<_>>());
    assert!(said.contains(reason), "{words}: {said}");
}

fn grant(user: &HostdUser<'_>, setting: &str) {
    user.users.host.ok(&["grant", &user.name, setting]);
}

/// Names of the host's bridges.
fn bridges(users: &HostdUsers) -> Vec<String> {
    let all = users.host.net().json("ip", &["-j", "link", "show", "type", "bridge"]);
    let names = all.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    names.map(str::to_owned).collect()
}

fn pings(from: i32, address: &str) -> bool {
    let ping = lab::within(from, "ping", &["-n", "-c1", "-W1", address]);
    super::host::Running::start(ping, b"").wait().status.success()
}

#[test]
fn a_user_has_as_many_networks_as_are_granted() {
    let users = HostdUsers::alone(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    ok(&ann, "network create dmz ipv4.address=10.20.0.1/24 ipv6.address=fd00:20::1/64");
    refused(
        &ann,
        "network create lan ipv4.address=10.21.0.1/24",
        "your grant of 1 network on this host is used up",
    );
    assert_eq!(bridges(&users).len(), 1);
    grant(&ann, "networks=2");
    ok(&ann, "network create lan ipv4.address=10.21.0.1/24 ipv6.address=none");
    refused(&bob, "network create dmz ipv4.address=10.20.0.129/25", "10.20.0.0/24");
    refused(&bob, "network show dmz", "no network 'dmz'");
    refused(&bob, "network delete dmz", "no network 'dmz'");

    ok(&ann, "create tiny web --network dmz --network lan --ip 10.20.0.77 --ip fd00:20::abc --ip 10.21.0.9");
    ok(&ann, "start web");
    ok(&ann, "launch tiny db --network lan");
    for address in ["10.20.0.77", "fd00:20::abc", "10.21.0.9"] {
        assert!(users.host.net().pings(address), "{address}");
    }
    assert!(pings(ann.init("db"), "10.21.0.9"));
    ok(&bob, "launch tiny mail");
    assert!(!pings(bob.init("mail"), "10.21.0.9") && !pings(ann.init("db"), &bob.address("mail")));
    // Each bridge says whose it is, and goes with its network; then another may be had.
    let links = users.host.net().json("ip", &["-j", "-d", "link", "show", "type", "bridge"]);
    let aliases: Vec<&str> =
        links.as_array().expect("links").iter().filter_map(|link| link["ifalias"].as_str()).collect();
    for (network, user) in [("dmz", &ann), ("lan", &ann)] {
        let wanted = format!("nagaya: network {network} of {}-{}", users.host.name(), user.uid);
        assert!(aliases.contains(&wanted.as_str()), "{aliases:?}");
    }
    refused(&ann, "network delete dmz", "web");
    ok(&ann, "delete --force web");
    ok(&ann, "network delete dmz");
    assert_eq!(bridges(&users).len(), 2);
    ok(&ann, "network create more ipv4.address=10.22.0.1/24");
}

#[test]
fn a_network_that_has_never_been_up_stands_in_nobodys_way() {
    let users = HostdUsers::alone(1);
    let ann = users.granted(0);
    ok(&ann, "create tiny idle");
    ok(&ann, "firewall default idle in=deny");
    refused(
        &ann,
        "network create dmz ipv4.address=10.20.0.1/24",
        "your grant of 1 network on this host is used up",
    );
    grant(&ann, "networks=2");
    ok(&ann, "network create dmz ipv4.address=10.20.0.1/24");
    ok(&ann, "launch tiny web --network dmz");
    assert!(users.host.net().pings("10.20.0.2"));
    // One that was lost with a restart of the host may be changed before it is up again.
    ok(&ann, "delete --force web");
    users.host.net().sh(&format!("ip link delete {}", bridges(&users).pop().expect("a bridge")));
    ok(&ann, "network set dmz ipv4.address=10.21.0.1/24");
    ok(&ann, "launch tiny web --network dmz");
    assert!(users.host.net().pings("10.21.0.2"));
}

#[test]
fn the_hosts_world_is_a_users_as_far_as_it_is_granted() {
    let users = HostdUsers::alone(1);
    let world = Netns::new();
    users.host.net().join("up0", &world, "up1");
    users.host.net().sh("ip link add br0 type bridge; ip link set br0 up; ip link set up0 master br0
        ip address add 198.51.100.1/24 dev br0; ip route add default via 198.51.100.254 dev br0");
    world.sh("ip address add 198.51.100.254/24 dev up1; ip route add 203.0.113.0/24 via 198.51.100.1");
    let ann = users.granted(0);
    grant(&ann, "networks=4");
    let reaches = |address: &str| (0..5).any(|_| world.pings(address));

    // Public addresses.
    let public = "network create pub ipv4.address=203.0.113.9/29 ipv6.address=none";
    refused(&ann, public, "203.0.113.9/29 is neither a private network nor one that your grant holds");
    ok(&ann, "create tiny web --network none");
    let routed = "device add web wan nic nictype=routed ipv4.address=203.0.113.17";
    refused(&ann, routed, "203.0.113.17 is not an address of your networks, nor one that your grant holds");
    assert_eq!(ok(&ann, "device list web --format json").trim(), "[]", "nothing is left of the try");
    grant(&ann, "addresses=203.0.113.8/29,203.0.113.17");
    ok(&ann, public);
    ok(&ann, routed);
    refused(&ann, "device set web wan ipv4.address=203.0.113.18", "nor one that your grant holds");
    ok(&ann, "start web");
    ok(&ann, "launch tiny mail --network pub --ip 203.0.113.10");
    assert!(reaches("203.0.113.17") && reaches("203.0.113.10"));
    // They are ruled like others.
    ok(&ann, "firewall default web in=deny");
    ok(&ann, "firewall default mail in=deny");
    assert!(!world.pings("203.0.113.17") && !world.pings("203.0.113.10"));

    // Interfaces of the host.
    let joined = "network create lan parent=br0 ipv4.address=198.51.100.1/24";
    refused(&ann, joined, "'br0' is not a bridge that you may be on");
    grant(&ann, "parents=br0");
    ok(&ann, joined);
    ok(&ann, "launch tiny out --network lan --ip 198.51.100.50");
    assert!(reaches("198.51.100.50"));
    let nics: Value = serde_json::from_str(&ok(&ann, "device list out --format json")).expect("JSON");
    assert_eq!(nics.as_array().map(Vec::len), Some(1), "{nics}");
}
