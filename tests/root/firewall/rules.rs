//! Rules, defaults, groups and sets: what they let pass, and what they say of themselves.

use super::{DB, DB6, HOST, Site, WEB, WEB6, WORLD, WORLD6};

#[test]
fn rules_decide_in_their_order_and_in_both_families() {
    let site = Site::new();
    let _server = site.serve("web", &[8080, 8081]);
    assert_eq!(site.asked(WEB, 8080).as_deref(), Some(WORLD));
    assert_eq!(site.asked(WEB6, 8081).as_deref(), Some(WORLD6));

    site.ok("firewall default web in=deny");
    for address in [WEB, WEB6] {
        assert_eq!(site.asked(address, 8080), None, "{address}");
        assert!(!site.world.pings(address), "{address}");
        // The host itself always reaches its guests.
        assert!(site.host.net().pings(address), "{address}");
    }
    site.ok("firewall allow web tcp 8080,8443 --note public");
    site.ok("firewall allow web icmp");
    for (address, seen) in [(WEB, WORLD), (WEB6, WORLD6)] {
        assert_eq!(site.asked(address, 8080).as_deref(), Some(seen));
        assert_eq!(site.asked(address, 8081), None, "{address}");
        assert!(site.world.pings(address), "{address}");
    }
    // What comes first counts, and what is taken away no longer.
    site.ok(&format!("firewall deny web tcp 8080 --from {WORLD} --at 1"));
    assert_eq!(site.asked(WEB, 8080), None);
    assert_eq!(site.asked(WEB6, 8080).as_deref(), Some(WORLD6));
    assert_eq!(site.asked_by("db", WEB, 8080).as_deref(), Some(DB));
    let said = site.ok(&format!("firewall trace web --proto tcp --from {WORLD} --dport 8080"));
    let wanted = format!("denied by rule 1 of container web, direction in (deny tcp 8080 from {WORLD})\n");
    assert_eq!(said, wanted);
    // Rules count what they decide, by the kernel's own word.
    let rules = site.json("firewall rules web");
    assert_eq!((&rules[0]["action"], &rules[0]["number"]), (&"deny".into(), &1.into()), "{rules}");
    assert_eq!(rules[1]["note"], "public", "{rules}");
    for rule in [&rules[0], &rules[1]] {
        assert!(rule["packets"].as_u64() > Some(0), "{rules}");
    }
    site.ok("firewall remove web in 1");
    assert_eq!(site.asked(WEB, 8080).as_deref(), Some(WORLD));
    assert!(site.fails("firewall remove web in 9").contains("no rule 9"));
    // What is rejected is told so, what is denied is not.
    let refusal = |port: u16| {
        let script = format!(
            "import socket, time
t = time.time()
try: socket.create_connection(('{WEB}', {port}), timeout=3)
except OSError as e: print(type(e).__name__, time.time() - t < 1)"
        );
        site.world.run("python3", &["-c", &script]).trim().to_owned()
    };
    assert_eq!(refusal(8081), "TimeoutError False");
    site.ok("firewall default web in=reject");
    assert_eq!(refusal(8081), "ConnectionRefusedError True");
}

#[test]
fn what_guests_may_reach_is_ruled_too() {
    let site = Site::new();
    let _servers =
        [site.world.serve(7777), site.world.serve(7778), site.serve("db", &[22]), site.serve("web", &[22])];
    assert_eq!(site.asked_by("web", WORLD, 7777).as_deref(), Some(WEB));
    assert_eq!(site.asked_by("web", DB, 22).as_deref(), Some(WEB));
    assert_eq!(site.asked_by("db", WEB, 22).as_deref(), Some(DB));
    site.ok("firewall reject web out tcp 7777");
    assert_eq!(site.asked_by("web", WORLD, 7777), None);
    assert_eq!(site.asked_by("web", WORLD6, 7777), None);
    assert_eq!(site.asked_by("web", WORLD, 7778).as_deref(), Some(WEB));
    assert_eq!(site.asked_by("db", WORLD, 7777).as_deref(), Some(DB));
    site.ok("firewall default web out=deny");
    assert_eq!(site.asked_by("web", WORLD, 7778), None);
    assert_eq!(site.asked_by("web", DB, 22), None, "its neighbour");
    site.ok(&format!("firewall allow web out tcp 7778 --to {WORLD}"));
    assert_eq!(site.asked_by("web", WORLD, 7778).as_deref(), Some(WEB));
    site.ok("restart --force web");
    assert_eq!(site.asked_by("web", WORLD, 7777), None, "rules hold over a restart");
    site.ok("firewall reject db out any");
    assert_eq!(site.asked_by("db", WORLD, 7777), None);
    assert_eq!(site.asked_by("db", WEB, 22), None, "its neighbour");
    // Answers to what a guest may ask come back though nothing may come, translated or not.
    site.ok("firewall default network:dmz in=deny");
    assert_eq!(site.asked_by("web", WORLD, 7778).as_deref(), Some(WEB));
    site.ok("network set dmz ipv4.nat=true");
    assert_eq!(site.asked_by("web", WORLD, 7778).as_deref(), Some(HOST));
}

#[test]
fn neighbours_on_one_bridge_are_ruled_as_everybody() {
    let site = Site::new();
    let _server = site.serve("web", &[8080, 8081]);
    assert_eq!(site.asked_by("db", WEB, 8081).as_deref(), Some(DB));
    site.ok("firewall default web in=deny");
    site.ok(&format!("firewall allow web tcp 8080 --from {DB}"));
    site.ok(&format!("firewall allow web tcp 8080 --from {DB6}"));
    for (address, seen) in [(WEB, DB), (WEB6, DB6)] {
        assert_eq!(site.asked_by("db", address, 8080).as_deref(), Some(seen));
        assert_eq!(site.asked_by("db", address, 8081), None, "{address}");
        assert!(!site.pinged_by("db", address), "{address}");
    }
    assert_eq!(site.asked(WEB, 8080), None, "nobody else");
    assert!(site.pinged_by("web", DB), "the other way nothing is denied");
}

#[test]
fn groups_and_sets_are_joined_and_changed() {
    let site = Site::new();
    let _servers = [site.serve("web", &[22, 443]), site.serve("db", &[22, 443])];
    site.ok("firewall default network:dmz in=deny");
    assert_eq!(site.asked_by("db", WEB, 443), None, "neighbours too");
    site.ok("firewall group create https");
    site.ok("firewall allow group:https tcp 80,443");
    assert_eq!(site.asked(WEB, 443), None);
    site.ok("firewall group join https web");
    assert_eq!(site.asked(WEB, 443).as_deref(), Some(WORLD));
    assert_eq!(site.asked_by("db", WEB, 443).as_deref(), Some(DB));
    assert_eq!(site.asked(DB, 443), None, "db has not joined");
    // A group whose rule names a set, joined by two at once.
    site.ok("firewall set create office 192.0.2.0/24");
    site.ok("firewall group create shell");
    site.ok("firewall allow group:shell tcp 22 --from set:office");
    site.ok("firewall group join shell web db");
    assert_eq!(site.asked(WEB, 22), None);
    site.ok(&format!("firewall set add office {WORLD}"));
    assert_eq!(site.asked(WEB, 22).as_deref(), Some(WORLD));
    assert_eq!(site.asked(DB, 22).as_deref(), Some(WORLD));
    assert_eq!(site.asked_by("db", WEB, 22), None, "who is not in the set");
    assert!(site.fails("firewall set delete office").contains("office"));
    site.ok(&format!("firewall set remove office {WORLD}"));
    assert_eq!(site.asked(DB, 22), None);
    site.ok("firewall group leave shell db");
    assert!(site.fails("firewall group leave shell db").contains("not in group"));
    assert!(site.fails("firewall group delete shell").contains("is in group 'shell'"));
    site.ok("firewall group delete shell --force");
    site.ok("firewall group leave https web");
    assert_eq!(site.asked(WEB, 443), None);
    // Who comes later is under the network's default.
    site.ok("launch tiny late --network dmz");
    assert!(!site.world.pings("10.20.0.2"));
}
