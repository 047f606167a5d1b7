//! Verbs on several containers, in forms that may be typed again, and what they say when they do not
//! know.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use super::host::{Host, told, until, waits_in};
use super::hostd_users::HostdUsers;

fn states(host: &Host) -> Vec<String> {
    let all = host.list();
    all.iter()
        .map(|row| format!("{} {}", row["name"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect()
}

#[test]
fn patterns_all_and_what_may_be_typed_twice() {
    let host = Host::new();
    for name in ["web1", "web2", "db"] {
        host.ok(&["create", "tiny", name]);
    }
    host.see_links();
    host.ok(&["start", "web*"]);
    assert_eq!(states(&host), ["db stopped", "web1 running", "web2 running"]);
    host.ok(&["start", "--all", "--if-stopped", "--wait"]);
    assert_eq!(states(&host), ["db running", "web1 running", "web2 running"]);
    host.ok(&["pause", "db"]);
    host.ok(&["pause", "db", "--if-running"]);
    host.ok(&["resume", "--all", "--if-frozen"]);
    let boots = |name: &str| host.info(name)["pid"].clone();
    let (web, db) = (boots("web1"), boots("db"));
    host.ok(&["stop", "db"]);
    host.ok(&["restart", "--all", "--if-running", "--wait=network"]);
    assert_eq!(states(&host), ["db stopped", "web1 running", "web2 running"]);
    assert!(boots("web1") != web && boots("db") != db);
    host.ok(&["stop", "--all", "--if-running", "--force"]);
    host.ok(&["delete", "--if-exists", "web1", "gone"]);
    let said = host.fails(1, &["delete", "mail*"]);
    assert!(said.contains("mail*"), "{said}");
    host.ok(&["delete", "--all"]);
    assert!(host.list().is_empty());
    // None is all there are.
    host.ok(&["stop", "--all"]);
    for (mistake, hint) in
        [(&["launch", "tiny", "--wait", "network"][..], "--wait=network"), (&["stop"], "NAME")]
    {
        let said = host.fails(2, mistake);
        assert!(said.contains(hint), "{said}");
    }
    assert!(host.list().is_empty());
}

#[test]
fn what_cannot_be_read_is_neither_stopped_nor_deleted() {
    let host = Host::new();
    host.launch("web");
    let events = host.cgroup_of("web").join("payload/cgroup.events");
    fs::set_permissions(&events, fs::Permissions::from_mode(0o0)).unwrap();
    assert_eq!(states(&host), ["web unknown"]);
    for refused in [
        &["start", "web"][..],
        &["stop", "web"],
        &["delete", "web"],
        &["delete", "--force", "web"],
        &["rename", "web", "www"],
    ] {
        host.fails(1, refused);
    }
    fs::set_permissions(&events, fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(states(&host), ["web running"]);
    host.exec("web", &["true"]);
}

#[test]
fn a_wait_for_the_network_is_one_for_the_boot_as_well() {
    let host = Host::new();
    host.launch("web");
    host.ok(&["stop", "web"]);
    host.ok(&["start", "web", "--wait=network"]);
    // One whose own firewall does not answer connections.
    let init = host.init("web").to_string();
    let drop =
        "add table inet own; add chain inet own in { type filter hook input priority 0; policy drop; }";
    super::host::run_tool("nsenter", &["-n", "-t", &init, "nft", drop]);
    host.ok(&["exec", "web", "--", "true"]);
    let waited = host.spawn(&["restart", "web", "--wait=network", "--wait-timeout", "20"], b"").wait();
    assert!(waited.status.success(), "{}", told(&waited));
}

#[test]
fn an_interrupted_restart_says_what_is_going_on() {
    let host = Host::new();
    host.launch("web");
    host.sh("web", "echo stubborn > /etc/behave");
    let restart = host.spawn(&["restart", "web", "--timeout", "50"], b"");
    until(30, "the guest has been asked", || host.ok(&["logs", "web"]).contains("tiny: no"));
    super::host::run_tool("kill", &["-s", "INT", &restart.pid().to_string()]);
    let output = restart.wait_for(Duration::from_secs(5));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("not started again") && said.contains("nagaya start web"), "{said}");
    host.ok(&["stop", "--force", "web"]);
}

#[test]
fn events_are_told_as_json() {
    let host = Host::new();
    let watching = host.spawn(&["events"], b"");
    let told_of = |event: &str| watching.printed().contains(&format!("\"{event}\""));
    until(10, "it has looked once", || waits_in(watching.pid(), libc::SYS_clock_nanosleep));
    host.launch("web");
    until(10, "it tells of the start", || told_of("started"));
    host.ok(&["pause", "web"]);
    until(10, "it tells of the pause", || told_of("frozen"));
    host.ok(&["delete", "--force", "web"]);
    until(10, "it tells of the end", || told_of("deleted"));
    super::host::run_tool("kill", &["-s", "INT", &watching.pid().to_string()]);
    let output = watching.wait_for(Duration::from_secs(5));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let words: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    for wanted in ["created", "started", "frozen", "stopped", "deleted"] {
        assert!(words.contains(&wanted), "{wanted}: {text}");
    }
    assert!(events.iter().all(|event| event["container"] == "web" && event["time"].is_string()), "{text}");
}

#[test]
fn who_only_looks_sets_up_nobody() {
    let users = HostdUsers::new(1);
    let name = users.user(0).name;
    let subids = fs::read_to_string("/etc/subuid").unwrap();
    for look in
        [&["--owner", &name, "list"][..], &["--owner", &name, "info", "web"], &["--owner", "games", "list"]]
    {
        let said = users.host.fails(1, look);
        assert!(said.contains("has no containers"), "{said}");
    }
    let said = users.host.fails(1, &["--owner", "games", "launch", "tiny", "web"]);
    assert!(said.contains("system account"), "{said}");
    let ours = |text: &str| {
        text.lines().filter(|line| line.starts_with("games:") || line.starts_with(&name)).count()
    };
    assert_eq!(ours(&fs::read_to_string("/etc/subuid").unwrap()), ours(&subids));
}
