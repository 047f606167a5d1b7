//! Databases that released versions have written, and what is read of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::Store;
use crate::model::container::{Container, Phase};
use crate::model::firewall::policy::{Action, Direction, Forward, Proto};
use crate::model::ids::SubordinateIds;
use crate::model::manifest::from_toml;
use crate::model::network::{Nat, Network};
use crate::model::nic::NicKind;
use crate::model::template::{InitKind, NetworkStyle};

/// When 0.1.0 wrote it, about.
const THEN: i64 = 1_795_810_000;

fn released(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released/0.1.0/var/lib")).join(path)
}

/// The database of an owner, which is brought to the present schema by being opened.
fn opened(owner: &str) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nagaya.db");
    fs::copy(released(owner).join("nagaya.db"), &path).unwrap();
    (dir, Store::open_existing(&path).unwrap())
}

fn found(store: &Store, name: &str) -> Container {
    store.containers().unwrap().into_iter().find(|container| container.name.as_str() == name).unwrap()
}

fn network(store: &Store, name: &str) -> Network {
    store.network(name).unwrap().unwrap()
}

#[test]
fn containers_of_version_0_1_0_are_as_they_were() {
    let (_dir, store) = opened("released");
    let all = store.containers().unwrap();
    let names: Vec<&str> = all.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["db01", "ended", "lonely", "stopped", "web01"]);
    assert!(all.iter().all(|container| container.phase == Phase::Settled));
    let up: Vec<&str> = all.iter().filter(|c| c.wanted_up).map(|c| c.name.as_str()).collect();
    assert_eq!(up, ["ended", "web01"]);
    assert_eq!(store.range().unwrap(), Some(SubordinateIds { start: 1_879_048_192, count: 4_194_304 }));
    let db = found(&store, "db01");
    assert_eq!((db.template_name.as_str(), db.config.own().strangers().count()), ("centos/7:latest", 0));
    assert_eq!(db.config.own().iter().count(), 36);
    for (key, value) in [
        ("boot.stop.priority", "-3"),
        ("environment.QUOTE", "it's \"so\""),
        ("limits.cpu.allowance", "25ms/100ms"),
        ("limits.kernel.fsize", "1073741824:unlimited"),
        ("limits.memory.enforce", "soft"),
        ("limits.write", "500iops"),
        ("security.syscalls.deny_default", "false"),
        ("user.note", "長屋"),
    ] {
        assert_eq!(db.config.expanded().get(key), Some(value), "{key}");
    }
}

#[test]
fn networks_and_interfaces_of_version_0_1_0_are_as_they_were() {
    let (_dir, store) = opened("released");
    let lan = Network {
        nat4: Nat::To("203.0.113.9".parse().unwrap()),
        dhcp4: true,
        nat6: Nat::To("2001:db8:9::9".parse().unwrap()),
        dhcp6: true,
        domain: Some("lan.example".to_owned()),
        mtu: Some(1400),
        isolated: true,
        notes: BTreeMap::from([("user.note".to_owned(), "two floors".to_owned())]),
        ..Network::new(
            "lan",
            "lan",
            Some("10.78.0.1/24".parse().unwrap()),
            Some("fd00:78::1/64".parse().unwrap()),
        )
    };
    assert_eq!(network(&store, "lan"), lan);
    let office = network(&store, "office");
    assert_eq!((office.bridge.as_str(), office.foreign, office.nat4), ("office0", true, Nat::Off));
    assert_eq!(store.networks().unwrap().len(), 4);
    let db = found(&store, "db01");
    let place = |kind: &NicKind| match kind {
        NicKind::Bridged { network: place } | NicKind::Macvlan { parent: place } => place.clone(),
        NicKind::Routed => String::new(),
    };
    let nics: Vec<(&str, &str, String, String)> = db
        .nics
        .iter()
        .map(|nic| {
            let ip = nic.ipv4.map(|net| net.to_string()).unwrap_or_default();
            (nic.device.as_str(), nic.kind.as_str(), place(&nic.kind), ip)
        })
        .collect();
    let row = |device, kind, place: &str, ip: &str| (device, kind, place.to_owned(), ip.to_owned());
    let expected = [
        row("eth0", "bridged", "released0", "10.77.0.2/24"),
        row("eth1", "bridged", "plain", "10.79.0.2/28"),
        row("eth2", "bridged", "lan", "10.78.0.3/24"),
        row("wan", "routed", "", "203.0.113.10/32"),
        row("side", "macvlan", "outside", "203.0.113.11/24"),
        row("desk", "bridged", "office", "198.18.0.20/24"),
    ];
    assert_eq!(nics, expected);
    let settings = &db.nics[1].settings;
    assert_eq!((db.nics[1].name.as_str(), settings.mtu), ("inner0", Some(1300)));
    assert_eq!((settings.ingress, settings.egress), (Some(50_000_000), Some(20_000_000)));
    assert!(!settings.mac_filtering && !settings.ipv4_filtering && !settings.ipv6_filtering);
    assert!(settings.port_isolation && db.nics[2].settings.dhcp);
    assert_eq!(db.nics[2].mac.to_string(), "02:00:5e:00:53:01");
    assert_eq!(db.nics[4].gateway6, Some("2001:db8:9::1".parse().unwrap()));
}

#[test]
fn the_firewall_of_version_0_1_0_is_as_it_was() {
    let (_dir, mut store) = opened("released");
    let policy = store.policy().unwrap();
    assert_eq!(policy.sets["office"], ["198.51.100.0/24", "2001:db8:1::/48"]);
    assert_eq!(
        (policy.networks["lan"].default_in, policy.groups["web"].inward.len()),
        (Some(Action::Deny), 1)
    );
    let web = "web01".parse().unwrap();
    let rule = &policy.rules(&web, Direction::In)[0];
    assert_eq!(rule.to_string(), "allow tcp 22 from set:office log");
    assert_eq!(rule.note.as_deref(), Some("admins"));
    assert_eq!(policy.containers["web01"].groups, ["web"]);
    let forward = Forward {
        container: "web01".to_owned(),
        proto: Proto::Udp,
        listen: "5000-5010".to_owned(),
        address: "203.0.113.9".to_owned(),
        to: String::new(),
        device: String::new(),
        by_profile: false,
    };
    assert_eq!(policy.forwards[1], forward);
    let blocks = store.blocks(THEN).unwrap();
    let told: Vec<_> = blocks
        .iter()
        .map(|block| (block.address.to_string(), block.container.as_ref().map(|name| name.as_str())))
        .collect();
    let told: Vec<(&str, Option<&str>)> =
        told.iter().map(|(address, name)| (address.as_str(), *name)).collect();
    let expected =
        [("198.51.100.7/32", Some("web01")), ("2001:db8:bad::/48", None), ("203.0.113.66/32", None)];
    assert_eq!(told, expected);
    assert_eq!(blocks[2].reason.as_deref(), Some("scans"));
    assert!(store.traffic().unwrap().values().any(|traffic| traffic.received_bytes > 0));
    assert_eq!(store.pending_policy().unwrap(), None);

    let (_dir, mut store_of_ann) = opened("released-users/1000");
    let pending = store_of_ann.pending_policy().unwrap().unwrap();
    assert!(pending.previous.containers.is_empty() && pending.previous.forwards.len() == 1);
    let now = store_of_ann.policy().unwrap();
    assert_eq!(now.containers["own01"].default_in, Some(Action::Deny));
    assert_eq!(store_of_ann.take_policy_back().unwrap(), Some(pending.previous));
    // What is written now is read again.
    store.set_policy(&policy).unwrap();
    assert_eq!(store.policy().unwrap(), policy);
}

#[test]
fn templates_of_version_0_1_0_are_as_they_were() {
    let (_dir, store) = opened("released");
    let all = store.templates().unwrap();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["centos/7:latest", "other", "tiny"]);
    let tiny = &all[2].1;
    assert_eq!((tiny.facts.init, tiny.facts.network), (InitKind::Systemd, NetworkStyle::None));
    assert_eq!((tiny.facts.os.as_str(), tiny.facts.arch.as_str()), ("Tiny 1", "x86_64"));
    assert_eq!((all[0].1.id.as_str(), tiny.bytes > 0), (tiny.id.as_str(), true));
}

/// Networks with a container.
fn used(store: &Store) -> Vec<Network> {
    let (all, containers) = (store.networks().unwrap(), store.containers().unwrap());
    let has = |network: &Network| {
        containers.iter().flat_map(|c| &c.nics).any(|nic| nic.network() == Some(&network.name))
    };
    all.into_iter().filter(has).collect()
}

/// Each manifest says what the database beside it does, and all together make another one.
#[test]
fn manifests_of_version_0_1_0_make_the_database_anew() {
    let (_dir, old) = opened("released");
    let dirs = fs::read_dir(released("released/containers")).unwrap().flatten();
    let texts = dirs.map(|dir| fs::read_to_string(dir.path().join("manifest.toml")).unwrap());
    let manifests: Vec<_> = texts.map(|text| from_toml(&text).unwrap()).collect();
    assert_eq!(manifests.len(), 5);
    let dir = tempfile::tempdir().unwrap();
    let mut new = Store::open(&dir.path().join("nagaya.db")).unwrap();
    new.set_range(old.range().unwrap().unwrap()).unwrap();
    for (name, template) in old.templates().unwrap() {
        new.add_template(&name, &template, false).unwrap();
    }
    let rejected = new.rebuild(&manifests).unwrap();
    assert!(rejected.is_empty(), "{rejected:?}");
    // Whether they are wanted up has changed since the manifests were written.
    let mut expected = old.containers().unwrap();
    for container in &mut expected {
        let manifest = manifests.iter().find(|manifest| manifest.container.id == container.id).unwrap();
        container.wanted_up = manifest.container.wanted_up;
    }
    assert_eq!(new.containers().unwrap(), expected);
    assert_eq!(new.networks().unwrap(), used(&old));
}

/// A later version has added to what is stored, in a way that need not concern this one.
#[test]
fn what_a_later_version_has_added_is_overlooked() {
    let (_dir, store) = opened("released");
    let (containers, policy) = (store.containers().unwrap(), store.policy().unwrap());
    let (networks, templates) = (store.networks().unwrap(), store.templates().unwrap());
    for sql in [
        "UPDATE network SET spec = json_set(spec, '$.news', json('{\"a\":[1]}'))",
        "UPDATE nic SET spec = json_set(spec, '$.news', 1, '$.settings.news', true, '$.kind.news', 'x')",
        "UPDATE template SET facts = json_set(facts, '$.news', 1)",
        "UPDATE policy SET document = json_set(document, '$.news', 1)",
        "UPDATE policy SET document = json_set(document, '$.groups.web.news', 1, '$.groups.web.in[0].news', 1) \
            WHERE container = ''",
        "UPDATE policy SET document = json_set(document, '$.forwards[0].news', 1) WHERE container <> ''",
        "UPDATE traffic SET total = json_set(total, '$.news', 1)",
        "INSERT INTO config SELECT id, 'limits.news', '1' FROM container WHERE name = 'web01'",
    ] {
        assert!(store.conn.execute(sql, []).unwrap() > 0, "{sql}");
    }
    assert_eq!((store.policy().unwrap(), store.networks().unwrap()), (policy, networks));
    assert_eq!(store.templates().unwrap(), templates);
    store.traffic().unwrap();
    let web = found(&store, "web01");
    assert_eq!(web.config.own().strangers().collect::<Vec<_>>(), ["limits.news"]);
    let now = store.containers().unwrap();
    assert!(
        now.iter().zip(&containers).all(|(now, then)| (&now.nics, &now.uuid) == (&then.nics, &then.uuid))
    );
}
