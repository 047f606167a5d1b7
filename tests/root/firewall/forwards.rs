//! Ports of the host that lead to guests, and the operator's own way to the host.

use serde_json::json;

use super::{HOST, HOST6, Site, WEB, WORLD, WORLD6};
use crate::host::Running;

#[test]
fn ports_of_the_host_lead_to_guests() {
    let site = Site::new();
    let _servers = [site.serve("web", &[80]), site.serve("db", &[80])];
    site.ok("firewall default web in=deny");
    site.ok("forward add web tcp 8080:80");
    site.ok(&format!("forward add db tcp 8081:80 --address {HOST}"));
    assert_eq!(site.asked(HOST, 8080).as_deref(), Some(WORLD));
    assert_eq!(site.asked(HOST6, 8080).as_deref(), Some(WORLD6));
    assert_eq!(site.asked(HOST, 8081).as_deref(), Some(WORLD));
    assert_eq!(site.asked(WEB, 80), None, "what is not forwarded stays denied");
    // A guest of the same network, by any of the host's addresses.
    for address in [HOST, "10.20.0.1", HOST6] {
        assert!(site.asked_by("db", address, 8080).is_some(), "{address}");
    }
    // And the container itself, whether or not bridged packets pass the host's rules.
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    for on in [1, 0] {
        site.host.net().sh(&format!("[ ! -e {switch} ] || echo {on} > {switch}"));
        assert!(site.asked_by("web", HOST, 8080).is_some(), "{on}");
    }
    site.host.net().sh(&format!("[ ! -e {switch} ] || echo 1 > {switch}"));
    site.ok("restart --force web");
    let _again = site.serve("web", &[80]);
    assert!(site.asked_by("web", HOST, 8080).is_some(), "after a restart");
    assert!(site.host.net().asks(HOST, 8080).is_some(), "the host itself");
    let list = site.json("forward list");
    assert_eq!((list.as_array().map(Vec::len), &list[0]["address"]), (Some(2), &json!(HOST)), "{list}");

    for (slip, reason) in [
        ("forward add db tcp 8080:80", "forwarded to"),
        ("forward add db tcp 8080", "forwarded to"),
        (&format!("forward add web tcp 8081:80 --address {HOST}"), "forwarded to"),
        ("forward add web tcp 70000:80", "'70000' is not a port"),
        ("forward add nobody tcp 90", "no container 'nobody'"),
    ] {
        let said = site.fails(slip);
        assert!(said.contains(reason), "{slip}: {said}");
    }
    site.ok("forward remove web tcp 8080");
    assert_eq!(site.asked(HOST, 8080), None);
    assert!(site.asked(HOST, 8081).is_some());
    assert!(site.fails("forward remove web tcp 8080").contains("is not forwarded"));
    site.ok("delete --force db");
    assert_eq!(site.json("forward list"), json!([]));
}

/// The only one of its network that has rules: its neighbours' packets need not pass the host any more.
#[test]
fn a_forward_goes_with_the_last_container_that_has_rules() {
    let site = Site::new();
    site.ok("firewall allow web tcp 80");
    site.ok("forward add web tcp 8022:22");
    assert!(site.ruleset().contains("8022"));
    site.ok("delete --force web");
    assert!(!site.ruleset().contains("8022"), "{}", site.ruleset());
}

#[test]
fn the_operators_own_way_in_is_not_cut_unawares() {
    let site = Site::new();
    let _server = site.serve("web", &[22]);
    let by_ssh = |line: &str| {
        let mut command = site.host.command(&line.split_whitespace().collect::<Vec<_>>());
        command.env("SSH_CONNECTION", format!("{WORLD} 50000 {HOST} 22"));
        Running::start(command, b"").wait()
    };
    let output = by_ssh("forward add web tcp 22");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("shut you out") && error.contains("--force"), "{error}");
    assert!(by_ssh("forward add web tcp 2222:22").status.success());
    assert!(by_ssh("forward add web tcp 22 --force").status.success());
    assert_eq!(site.asked(HOST, 22).as_deref(), Some(WORLD));
}
