//! Commands and monitors that are killed in the middle of their work.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::host::{Host, pids, run_tool, uids, until};

/// A generator whose seed is printed, so that a failure can be had again.
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Self {
        let seed = std::env::var("NAGAYA_TEST_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed
            .unwrap_or_else(|| u64::from_str_radix(&super::host::random_hex(7), 16).expect("hexadecimal"));
        println!("NAGAYA_TEST_SEED={seed}");
        Self(seed)
    }

    /// From 0 on, less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn a_killed_command_is_finished_or_undone_by_the_next() {
    kill_commands(true);
}

/// The broker, which goes on for a moment, must not leave what nobody knows of.
#[test]
fn a_killed_manager_leaves_nothing_that_its_broker_made() {
    kill_commands(false);
}

fn kill_commands(whole_group: bool) {
    const ROUNDS: u32 = 25;
    let mut random = Random::seeded();
    let host = Host::new();
    host.launch("keeper");
    host.sh("keeper", "echo precious > /root/file");
    let keeper = host.init("keeper");
    for round in 0..ROUNDS {
        let there: Vec<_> = host.list().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
        let victim = format!("c{}", random.below(3));
        let verbs: &[&[&str]] = if there.contains(&victim) {
            &[&["stop", "--force"], &["delete", "--force"], &["start"], &["restart"], &["stop"]]
        } else {
            &[&["launch", "tiny"], &["launch", "tiny"], &["create", "tiny"]]
        };
        let verb = verbs[random.below(verbs.len() as u64) as usize];
        let delay = Duration::from_micros(random.below(40_000));
        let args = [verb, &[victim.as_str()]].concat();
        println!("round {round}: {args:?} killed after {delay:?}");
        let running = host.spawn(&args, b"");
        let group = running.pid();
        std::thread::sleep(delay);
        running.kill(whole_group);
        // At once, while a broker may be at work still; and again when it has ended.
        drop(running.wait());
        host.list();
        group_has_ended(group);
        check(&host);
        assert_eq!(host.init("keeper"), keeper);
    }
    host.launch("after");
    run_tool("ping", &["-c1", "-W2", &host.address("after")]);
    assert_eq!(host.sh("keeper", "cat /root/file"), "precious");
    for name in ["c0", "c1", "c2"].iter().filter(|name| host.list().iter().any(|row| row["name"] == **name)) {
        host.nagaya(&["stop", "--force", name]);
        host.ok(&["start", name]);
        host.exec(name, &["true"]);
    }
    no_link_without_a_bridge();
}

/// Waits until all processes of a killed command's group have ended.
pub fn group_has_ended(group: i32) {
    until(20, "the killed command's processes have ended", || {
        !pids().any(|pid| group_of(pid) == Some(group))
    });
}

/// Process group of a living process; a monitor has one of its own.
pub fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.nth(1)?.parse().ok()
}

/// What `list` says is what there is: on disk, in the kernel, nothing more and nothing less.
fn check(host: &Host) {
    // A guest that was asked to shut down does so also when the command that asked is dead.
    until(20, "nothing is under way any more", || host.list().iter().all(|row| row["state"] != "busy"));
    let rows = host.list();
    let ids: BTreeSet<_> = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    let up: BTreeSet<_> = rows
        .iter()
        .filter(|row| row["state"] == "running")
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    for row in &rows {
        assert!(row["state"] == "running" || row["state"] == "stopped", "{row}");
    }
    let names = |dir: std::path::PathBuf| -> BTreeSet<String> {
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten();
        entries.filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect()
    };
    assert_eq!(names(host.state_dir().join("pool/containers")), ids, "directories in the pool");
    assert_eq!(names(host.state_dir().join("containers")), ids, "directories of manifests");
    assert_eq!(names(host.cgroup()), up, "cgroups");
    assert_eq!(names(host.state_dir().join("pool/tmp")), BTreeSet::new(), "temporary directories");
    host.see_links();
    let links = run_tool("ip", &["-o", "link", "show", "master", &host.bridge()]);
    let links: BTreeSet<_> = links
        .lines()
        .filter_map(|line| line.split(": ").nth(1)?.split('@').next()?.strip_prefix("ng").map(str::to_owned))
        .collect();
    assert_eq!(links, up, "links");
    // Every living process of ours is in the cgroup of a container that runs.
    for (pid, what) in Host::processes(host.ids(), host.uid()) {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let known = up.iter().any(|id| cgroup.contains(&format!("/{}/{id}/", host.name())));
        assert!(
            known || cgroup.is_empty() || uids(pid).is_empty(),
            "process {pid} {what:?} is nobody's: {cgroup}"
        );
    }
}

/// A link that was made and never attached would not be found by its bridge.
fn no_link_without_a_bridge() {
    let loose = || -> BTreeSet<String> {
        let all: serde_json::Value = serde_json::from_str(&run_tool("ip", &["-j", "link"])).unwrap();
        let ours = |name: &str| {
            name.len() == 10 && name.starts_with("ng") && name[2..].bytes().all(|b| b.is_ascii_hexdigit())
        };
        let links = all.as_array().unwrap().iter().filter(|link| link["master"].is_null());
        links
            .filter_map(|link| link["ifname"].as_str())
            .filter(|name| ours(name))
            .map(str::to_owned)
            .collect()
    };
    // Other tests' launches have such links for a moment.
    let early = loose();
    until(10, &format!("links without a bridge go: {early:?}"), || early.is_disjoint(&loose()));
}

#[test]
fn a_guest_outlives_its_monitor_and_gets_a_new_one() {
    let host = Host::new();
    host.launch("web");
    let (init, monitor, address) = (host.init("web"), host.monitor("web"), host.address("web"));
    host.sh("web", "sleep 5151 > /dev/null 2>&1 &");
    kill(monitor);
    assert_eq!(host.list()[0]["state"], "running");
    assert_eq!(host.list()[0]["pid"], init);
    run_tool("ping", &["-c1", "-W2", &address]);

    assert!(host.sh("web", "ps").contains("sleep 5151"));
    assert_eq!(host.init("web"), init);
    let new = host.monitor("web");
    assert_ne!(new, monitor);
    assert_eq!(uids(new), uids(init));
    let open: Vec<_> =
        fs::read_dir(format!("/proc/{init}/fd")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(open.len() <= 4, "{open:?}");

    until(30, "the console is heard", || {
        host.sh("web", "echo after the murder > /dev/console");
        host.ok(&["logs", "web"]).contains("after the murder")
    });
    host.nagaya(&["exec", "web", "--", "kill", "-39", "1"]);
    until(30, "a new init", || host.info("web")["pid"].as_i64().is_some_and(|pid| pid != i64::from(init)));
    until(30, "programs run again", || host.nagaya(&["exec", "web", "--", "true"]).status.success());
    assert_eq!(host.monitor("web"), new);
    run_tool("ping", &["-c1", "-W2", &address]);
    host.ok(&["stop", "web", "--timeout", "10"]);
    assert_eq!(host.list()[0]["state"], "stopped");
    host.ok(&["start", "web"]);
    host.exec("web", &["true"]);
}

#[test]
fn a_guest_without_a_monitor_can_be_stopped_paused_and_deleted() {
    let host = Host::new();
    for name in ["asked", "forced", "deleted", "paused"] {
        host.launch(name);
        kill(host.monitor(name));
    }
    host.ok(&["pause", "paused"]);
    kill(host.monitor("paused"));
    host.ok(&["resume", "paused"]);
    host.exec("paused", &["true"]);
    host.ok(&["stop", "asked", "--timeout", "10"]);
    assert!(host.ok(&["logs", "asked"]).contains("Powering off."));
    host.ok(&["stop", "--force", "forced"]);
    host.ok(&["delete", "--force", "deleted"]);
    let states: Vec<_> = host.list().iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["stopped", "stopped", "running"]);
}

#[test]
fn commands_at_once_after_a_monitors_death_share_one_new_monitor() {
    let host = Host::new();
    host.launch("web");
    kill(host.monitor("web"));
    let all: Vec<_> = (0..8).map(|_| host.spawn(&["exec", "web", "--", "true"], b"")).collect();
    for running in all {
        let done = running.wait();
        assert!(done.status.success(), "{}", super::host::told(&done));
    }
    let monitors = fs::read_to_string(host.cgroup_of("web").join("monitor/cgroup.procs")).unwrap();
    assert_eq!(monitors.lines().count(), 1, "{monitors}");
}

/// What it is asked for while it dies is nobody's, as far as it has not read it: the next one is asked.
#[test]
fn what_a_dying_monitor_has_not_taken_is_put_to_the_next() {
    let host = Host::new();
    host.launch("web");
    let init = host.init("web");
    let commands: [&[&str]; 6] = [
        &["exec", "web", "--", "sh", "-c", "echo ran >> /root/runs"],
        &["exec", "-t", "web", "--", "sh", "-c", "echo ran >> /root/runs"],
        &["pause", "web"],
        &["resume", "web"],
        &["exec", "web", "--", "sh", "-c", "cat >> /root/runs"],
        &["stop", "--timeout", "20", "web"],
    ];
    for command in commands {
        let monitor = host.info("web")["monitor_pid"].as_i64().expect("a monitor") as i32;
        let pid = rustix::process::Pid::from_raw(monitor).expect("a process number");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stop the monitor");
        let running = host.spawn(command, b"ran\n");
        // It has found the socket by now, and waits there.
        std::thread::sleep(Duration::from_millis(150));
        kill(monitor);
        let done = running.wait();
        assert!(done.status.success(), "{command:?}: {}", super::host::told(&done));
        if command[0] == "exec" {
            assert_eq!(host.init("web"), init);
        }
    }
    assert_eq!(host.list()[0]["state"], "stopped");
    host.ok(&["start", "web"]);
    // Each once.
    assert_eq!(host.sh("web", "cat /root/runs"), "ran\nran\nran");
}

#[test]
fn a_program_that_may_have_run_is_not_run_twice() {
    let host = Host::new();
    host.launch("web");
    let running = host.spawn(&["exec", "web", "--", "sh", "-c", "echo ran >> /root/runs; sleep 7171"], b"");
    until(20, "the program runs", || {
        host.nagaya(&["exec", "web", "--", "test", "-e", "/root/runs"]).status.success()
    });
    kill(host.monitor("web"));
    let done = running.wait();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(
        told.contains("may have been started, and may run on") && told.contains("nagaya exec web -- ps"),
        "{told}"
    );
    assert_eq!(host.sh("web", "cat /root/runs"), "ran");

    let running = host.spawn(&["exec", "web", "--", "sleep", "7272"], b"");
    until(20, "the program runs", || host.sh("web", "ps").contains("sleep 7272"));
    kill(host.monitor("web"));
    kill(host.init("web"));
    let told = String::from_utf8_lossy(&running.wait().stderr).into_owned();
    assert!(told.contains("ended before the program did"), "{told}");
}

#[test]
fn a_guest_that_ends_without_a_monitor_is_stopped() {
    let host = Host::new();
    host.launch("web");
    let (init, monitor) = (host.init("web"), host.monitor("web"));
    kill(monitor);
    kill(init);
    until(30, "stopped", || host.list()[0]["state"] == "stopped");
    host.ok(&["start", "web"]);
    host.exec("web", &["true"]);
}

#[test]
fn a_lost_database_is_rebuilt_from_what_lies_beside_the_containers() {
    let host = Host::new();
    host.launch("a");
    host.sh("a", "echo precious > /root/file");
    let address = host.address("a");
    host.ok(&["firewall", "set", "create", "office", "198.51.100.0/24"]);
    host.ok(&["firewall", "allow", "a", "tcp", "80", "--from", "set:office"]);
    host.launch("gone");
    host.ok(&["firewall", "default", "gone", "in=deny"]);
    host.ok(&["delete", "--force", "gone"]);
    let policy = host.ok(&["firewall", "export"]);
    assert!(policy.contains("containers.a.in") && !policy.contains("gone"), "{policy}");
    for name in ["nagaya.db", "nagaya.db-wal", "nagaya.db-shm"] {
        let _ = fs::remove_file(host.state_dir().join(name));
    }
    host.ok(&["repair"]);
    assert_eq!(host.address("a"), address);
    assert_eq!(host.ok(&["firewall", "export"]), policy);
    assert_eq!(host.sh("a", "cat /root/file"), "precious");
    host.ok(&["stop", "a"]);
    host.ok(&["start", "a"]);
    host.launch("b");
    assert_ne!(host.address("b"), address);
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    // Until then its sockets may be open.
    until(30, "it is dead", || group_of(pid.as_raw_nonzero().get()).is_none());
}
