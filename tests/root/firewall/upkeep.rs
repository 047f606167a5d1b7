//! The policy goes where its container goes, and comes back when somebody has taken it away.

use super::{DB, HOST, Site, WEB, WORLD, world_beside};
use crate::host::{Host, Running, told, until};
use crate::lab;

#[test]
fn a_policy_follows_its_container() {
    let site = Site::new();
    let servers = site.serve("web", &[22, 80]);
    site.ok("firewall allow web tcp 80");
    site.ok("firewall default web in=deny");
    site.ok("forward add web tcp 8022:22");
    let holds = || {
        assert!(site.asked(WEB, 80).is_some() && site.asked(WEB, 22).is_none());
        assert_eq!(site.asked(HOST, 8022).as_deref(), Some(WORLD));
    };
    holds();
    drop(servers);

    site.ok("stop --force web");
    site.ok("rename web mail");
    site.host.net().run("nft", &["flush", "ruleset"]);
    site.ok("start mail");
    let _servers = site.serve("mail", &[22, 80]);
    holds();
    site.host.net().run("nft", &["delete", "table", "inet", site.host.name()]);
    assert!(site.asked(WEB, 22).is_some());
    site.ok("network repair");
    holds();

    // Nothing of it is left for who has the address next.
    let id = site.host.info("mail")["id"].as_str().expect("an id").to_owned();
    assert!(site.ruleset().contains(&id));
    site.ok("delete --force mail");
    assert!(!site.ruleset().contains(&id) && site.asked(HOST, 8022).is_none());
    assert_eq!(site.ok("firewall export"), "");
    site.ok(&format!("launch tiny web --network dmz --ip {WEB}"));
    let _servers = site.serve("web", &[22]);
    until(5, "the next one is reached", || site.asked(WEB, 22).is_some());
}

#[test]
fn an_emptied_firewall_is_put_back() {
    let site = Site::new();
    site.ok("firewall default web in=deny");
    site.ok(&format!("firewall block {WORLD} --from db"));
    let shut = || !site.world.pings(WEB) && !site.world.pings(DB);
    assert!(shut());
    // The next start puts all of it back.
    site.host.net().sh("nft flush ruleset");
    assert!(!shut());
    site.ok("launch tiny other --network dmz");
    assert!(shut());
    // And so does the command that the watcher runs; where all is there it changes nothing.
    site.host.net().sh("nft flush ruleset");
    site.ok("network repair");
    assert!(shut());
    let listed = || site.host.net().sh("nft -a list ruleset | grep -v counter");
    let before = listed();
    site.ok("network repair");
    assert_eq!(listed(), before);
}

#[test]
fn other_firewalls_let_guests_through_and_ours_still_holds() {
    let site = Site::new();
    site.ok("firewall default db in=deny");
    let check = |when: &str| {
        assert!(site.world.pings(WEB), "{when}: into a guest");
        assert!(site.pinged_by("web", WORLD), "{when}: out of it");
        assert!(!site.world.pings(DB), "{when}: our own rule");
    };
    check("alone");
    site.host.net().sh(
        "for t in iptables ip6tables; do $t -P FORWARD DROP; $t -N DOCKER-USER; $t -A DOCKER-USER -j RETURN
        $t -I FORWARD -j DOCKER-USER; done",
    );
    assert!(!site.world.pings(WEB), "that ruleset drops");
    site.ok("network repair");
    check("after Docker's rules have come");
    let said = String::from_utf8_lossy(&site.host.nagaya(&["doctor"]).stdout).into_owned();
    assert!(said.contains("FORWARD"), "{said}");
    // Another host's, where they were first.
    let late = Host::alone();
    late.net().sh("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
    let _world = world_beside(late.net());
    late.ok(&["launch", "tiny", "web"]);
    let out = lab::within(late.init("web"), "ping", &["-n", "-c1", "-W2", WORLD]);
    let output = Running::start(out, b"").wait();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn traffic_is_counted_over_restarts() {
    let site = Site::new();
    let counts = || -> (u64, u64) {
        let info = site.host.info("web");
        let number = |key: &str| info["traffic"][key].as_u64().unwrap_or_else(|| panic!("no {key}: {info}"));
        (number("received_packets"), number("sent_packets"))
    };
    let before = counts();
    assert!(site.world.succeeds("ping", &["-n", "-c5", "-i0.01", WEB]));
    let after = counts();
    assert!(after.0 >= before.0 + 5 && after.1 >= before.1 + 5, "{before:?} {after:?}");
    site.ok("restart --force web");
    let later = counts();
    assert!(later.0 >= after.0 && later.1 >= after.1, "{after:?} {later:?}");
    site.host.net().sh("nft flush ruleset");
    site.ok("network repair");
    let last = counts();
    assert!(last.0 >= after.0 && last.1 >= after.1, "{after:?} {last:?}");
}
