//! Ordinary users through nagaya-hostd: each has a firewall of its own, for its own containers, and
//! ports of the host as far as they are granted.

use serde_json::{Value, json};

use super::{HOST, WORLD, world_beside};
use crate::errors::REFUSED;
use crate::host::Running;
use crate::hostd_users::{HostdUser, HostdUsers};
use crate::lab::{self, Netns};

/// A host with two ordinary users, who may have containers and nothing beyond, and a machine outside.
struct Town {
    users: HostdUsers,
    world: Netns,
}

impl Town {
    fn new() -> Self {
        let users = HostdUsers::alone(2);
        let world = world_beside(users.host.net());
        Self { users, world }
    }

    fn ann(&self) -> HostdUser<'_> {
        self.users.granted(0)
    }

    fn bob(&self) -> HostdUser<'_> {
        self.users.granted(1)
    }

    fn reaches(&self, address: &str, port: u16) -> bool {
        self.world.asks(address, port).is_some()
    }

    /// The kernel's rules of the owner whose table that is, without what counts and numbers.
    fn rules(&self, table: &str) -> Vec<Value> {
        let all = self.users.host.net().json("nft", &["-j", "list", "ruleset"]);
        let all = all["nftables"].as_array().expect("a list").clone();
        let of_table = all.into_iter().filter(|item| {
            item.as_object().is_some_and(|kinds| kinds.values().any(|thing| thing["table"] == table))
        });
        of_table.map(still).collect()
    }
}

/// The same without what changes by itself.
fn still(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let moving = ["handle", "packets", "bytes", "expires"];
            let kept = map.into_iter().filter(|(key, _)| !moving.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key, still(value))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(still).collect()),
        other => other,
    }
}

fn ok(user: &HostdUser<'_>, words: &str) -> String {
    user.ok(&words.split(' ').collect::<Vec<_>>())
}

fn refused(user: &HostdUser<'_>, words: &str) -> String {
    user.fails(REFUSED, &words.split(' ').collect::<Vec<_>>())
}

fn table(user: &HostdUser<'_>) -> String {
    format!("{}-{}", user.users.host.name(), user.uid)
}

#[test]
fn a_users_rules_hold_and_touch_nobody_elses_containers() {
    let town = Town::new();
    let (ann, bob) = (town.ann(), town.bob());
    ok(&ann, "launch tiny web");
    ok(&ann, "launch tiny db");
    ok(&bob, "launch tiny mail");
    let _servers = [
        lab::serve(ann.init("web"), &[22, 80]),
        lab::serve(ann.init("db"), &[22]),
        lab::serve(bob.init("mail"), &[22]),
    ];
    let (web, db, mail) = (ann.address("web"), ann.address("db"), bob.address("mail"));
    let by_neighbour = |port: u16| lab::asks_from(ann.init("db"), &web, port).is_some();
    assert!(town.reaches(&web, 22) && town.reaches(&mail, 22) && by_neighbour(22));
    let of_bob = town.rules(&table(&bob));
    assert!(!of_bob.is_empty());

    ok(&ann, "firewall default web in=deny");
    ok(&ann, "firewall allow web tcp 80");
    assert!(town.reaches(&web, 80) && !town.reaches(&web, 22));
    assert!(by_neighbour(80) && !by_neighbour(22));
    assert!(town.users.host.net().asks(&web, 22).is_some(), "the host itself");
    ok(&ann, &format!("firewall deny web tcp 80 --from {WORLD} --at 1"));
    assert!(!town.reaches(&web, 80) && by_neighbour(80));
    assert!(town.reaches(&db, 22) && town.reaches(&mail, 22), "nobody else");
    let counted: Value = serde_json::from_str(&ok(&ann, "firewall rules web --format json")).expect("JSON");
    assert!(counted[0]["packets"].as_u64() > Some(0), "{counted}");

    // In the kernel they are in ann's table, and bob's is what it was.
    let id = ann.info("web")["id"].as_str().expect("an id").to_owned();
    assert!(Value::from(town.rules(&table(&ann))).to_string().contains(&id));
    assert_eq!(town.rules(&table(&bob)), of_bob);

    // Bob cannot name what is ann's, by any verb, nor as ann.
    for words in [
        "firewall allow web tcp 22",
        "firewall default web in=allow",
        "firewall block 192.0.2.1 --from web",
        "forward add web tcp 8080:80",
        "firewall rules web",
        "firewall remove web in 1",
    ] {
        let said = refused(&bob, words);
        assert!(said.contains("no container") && said.contains("web"), "{words}: {said}");
    }
    let as_ann = ["--owner", &ann.name, "firewall", "default", "web", "in=allow"];
    bob.fails(REFUSED, &as_ann);
    assert!(!town.reaches(&web, 22));

    // Somebody has emptied the kernel's rules: ann's next start puts hers back.
    town.users.host.net().sh("nft flush ruleset");
    assert!(town.reaches(&web, 22));
    ok(&ann, "restart --force db");
    assert!(!town.reaches(&web, 22) && !town.reaches(&web, 80));
    ok(&ann, "delete --force web");
    assert!(!Value::from(town.rules(&table(&ann))).to_string().contains(&id));
}

#[test]
fn a_users_blocks_keep_addresses_from_its_own_containers() {
    let town = Town::new();
    let (ann, bob) = (town.ann(), town.bob());
    ok(&ann, "launch tiny web");
    ok(&ann, "launch tiny db");
    ok(&bob, "launch tiny mail");
    let (web, db, mail) = (ann.address("web"), ann.address("db"), bob.address("mail"));
    let pings = |address: &str| town.world.pings(address);
    assert!(pings(&web) && pings(&db) && pings(&mail));
    ok(&ann, &format!("firewall block {WORLD} --reason scans"));
    assert!(!pings(&web) && !pings(&db) && pings(&mail));
    let blocks: Value = serde_json::from_str(&ok(&ann, "firewall blocks --format json")).expect("JSON");
    assert_eq!((&blocks[0]["address"], &blocks[0]["reason"]), (&json!(WORLD), &json!("scans")));
    assert!(blocks[0]["hits"]["packets"].as_u64() >= Some(2), "{blocks}");
    assert_eq!(ok(&bob, "firewall blocks --format json").trim(), "[]");
    assert!(refused(&bob, &format!("firewall unblock {WORLD}")).contains("was not blocked"));
    ok(&ann, &format!("firewall unblock {WORLD}"));
    assert!(pings(&web));

    ok(&ann, "firewall block 198.51.100.0/25 --from web");
    assert!(!pings(&web) && pings(&db));
    // More than one message of the bus would hold of text.
    let list: String = (0..20_000).map(|n| format!("198.18.{}.{}\n", n / 250, n % 250)).collect();
    let command = ann.command(&["firewall", "block", "--from-file", "-"]);
    let output = Running::start(command, list.as_bytes()).wait();
    assert!(output.status.success(), "{}", crate::host::told(&output));
    let of_blocks = format!("{}-blocks", table(&ann));
    assert!(Value::from(town.rules(&of_blocks)).to_string().contains("198.18.79.249"));
    ok(&ann, "delete --force web");
    let left: Value = serde_json::from_str(&ok(&ann, "firewall blocks --format json")).expect("JSON");
    assert_eq!(left.as_array().map(Vec::len), Some(20_000), "what was for 'web' alone is gone with it");
}

#[test]
fn ports_of_the_host_are_forwarded_as_far_as_they_are_granted() {
    let town = Town::new();
    let (ann, bob) = (town.ann(), town.bob());
    ok(&ann, "launch tiny web");
    ok(&bob, "launch tiny mail");
    let _servers = [lab::serve(ann.init("web"), &[80]), lab::serve(bob.init("mail"), &[80])];
    let grant = |user: &HostdUser<'_>, setting: &str| town.users.host.ok(&["grant", &user.name, setting]);
    let is_refused = |user: &HostdUser<'_>, words: &str, reason: &str| {
        let said = refused(user, words);
        assert!(said.contains(reason), "{words}: {said}");
    };
    is_refused(&ann, "forward add web tcp 8080:80", "you may not have tcp port 8080 at any address");
    assert!(!town.reaches(HOST, 8080));
    assert_eq!(ok(&ann, "forward list --format json").trim(), "[]", "nothing is left of the try");
    ok(&ann, "firewall allow web icmp");

    grant(&ann, "ports=8000-8099,25");
    ok(&ann, "forward add web tcp 8080:80");
    assert_eq!(town.world.asks(HOST, 8080).as_deref(), Some(WORLD));
    is_refused(&ann, "forward add web tcp 80", "you may not have tcp port 80 at any address");
    is_refused(&ann, "forward add web tcp 8099-8100:80-81", "you may not have tcp port 8100");
    // A grant of ports is for all of the host's addresses; one of them takes a grant of addresses.
    let at = format!("forward add web tcp 8081:80 --address {HOST}");
    is_refused(&ann, &at, &format!("you may not have tcp port 8081 at {HOST}"));
    grant(&ann, &format!("addresses={HOST}"));
    ok(&ann, &at);
    ok(&ann, &format!("forward add web tcp 443:80 --address {HOST}"));
    assert!(town.reaches(HOST, 8081) && town.reaches(HOST, 443));
    // Bob has no part in it.
    is_refused(&bob, "forward add mail tcp 8082:80", "you may not have tcp port 8082");
    grant(&bob, "ports=8082");
    ok(&bob, "forward add mail tcp 8082:80");
    assert!(town.reaches(HOST, 8082) && town.reaches(HOST, 8080));
    // By a forward another owner's guest is reached, as by anybody, and not otherwise.
    assert!(lab::asks_from(bob.init("mail"), HOST, 8080).is_some());
    assert!(lab::asks_from(bob.init("mail"), &ann.address("web"), 80).is_none());

    ok(&ann, "forward remove web tcp 8080");
    assert!(!town.reaches(HOST, 8080) && town.reaches(HOST, 8081));
    ok(&ann, "delete --force web");
    assert!(!town.reaches(HOST, 8081) && town.reaches(HOST, 8082));
}

#[test]
fn a_port_that_one_owner_has_is_not_anothers() {
    let town = Town::new();
    let (ann, bob, root) = (town.ann(), town.bob(), &town.users.host);
    ok(&ann, "launch tiny web");
    ok(&bob, "launch tiny mail");
    let _servers = [lab::serve(ann.init("web"), &[80]), lab::serve(bob.init("mail"), &[80])];
    for user in [&ann, &bob] {
        root.ok(&["grant", &user.name, "ports=8000-8099", &format!("addresses={HOST}")]);
    }
    ok(&ann, "forward add web tcp 8080:80");
    let taken = |said: String| {
        let wanted = format!("tcp port 8080 leads to a container of '{}' already", table(&ann));
        assert!(said.contains(&wanted), "{said}");
    };
    taken(refused(&bob, "forward add mail tcp 8080:80"));
    taken(refused(&bob, &format!("forward add mail tcp 8080:80 --address {HOST}")));
    root.ok(&["setup"]);
    root.import("tiny", &crate::templates::tiny());
    root.ok(&["launch", "tiny", "own"]);
    taken(root.fails(REFUSED, &["forward", "add", "own", "tcp", "8080:80"]));
    // Nor when ann's rules are not in the kernel.
    root.net().sh("nft flush ruleset");
    taken(refused(&bob, "forward add mail tcp 8080:80"));
    ok(&ann, "restart --force web");
    let _server = lab::serve(ann.init("web"), &[80]);
    assert!(town.reaches(HOST, 8080));
    ok(&bob, "forward add mail tcp 8081:80");
    assert!(town.reaches(HOST, 8081) && town.reaches(HOST, 8080));
    // Who gives it up leaves it to others; and what is root's is not a user's either.
    ok(&ann, "forward remove web tcp 8080");
    root.ok(&["forward", "add", "own", "tcp", "8080:80"]);
    let said = refused(&ann, "forward add web tcp 8080:80");
    assert!(said.contains(&format!("leads to a container of '{}' already", root.name())), "{said}");
    root.ok(&["delete", "--force", "own"]);
    ok(&bob, "forward add mail tcp 8080:80");
    assert!(town.reaches(HOST, 8080));
}

#[test]
fn a_port_that_is_no_longer_granted_is_not_forwarded_again() {
    let town = Town::new();
    let ann = town.ann();
    town.users.host.ok(&["grant", &ann.name, "ports=8080"]);
    ok(&ann, "launch tiny web");
    ok(&ann, "forward add web tcp 8080:80");
    town.users.host.ok(&["grant", &ann.name, "ports="]);
    town.users.host.net().sh("nft flush ruleset");
    let said = refused(&ann, "restart --force web");
    assert!(said.contains("you may not have tcp port 8080"), "{said}");
    ok(&ann, "forward remove web tcp 8080");
    ok(&ann, "start web");
}
