//! Ordinary users on a host without systemd: hostd on a bus of its own, real namespaces.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::errors::REFUSED;
use super::host::{PATH, Running, run_tool, told, until};
use super::hostd_users::{HostdUsers, wait_for};

/// A line of /proc/PID/status.
pub fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("read a process's status");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim_start_matches(':').trim().to_owned()
}

fn uid_map(pid: i32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("read uid_map");
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn an_ordinary_user_has_a_machine() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    ann.ok(&["launch", "tiny", "mine"]);
    let init = ann.init("mine");
    let (start, count) = ann.range();
    let map = uid_map(init);
    assert_eq!((map[0], map[2]), (0, 65_536));
    assert!(map[1] >= start + 65_536 && map[1] + 65_536 <= start + count, "{map:?} of {start}+{count}");
    let cgroup = fs::read_to_string(format!("/proc/{init}/cgroup")).expect("read the cgroup");
    assert!(cgroup.contains(&format!("/u{}/", ann.uid)), "{cgroup}");
    assert_eq!(ann.ok(&["exec", "mine", "--", "id", "-u"]).trim(), "0");
    let pool = run_tool("stat", &["-c", "%u %a", &ann.state_dir().join("pool").to_string_lossy()]);
    assert_eq!(pool.trim(), format!("{start} 711"));
    let state = run_tool("stat", &["-c", "%u %a", &ann.state_dir().to_string_lossy()]);
    assert_eq!(state.trim(), format!("{} 700", ann.uid));
    ann.ok(&["restart", "mine"]);
    assert_ne!(ann.init("mine"), init);
    ann.ok(&["stop", "mine"]);
    ann.ok(&["start", "mine"]);
    // Root sees it by name, and not among its own.
    let rows = users.host.ok(&["--owner", &ann.name, "list", "--format", "csv"]);
    assert!(rows.contains("mine"), "{rows}");
    assert_eq!(users.host.list(), Vec::<serde_json::Value>::new());
    ann.ok(&["delete", "--force", "mine"]);
    assert!(!Path::new(&format!("/proc/{}", init)).exists());
}

#[test]
fn what_only_reads_asks_no_broker() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    ann.ok(&["launch", "tiny", "mine"]);
    let without_bus = |args: &[&str]| {
        let mut command = ann.command(args);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
        command.output().expect("run nagaya")
    };
    for command in [
        "list",
        "config show mine",
        "device list mine",
        "network list",
        "template list",
        "template recipes",
        "operation list",
        "forward list",
        "firewall export",
        "exec mine -- true",
    ] {
        let output = without_bus(&command.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{command}: {}", told(&output));
    }
    let refused = without_bus(&["launch", "tiny", "other"]);
    assert!(!refused.status.success(), "that needs the broker: {}", told(&refused));
    ann.ok(&["stop", "--force", "mine"]);
}

#[test]
fn hostd_has_no_right_of_its_own() {
    let users = HostdUsers::new(1);
    users.granted(0);
    // A worker ends when it hears that its command has ended.
    until(10, "only hostd and its broker are left", || users.hostds().len() == 2);
    let hostds = users.hostds();
    let (fronts, brokers): (Vec<i32>, Vec<i32>) =
        hostds.into_iter().partition(|pid| !status(*pid, "Uid").starts_with('0'));
    assert_eq!((fronts.len(), brokers.len()), (1, 1));
    for key in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status(fronts[0], key), "0000000000000000", "{key}");
    }
    assert_eq!(status(fronts[0], "Groups"), "");
    // Processes that fork must have one thread.
    assert_eq!(status(brokers[0], "Threads"), "1");
    let socket = format!("/run/{}-hostd/broker.sock", users.host.name());
    let ann = users.user(0);
    let refused = ann.does(|| std::os::unix::net::UnixStream::connect(&socket).unwrap_err());
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn nobody_has_anything_without_being_allowed() {
    let users = HostdUsers::new(1);
    let ann = users.user(0);
    let said = ann.fails(REFUSED, &["list"]);
    let group = users.host.name();
    assert!(said.contains(&format!("adduser {} {group}", ann.name)), "{said}");
    assert!(!ann.state_dir().exists());
    let subuid = fs::read_to_string("/etc/subuid").expect("read /etc/subuid");
    assert!(subuid.lines().filter(|line| line.starts_with(&format!("{}:", ann.name))).count() <= 1);
    // A member of the group may, and one whom the administrator has barred may not.
    users.host.ok(&["setup"]);
    run_tool("usermod", &["-aG", group, &ann.name]);
    ann.ok(&["list"]);
    users.host.ok(&["grant", &ann.name, "allow=false"]);
    let archive = users.tiny();
    let args = ["template", "import", &archive.to_string_lossy(), "--name", "tiny"];
    let said = ann.fails(REFUSED, &args);
    assert!(said.contains("barred"), "{said}");
}

#[test]
fn grants_are_bounds() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    users.host.ok(&["grant", &ann.name, "containers=1"]);
    ann.ok(&["launch", "tiny", "one"]);
    let said = ann.fails(REFUSED, &["launch", "tiny", "two"]);
    assert!(said.contains("as your grant allows (1 of 1)") && said.contains("containers=2"), "{said}");
    assert_eq!(ann.ok(&["list", "--format", "csv"]).lines().count(), 2);
    ann.ok(&["stop", "--force", "one"]);
    ann.ok(&["launch", "tiny", "two"]);
    ann.ok(&["delete", "--force", "two"]);
    users.host.ok(&["grant", &ann.name, "networks=0"]);
    let said = ann.fails(REFUSED, &["start", "one"]);
    assert!(said.contains("no network of your own"), "{said}");
    users.host.fails(REFUSED, &["grant", &ann.name, "memory=lots"]);
    users.host.fails(REFUSED, &["grant", "nobody-of-that-name", "memory=1GiB"]);
    let said = ann.fails(REFUSED, &["grant", &ann.name, "containers=1000"]);
    assert!(said.contains("root"), "{said}");
}

#[test]
fn two_users_neither_see_nor_harm_each_other() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    ann.ok(&["launch", "tiny", "one"]);
    bob.ok(&["launch", "tiny", "one"]);
    let (of_ann, of_bob) = (ann.init("one"), bob.init("one"));
    assert!(uid_map(of_ann)[1].abs_diff(uid_map(of_bob)[1]) >= 65_536);
    bob.ok(&["delete", "--force", "one"]);
    assert_eq!(ann.init("one"), of_ann);
    bob.ok(&["launch", "tiny", "one"]);
    // Neither root may pass as the other's owner, nor a file be reached.
    bob.fails(REFUSED, &["--owner", &ann.name, "list"]);
    let state = ann.state_dir();
    let denied = bob.does(|| fs::read_dir(&state).map(drop).unwrap_err());
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    let run = format!("/run/{}-users/{}", users.host.name(), ann.uid);
    let denied = bob.does(|| fs::read_dir(&run).map(drop).unwrap_err());
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    let denied = bob.does(|| {
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(of_ann).expect("a process"),
            rustix::process::Signal::KILL,
        )
    });
    assert!(denied.is_err());
    // No packet passes between their networks, and each still reaches the host.
    let reaches = |init: i32, to: &str| {
        let args = ["-t", &init.to_string(), "-n", "ping", "-c", "1", "-W", "1", to];
        Command::new("nsenter").args(args).env("PATH", PATH).output().expect("run ping").status.success()
    };
    wait_for("the guest's network", || reaches(of_ann, ann.info("one")["gateway"].as_str().unwrap_or("-")));
    assert!(!reaches(of_ann, &bob.address("one")));
    assert!(!reaches(bob.init("one"), &ann.address("one")));
}

#[test]
fn a_killed_hostd_costs_no_container() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    ann.ok(&["launch", "tiny", "keeps"]);
    let init = ann.init("keeps");
    for round in 0..8 {
        let launch = Running::start(ann.command(&["launch", "tiny", &format!("c{round}")]), b"");
        std::thread::sleep(std::time::Duration::from_millis(4 * round));
        for pid in users.hostds().iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let output = launch.wait();
        // Whatever became of it, the next command finds things whole.
        let rows = ann.ok(&["list", "--format", "json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&rows).expect("JSON");
        let row = rows.iter().find(|row| row["name"] == format!("c{round}"));
        match row {
            Some(row) => {
                assert!(output.status.success(), "{row} of a launch that failed: {}", told(&output));
                assert_eq!(row["state"], "running");
            }
            None => assert!(!output.status.success()),
        }
        assert_eq!(ann.init("keeps"), init);
    }
    assert_eq!(ann.ok(&["exec", "keeps", "--", "echo", "here"]).trim(), "here");
}

#[test]
fn hostd_ends_when_nobody_calls_and_comes_back() {
    let users = HostdUsers::with_hostd(1, &["--idle", "1"]);
    let ann = users.granted(0);
    ann.ok(&["launch", "tiny", "stays"]);
    let init = ann.init("stays");
    wait_for("the end of hostd", || users.hostds().is_empty());
    assert_eq!(ann.ok(&["exec", "stays", "--", "echo", "here"]).trim(), "here");
    ann.ok(&["launch", "tiny", "again"]);
    assert_eq!(ann.init("stays"), init);
}

#[test]
fn ids_that_are_somebody_elses_are_refused() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.user(0), users.user(1));
    for user in [&ann, &bob] {
        users.host.ok(&["grant", &user.name, "allow=true"]);
    }
    bob.ok(&["list"]);
    let (start, count) = bob.range();
    let inside = format!("{}-{}", start + 65_536, start + count - 1);
    run_tool("usermod", &["--add-subuids", &inside, "--add-subgids", &inside, &ann.name]);
    let said = ann.fails(REFUSED, &["list"]);
    assert!(said.contains("also given to") && said.contains(&bob.name), "{said}");
    assert!(!ann.state_dir().exists());
    run_tool("usermod", &["--del-subuids", &inside, "--del-subgids", &inside, &ann.name]);
    let own = format!("{}-{}", ann.uid, ann.uid + 131_071);
    run_tool("usermod", &["--add-subuids", &own, "--add-subgids", &own, &ann.name]);
    let said = ann.fails(REFUSED, &["list"]);
    assert!(said.contains("contain user") || said.contains("also given to"), "{said}");
    run_tool("usermod", &["--del-subuids", &own, "--del-subgids", &own, &ann.name]);
    ann.ok(&["list"]);
}
