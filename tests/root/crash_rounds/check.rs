//! What there is, and whether it is all accounted for.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use super::super::host::told;
use super::super::leftovers;
use super::site::{self, Site};

/// One line for each file, cgroup, link, rule, mount, process and row.
pub fn everything(site: &Site<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in [&site.state, &site.run, &site.cgroups] {
        leftovers::files(dir, &mut found);
    }
    found.extend(site::links(site).into_iter().map(|link| format!("link {link}")));
    found.extend(rules(site));
    found.extend(site::mounts(&site.mounts_of, &site.word).into_iter().map(|line| format!("mount {line}")));
    found.extend(site.processes().into_iter().map(|(_, what)| format!("process {what:?}")));
    leftovers::rows(&site.state.join("nagaya.db"), &mut found);
    // What has passed the links of the container that is kept; and its network's ports are led through
    // the host for as long as others on it have rules, or until the next plan.
    let passing = |line: &&String| {
        line.starts_with("row of traffic")
            || line.contains("\"routed\":")
            || line.contains("of \"routed\"")
            || line.contains("\"r-")
    };
    found.retain(|line| !passing(&line));
    found
}

/// The tables of nftables, without counts, times and places.
fn rules(site: &Site<'_>) -> Vec<String> {
    let text = site.in_network("nft", &["-j", "list", "ruleset"]);
    let mut all: Value = serde_json::from_str(&text).expect("nft prints JSON");
    let all = all["nftables"].take();
    let rows = all.as_array().expect("a list").iter().filter(|row| row["metainfo"].is_null());
    let mut found = Vec::new();
    for row in rows {
        let mut row = row.clone();
        strip(&mut row);
        // The elements of a set stand in one row with it.
        for kind in ["set", "map"] {
            let Some(set) = row.get_mut(kind) else { continue };
            let elements = set["elem"].take();
            let each = elements.as_array().into_iter().flatten();
            found.extend(each.map(|element| format!("nft element of {}: {element}", set["name"])));
        }
        found.push(format!("nft {row}"));
    }
    found
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(all) => {
            for key in ["handle", "packets", "bytes", "expires"] {
                all.remove(key);
            }
            all.values_mut().for_each(strip);
        }
        Value::Array(all) => all.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The directories in `dir` by name; none where it is not there.
fn dirs(dir: &std::path::Path) -> BTreeSet<String> {
    let all = fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    all.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What `list` says is what there is: on disk, in the kernel, nothing more and nothing less.
pub fn accounted_for(site: &Site<'_>) {
    // A guest that was asked to shut down does so also when the command that asked is dead; and one that was
    // killed counts as stopped while its broker waits for the kernel, holding the container's lock. Where that
    // broker is dead as well, a later `list` removes what is left.
    let end = Instant::now() + Duration::from_secs(30);
    let mut rows = site.json(&["list"]);
    while rows.iter().any(|row| row["state"] == "busy") || cgroups(site).len() > count_up(&rows) {
        assert!(Instant::now() < end, "something is under way for ever: {rows:#?}\n{}", site.says(&["list"]));
        std::thread::sleep(Duration::from_millis(5));
        rows = site.json(&["list"]);
    }
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    let ids: BTreeSet<_> = rows.iter().map(|row| text(row, "id")).collect();
    let up: BTreeSet<_> = rows.iter().filter(|row| is_up(row)).map(|row| text(row, "id")).collect();
    for row in &rows {
        assert!(is_up(row) || row["state"] == "stopped", "{row}");
    }
    assert_eq!(dirs(&site.state.join("pool/containers")), ids, "directories in the pool");
    layers(site);
    assert_eq!(dirs(&site.state.join("containers")), ids, "directories of manifests");
    assert_eq!(dirs(&site.state.join("pool/tmp")), BTreeSet::new(), "temporary directories");
    assert_eq!(cgroups(site), up, "cgroups");
    assert!(dirs(&site.run.join("containers")).is_subset(&ids), "run directories");
    // The file of a killed command's lock stays until something is deleted, but nobody holds it.
    for lock in fs::read_dir(site.run.join("locks")).into_iter().flatten().flatten() {
        let Ok(file) = fs::File::open(lock.path()) else { continue };
        assert!(file.try_lock().is_ok(), "{} is held", lock.path().display());
    }
    templates(site);
    links(site, &up);
    database(site, rows.len() as u32);
    processes(site, &up);
}

fn is_up(row: &Value) -> bool {
    row["state"] == "running" || row["state"] == "frozen"
}

fn count_up(rows: &[Value]) -> usize {
    rows.iter().filter(|row| is_up(row)).count()
}

/// The cgroups of containers, by id.
fn cgroups(site: &Site<'_>) -> BTreeSet<String> {
    dirs(&site.cgroups).into_iter().filter(|name| name.len() == 8 || !name.starts_with('u')).collect()
}

/// Each layer is there that a container or a snapshot stands on, and no other; what was discarded goes.
fn layers(site: &Site<'_>) {
    let mut rows = BTreeSet::new();
    leftovers::rows(&site.state.join("nagaya.db"), &mut rows);
    let of = |table: &str| {
        let start = format!("row of {table}: ");
        rows.iter().filter_map(|row| row.strip_prefix(&start).map(str::to_owned)).collect::<Vec<_>>()
    };
    let known: BTreeSet<String> =
        of("layer").iter().map(|row| row.split(", ").next().unwrap().to_owned()).collect();
    let used = of("container_layer").into_iter().chain(of("snapshot_layer"));
    let used: BTreeSet<String> = used.map(|row| row.rsplit(", ").next().unwrap().to_owned()).collect();
    assert_eq!(known, used, "layers that something stands on");
    assert_eq!(dirs(&site.state.join("pool/layers")), known, "layers in the pool");
    let end = Instant::now() + Duration::from_secs(20);
    while site.state.join("pool/trash").exists() {
        assert!(Instant::now() < end, "what was discarded stays");
        std::thread::sleep(Duration::from_millis(5));
        site.json(&["list"]);
    }
    let own = dirs(&site.state.join("pool/containers"));
    for id in own {
        let found = dirs(&site.state.join("pool/containers").join(&id));
        // What a restore has put aside goes with the next one, or with the container.
        let known = ["upper", "work", "former"].map(str::to_owned).into();
        assert!(found.is_subset(&known), "{id}: {found:?}");
        assert!(found.contains("upper") && found.contains("work"), "{id}: {found:?}");
    }
}

fn templates(site: &Site<'_>) {
    let rows = site.json(&["template", "list"]);
    let named: BTreeSet<_> = rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
    let there = dirs(&site.state.join("pool/templates"));
    assert!(named.is_subset(&there) && there.len() == named.len().max(1), "{named:?} {there:?}");
}

/// Each link of a container belongs to one that runs, and each of those has one.
fn links(site: &Site<'_>, up: &BTreeSet<String>) {
    let all = site::links(site);
    let id = |name: &str| {
        let short = name.strip_prefix(['n', 'i']).filter(|rest| rest.len() == 9);
        let of_service = short.map(|rest| rest[1..].to_owned());
        let of_user = |name: &str| {
            let digits = name.get(name.len().checked_sub(7)?..)?;
            name.starts_with(|c| ('a'..='f').contains(&c) || ('u'..='z').contains(&c)).then_some(())?;
            Some(format!("{:08x}", u32::from_str_radix(digits, 36).ok()?))
        };
        match of_service {
            Some(id) if id.bytes().all(|b| b.is_ascii_hexdigit()) => Some(id),
            _ if site.is_served() => of_user(name),
            _ => None,
        }
    };
    let found: BTreeSet<_> =
        all.iter().filter(|name| !name.contains('-')).filter_map(|name| id(name)).collect();
    assert_eq!(found, *up, "links: {all:?}");
}

fn database(site: &Site<'_>, containers: u32) {
    let dir = tempfile::tempdir().expect("make a directory");
    let copy = dir.path().join("copy.db");
    fs::copy(site.state.join("nagaya.db"), &copy).expect("copy the database");
    let _ = fs::copy(site.state.join("nagaya.db-wal"), dir.path().join("copy.db-wal"));
    let conn = Connection::open(&copy).expect("open the copy of the database");
    let text =
        |query: &str| conn.query_row(query, [], |row| row.get::<_, String>(0)).expect("ask the database");
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    let count = |table: &str| {
        let query = format!("SELECT count(*) FROM {table}");
        conn.query_row(&query, [], |row| row.get::<_, u32>(0)).expect("count rows")
    };
    assert_eq!(count("container"), containers);
}

/// Every living process is in the cgroup of a container that runs, or serves the owner.
fn processes(site: &Site<'_>, up: &BTreeSet<String>) {
    const SERVERS: [&str; 5] = ["dnsmasq", "nagaya-keeper", "pasta", "dbus-daemon", "hostd"];
    for (pid, what) in site.processes() {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let known = up.iter().any(|id| cgroup.contains(&format!("/{id}/")));
        let serves = SERVERS.iter().any(|name| what.contains(name));
        assert!(known || serves || cgroup.is_empty(), "process {pid} {what:?} is nobody's: {cgroup}");
    }
}

/// Each container but the one that is kept can be started, worked in, stopped and deleted.
pub fn all_work_and_go(site: &Site<'_>) {
    for row in site.json(&["list"]) {
        let name = row["name"].as_str().expect("a name");
        if name == "keeper" {
            continue;
        }
        if row["state"] != "stopped" {
            site.ok(&["stop", "--force", name]);
        }
        site.ok(&["start", name]);
        site.ok(&["exec", name, "--", "true"]);
        site.ok(&["stop", "--timeout", "20", name]);
        site.ok(&["delete", name]);
    }
    let volumes = site.json(&["storage", "volume", "list"]);
    let names: BTreeSet<_> =
        volumes.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(dirs(&site.state.join("pool/volumes")), names, "volumes");
    for name in names {
        site.ok(&["storage", "volume", "delete", "default", &name]);
    }
    for row in site.json(&["template", "list"]) {
        if row["name"] != "tiny" {
            site.ok(&["template", "delete", row["name"].as_str().expect("a name")]);
        }
    }
    for row in site.json(&["firewall", "blocks"]) {
        // One that ends just now is refused.
        site.nagaya(&["firewall", "unblock", row["address"].as_str().expect("an address")]);
    }
    for words in [
        &["network", "delete", "lan0"][..],
        &["network", "delete", "lan1"],
        &["firewall", "group", "delete", "web"],
        &["firewall", "set", "delete", "office"],
    ] {
        let output = site.nagaya(words);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {}", words.join(" "), told(&output));
    }
}
