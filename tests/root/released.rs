//! What released versions have stored, opened and repaired by the program of today.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::Value;

use super::host::Host;

/// The instance that they were made in, and its first id.
const INSTANCE: &str = "released";
const FIRST_ID: u32 = 1_879_048_192;

fn released(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released/0.1.0").join(path)
}

/// What version 0.1.0 has shown of it all, with the names of `host`.
fn shown(host: &Host) -> Value {
    let text = fs::read_to_string(released("shown.json")).expect("read what was shown");
    serde_json::from_str(&text.replace(&format!("{INSTANCE}0"), &host.bridge())).expect("JSON")
}

/// A host with the state of the released instance, but for what is the host's own: its ids, and the names
/// that come from the instance's.
fn host_of_version_0_1_0() -> Host {
    let host = Host::bare_alone();
    host.ok(&["setup", "--id-ranges", "64"]);
    let (state, (start, count)) = (host.state_dir(), host.ids().expect("ids"));
    for beside in ["-wal", "-shm"] {
        let _ = fs::remove_file(state.join(format!("nagaya.db{beside}")));
    }
    copy(&host, &released("var/lib/released"), &state, start - FIRST_ID);
    let database = Connection::open(state.join("nagaya.db")).expect("open the database");
    let bridge = host.bridge();
    let sql = format!(
        "PRAGMA foreign_keys = OFF;
         UPDATE meta SET range_start = {start}, range_count = {count};
         UPDATE container SET slice = slice - {FIRST_ID} + {start};
         UPDATE network SET name = replace(name, 'released0', '{bridge}'),
            bridge = replace(bridge, 'released0', '{bridge}'), spec = replace(spec, 'released0', '{bridge}');
         UPDATE nic SET network = replace(network, 'released0', '{bridge}'),
            segment = replace(segment, 'released0', '{bridge}'), spec = replace(spec, 'released0', '{bridge}');
         PRAGMA wal_checkpoint(TRUNCATE);"
    );
    database.execute_batch(&sql).expect("give the database this host's names");
    drop(database);
    own(&host, &state);
    host
}

fn copy(host: &Host, from: &Path, to: &Path, shift: u32) {
    for entry in fs::read_dir(from).expect("list what is released").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("make a directory");
            copy(host, &entry.path(), &target, shift);
        } else if entry.file_name() == "manifest.toml" {
            let text = fs::read_to_string(entry.path()).expect("read a manifest");
            let id_range = text.lines().find_map(|line| line.strip_prefix("slice = ")).expect("a slice");
            let moved = id_range.parse::<u32>().expect("a number") + shift;
            let text = text.replace(id_range, &moved.to_string()).replace("released0", &host.bridge());
            fs::write(target, text).expect("write a manifest");
        } else {
            fs::copy(entry.path(), target).expect("copy a file");
        }
    }
}

/// Gives the owner all but the pool, which is the storage ids'.
fn own(host: &Host, path: &Path) {
    let uid = host.uid();
    chown(path, uid, None).expect("give a file to the owner");
    for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|e| e.file_name() != "pool") {
        match entry.path().is_dir() {
            true => own(host, &entry.path()),
            false => chown(entry.path(), uid, None).expect("give a file to the owner"),
        }
    }
}

fn json(host: &Host, args: &[&str]) -> Value {
    serde_json::from_str(&host.ok(&[args, &["--format", "json"]].concat())).expect("JSON")
}

/// A list by names, which the host's own networks are among.
fn sorted(mut list: Value) -> Value {
    if let Some(all) = list.as_array_mut() {
        all.sort_by_key(|one| one["name"].as_str().unwrap_or_default().to_owned());
    }
    list
}

/// Everything that `then` says, `now` says too.
fn assert_holds(now: &Value, then: &Value, place: &str) {
    match then {
        Value::Object(all) => {
            all.iter().for_each(|(key, then)| assert_holds(&now[key], then, &format!("{place}.{key}")));
        }
        Value::Array(all) => {
            assert_eq!(now.as_array().map(Vec::len), Some(all.len()), "{place}: {now}");
            for (at, then) in all.iter().enumerate() {
                assert_holds(&now[at], then, &format!("{place}.{at}"));
            }
        }
        plain => assert_eq!(now, plain, "{place}"),
    }
}

/// Compares what is shown with what version 0.1.0 has shown, but for what runs and is up.
fn assert_is_as_it_was(host: &Host) {
    let mut then = shown(host);
    for container in then["containers"].as_array_mut().expect("containers") {
        container["state"] = "stopped".into();
        container["pid"] = Value::Null;
    }
    for network in then["networks"].as_array_mut().expect("networks") {
        network.as_object_mut().expect("a network").remove("up");
    }
    let shown = [
        ("containers", &["list"][..]),
        ("networks", &["network", "list"]),
        ("templates", &["template", "list"]),
        ("devices of db01", &["device", "list", "db01"]),
    ];
    for (what, args) in shown {
        assert_holds(&sorted(json(host, args)), &sorted(then[what].clone()), what);
    }
    assert_eq!(host.ok(&["firewall", "export"]), then["policy"].as_str().expect("a policy"));
    assert_eq!(
        host.ok(&["config", "show", "web01"]),
        then["config of web01"].as_str().expect("a configuration")
    );
}

#[test]
fn an_instance_of_version_0_1_0_is_opened_and_repaired() {
    let host = host_of_version_0_1_0();
    assert_is_as_it_was(&host);
    let blocks = json(&host, &["firewall", "blocks"]);
    assert!(blocks.as_array().is_some_and(|all| all.iter().any(|one| one["reason"] == "scans")), "{blocks}");
    // What is written from now on stands beside what was.
    host.ok(&["config", "set", "web01", "user.new=1"]);
    host.ok(&["config", "unset", "web01", "user.new"]);
    for file in ["nagaya.db", "nagaya.db-wal", "nagaya.db-shm"] {
        let _ = fs::remove_file(host.state_dir().join(file));
    }
    let said = host.ok(&["repair"]);
    assert!(!said.contains("left out") && said.contains("container db01"), "{said}");
    assert_is_as_it_was(&host);
}

#[test]
fn what_a_later_version_has_stored_is_refused_and_stays() {
    let host = host_of_version_0_1_0();
    let id = host.info("web01")["id"].as_str().expect("an id").to_owned();
    let state = host.state_dir();
    let manifest = state.join("containers").join(id).join("manifest.toml");
    let template = fs::read_dir(state.join("templates")).unwrap().flatten().next().unwrap().path();
    // The latest that is known; what is written may be older.
    for (path, known) in [(manifest, 4), (template, 1), (state.join("firewall/_.toml"), 1)] {
        let text = fs::read_to_string(&path).expect("read a file");
        let rest = text
            .split_once('\n')
            .filter(|(head, _)| head.starts_with("version = "))
            .map_or(&*text, |(_, rest)| rest);
        let later = format!("version = {}\nnews = true\n{rest}", known + 1);
        fs::write(&path, &later).expect("write a file");
        let said = host.fails(1, &["repair"]);
        assert!(said.contains("later nagaya") && said.contains("install that newer nagaya"), "{said}");
        assert!(said.contains(&path.to_string_lossy().into_owned()), "{said}");
        host.ok(&["config", "set", "web01", "user.note=changed"]);
        host.ok(&["firewall", "set", "add", "office", "192.0.2.1"]);
        host.ok(&["firewall", "set", "remove", "office", "192.0.2.1"]);
        assert_eq!(fs::read_to_string(&path).expect("read a file"), later, "{}", path.display());
        fs::write(&path, text).expect("write a file");
    }
    let path = state.join("nagaya.db");
    let database = Connection::open(&path).expect("open the database");
    let version = |number: i32| database.pragma_update(None, "user_version", number).expect("set a version");
    let known: i32 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    version(known + 1);
    for args in [&["list"][..], &["repair"], &["config", "set", "web01", "user.note=x"]] {
        let said = host.fails(1, args);
        assert!(said.contains("schema version") && said.contains("install that newer nagaya"), "{said}");
    }
    assert_eq!(database.query_row("PRAGMA user_version", [], |row| row.get::<_, i32>(0)).unwrap(), known + 1);
    version(known);
    assert_eq!(host.ok(&["config", "get", "web01", "user.note"]).trim(), "changed");
}
