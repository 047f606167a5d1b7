//! Ordinary users on a host that lends them nothing: namespaces, network and cgroup of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::Value;

use super::daemonless_user::{DaemonlessUser, Otherwise, hold_ids};
use super::host::{Running, lives, run_tool, status, told, tool_succeeds, uids, until};
use super::isolation::ATTACK;

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}

fn links() -> Vec<String> {
    let all: Value = serde_json::from_str(&run_tool("ip", &["-j", "link"])).expect("ip prints JSON");
    let names = all.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    names.map(str::to_owned).collect()
}

#[test]
fn a_container_lives_from_launch_to_deletion() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "web", "--wait=network"]);
    assert_eq!(user.list()[0]["state"], "running");
    assert_eq!(user.sh("web", "id -u; echo there >/root/file; cat /root/file"), "0\nthere");
    user.ok(&["pause", "web"]);
    user.ok(&["resume", "web"]);
    user.ok(&["restart", "web"]);
    assert_eq!(user.sh("web", "cat /root/file"), "there");
    let init = user.init("web");
    user.sh("web", "kill -HUP 1 2>/dev/null; true");
    user.ok(&["stop", "web"]);
    assert!(!lives(init));
    assert_eq!(user.list()[0]["state"], "stopped");
    user.ok(&["start", "web"]);
    user.ok(&["delete", "--force", "web"]);
    assert!(user.list().is_empty());
    assert_eq!(
        fs::read_dir(user.cgroup.join(&user.name)).unwrap().flatten().filter(|e| e.path().is_dir()).count(),
        0
    );
}

#[test]
fn its_ids_are_subordinate_ones_and_never_the_users_own() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "web"]);
    let (init, monitor) = (user.init("web"), user.monitor("web"));
    for pid in [init, monitor] {
        for file in ["uid_map", "gid_map"] {
            let map = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
            let words: Vec<_> = map.split_whitespace().collect();
            assert_eq!(words, ["0", &user.ids.to_string(), "65536"]);
        }
        assert_eq!(uids(pid), [user.ids; 4]);
    }
    assert_eq!(status(monitor, "CapEff"), "000001ffffffffff", "within its own namespace");
    user.sh("web", "echo x >/root/file; chown 1000:1000 /root/file");
    let pool = user.state_dir().join("pool");
    assert_eq!(
        (fs::metadata(&pool).unwrap().uid(), fs::metadata(&pool).unwrap().mode() & 0o777),
        (user.ids, 0o711)
    );
    let owners = run_tool("find", &[&pool.to_string_lossy(), "-printf", "%U:%G\n"]);
    let inside = |id: &str| (user.ids..user.ids + 65536).contains(&id.parse().unwrap());
    assert!(owners.lines().all(|line| line.split(':').all(inside)), "{owners}");
    let file = run_tool("find", &[&pool.to_string_lossy(), "-name", "file", "-printf", "%U\n"]);
    assert_eq!(file.trim(), (user.ids + 1000).to_string());
    let others =
        run_tool("find", &[&user.state_dir().to_string_lossy(), "-maxdepth", "1", "-printf", "%U %m %f\n"]);
    for line in others.lines().filter(|line| !line.ends_with("pool")) {
        assert!(line.starts_with(&user.uid.to_string()) && !line.contains("644"), "{line}");
    }
    assert_eq!(user.info("web")["first_id"], user.ids);
}

#[test]
fn the_bridge_is_in_a_namespace_of_the_users_and_containers_reach_one_another() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "a"]);
    user.ok(&["launch", "tiny", "b"]);
    user.sh("a", &format!("ping -c1 -W2 {}", user.address("b")));
    let bridge = format!("{}0", user.name);
    let ours: Value = serde_json::from_str(&user.in_network(&["ip", "-j", "link"])).unwrap();
    let ports = ours.as_array().unwrap().iter().filter(|link| link["master"] == bridge.as_str());
    let ports: Vec<String> = ports.map(|link| link["ifname"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ports.len(), 2, "{ours}");
    let host = links();
    assert!(!host.contains(&bridge) && ports.iter().all(|port| !host.contains(port)), "{host:?}");
    let tables = user.in_network(&["nft", "-j", "list", "tables"]);
    assert!(tables.contains(&user.name), "{tables}");
    assert!(!run_tool("nft", &["-j", "list", "tables"]).contains(&user.name));
    let address = user.address("a");
    assert!(!tool_succeeds("ping", &["-c1", "-W1", &address]), "the host reaches {address}");
}

#[test]
fn neither_guest_nor_monitor_can_write_to_the_template_or_see_the_host() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "web"]);
    let tree = user.state_dir().join("pool/templates");
    let script = format!("cd {} && find . -printf '%p %m %U %s %T@\\n' | sort", tree.display());
    let print = || run_tool("sh", &["-c", &script]);
    let before = print();
    assert!(before.contains("bin/busybox"));
    user.sh("web", "echo evil >/bin/busybox.new; cp /bin/busybox.new /bin/probe; chmod 777 /etc/passwd; touch /sbin/init");
    for pid in [user.monitor("web"), user.init("web")] {
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-c", ATTACK, &pid.to_string()]);
        let tried = Running::start(command, b"").wait();
        assert!(tried.status.success(), "{}", told(&tried));
        let said = String::from_utf8_lossy(&tried.stdout).into_owned();
        assert!(said.contains("entered") && said.contains("its own: writable"), "{said}");
        assert!(!said.contains("SUCCEEDED"), "{said}");
    }
    assert_eq!(print(), before);

    let monitor = user.monitor("web");
    let mounts = fs::read_to_string(format!("/proc/{monitor}/mounts")).unwrap();
    let points: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let expected = ["/", "/template", "/data", "/.visible/proc", "/.visible/sys", "/rootfs"];
    let others: Vec<_> = points.iter().filter(|point| !expected.contains(point)).collect();
    assert!(others.iter().all(|point| point.starts_with("/devices/")), "{others:?}");
    for place in ["/template", "/data", "/"] {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(place)).unwrap();
        let flags: Vec<_> = line.split(' ').nth(3).unwrap().split(',').collect();
        assert!(["nosuid", "noexec"].iter().all(|flag| flags.contains(flag)), "{line}");
        assert_eq!(flags.contains(&"ro"), place != "/data", "{line}");
    }
    let closed = format!("/proc/{monitor}/root/.visible");
    assert_eq!(run_tool("stat", &["-c", "%a %u", &closed]).trim(), format!("0 {}", user.uid));
    let entered = run_tool(
        "nsenter",
        &["-t", &monitor.to_string(), "-U", "--", "sh", "-c", &format!("ls {closed} 2>&1 || true")],
    );
    assert!(entered.contains("Permission denied"), "{entered}");
}

#[test]
fn devices_are_the_hosts_and_stay_as_they_are() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "web"]);
    for device in ["null", "zero", "full", "random", "urandom"] {
        assert_eq!(user.sh("web", &format!("probe open /dev/{device}")), "ok", "{device}");
    }
    for script in [
        "mknod /root/sda b 8 0",
        "chmod 600 /dev/null",
        "chown 1 /dev/null",
        "echo x >/dev/keys; mv /dev/null /dev/other",
        "rm /dev/null",
    ] {
        let tried = user.nagaya(&["exec", "web", "--", "sh", "-c", script]);
        assert!(!tried.status.success(), "{script}: {}", told(&tried));
    }
    assert_eq!(run_tool("stat", &["-c", "%a %u", "/dev/null"]).trim(), "666 0");
}

#[test]
fn a_killed_namespace_holder_takes_nothing_along() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "a"]);
    user.ok(&["launch", "tiny", "b"]);
    let (first, network) =
        (user.holder().unwrap(), |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap());
    let before = network(first);
    kill(first);
    user.sh("a", &format!("ping -c1 -W2 {}", user.address("b")));
    let second = user.holder().expect("a new namespace holder");
    assert_ne!(first, second);
    assert_eq!(network(second), before, "the containers' own namespaces");
    user.ok(&["launch", "tiny", "c"]);
    user.sh("c", &format!("ping -c1 -W2 {}", user.address("a")));

    // With nothing running, nothing is left of the namespaces; new ones are made.
    for name in ["a", "b", "c"] {
        user.ok(&["stop", "--force", name]);
    }
    kill(second);
    until(5, "the namespace holder is gone", || !lives(second));
    user.ok(&["start", "a"]);
    user.ok(&["start", "b"]);
    user.sh("a", &format!("ping -c1 -W2 {}", user.address("b")));
}

#[test]
fn what_only_reads_starts_no_process() {
    let user = DaemonlessUser::with_template();
    user.ok(&["create", "tiny", "a", "-c", "user.plan=s"]);
    let holder = user.holder().expect("a namespace holder");
    kill(holder);
    until(5, "the namespace holder is gone", || !lives(holder));
    // Its own process is all that the user may have.
    let alone = Otherwise { before: "ulimit -u 1", ..Otherwise::default() };
    for command in [
        "list",
        "info a",
        "config get a user.plan",
        "device list a",
        "template list",
        "template recipes",
        "operation list",
    ] {
        let args: Vec<&str> = command.split(' ').collect();
        let output = user.nagaya_otherwise(&args, &alone);
        assert!(output.status.success(), "{command}: {}", told(&output));
    }
    assert_eq!(user.holder(), None);
    let refused = user.nagaya_otherwise(&["start", "a"], &alone);
    assert!(!refused.status.success(), "that would have started some: {}", told(&refused));
}

#[test]
fn a_record_of_another_process_is_not_trusted() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "web"]);
    let holder = user.holder().unwrap();
    for other in [std::process::id() as i32, 1, user.init("web"), 0, -5] {
        fs::write(user.run_dir().join("keeper"), format!("{other}\n")).unwrap();
        user.ok(&["restart", "--force", "web"]);
        assert_ne!(user.holder(), Some(other));
    }
    fs::write(user.run_dir().join("keeper"), "what?\n").unwrap();
    assert_eq!(user.sh("web", "echo there"), "there");
    kill(holder);
}

#[test]
fn a_killed_monitor_is_replaced() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "web"]);
    let init = user.init("web");
    kill(user.monitor("web"));
    assert_eq!(user.sh("web", "echo there"), "there");
    assert_eq!(user.init("web"), init);
}

#[test]
fn commands_that_are_killed_leave_nothing_half_made() {
    let user = DaemonlessUser::with_template();
    for step in 0..12u64 {
        let launch = user.spawn(&["launch", "tiny", "web"], b"");
        std::thread::sleep(Duration::from_millis(20 + step * 17));
        launch.kill(false);
        let _ = launch.wait();
        // The broker finishes what it has begun, and the next command undoes it.
        let listed = user.list();
        if let Some(web) = listed.first() {
            user.ok(&["delete", "--force", web["name"].as_str().unwrap()]);
        }
        until(10, "nothing of it runs", || {
            user.list();
            user.processes().iter().all(|(_, what)| what.starts_with("nagaya-keeper"))
        });
    }
    user.ok(&["launch", "tiny", "web"]);
    assert_eq!(user.list().len(), 1);
}

#[test]
fn two_users_cannot_reach_each_other() {
    let (ann, bob) = (DaemonlessUser::with_template(), DaemonlessUser::with_template());
    ann.ok(&["launch", "tiny", "web"]);
    bob.ok(&["launch", "tiny", "web"]);
    let id = ann.info("web")["id"].as_str().unwrap().to_owned();
    let control = ann.run_dir().join("containers").join(&id).join("control");
    let script = format!(
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect('{}')",
        control.display()
    );
    for id in [bob.uid, bob.ids, bob.ids + 1000, ann.ids] {
        let id = id.to_string();
        let as_other = ["--reuid", &id, "--regid", &id, "--clear-groups", "python3", "-c", &script];
        assert!(!tool_succeeds("setpriv", &as_other), "uid {id} connects to {}", control.display());
    }
    let bobs = bob.holder().unwrap();
    for kind in ["user", "net"] {
        let path = format!("/proc/{bobs}/ns/{kind}");
        let uid = ann.uid.to_string();
        let as_ann = ["--reuid", &uid, "--regid", &ann.gid.to_string(), "--clear-groups", "readlink", &path];
        assert!(!tool_succeeds("setpriv", &as_ann), "{path}");
    }
    // A record that points to another's namespace holder.
    fs::write(ann.run_dir().join("keeper"), format!("{bobs}\n")).unwrap();
    ann.ok(&["restart", "--force", "web"]);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", ann.init("web"))).unwrap();
    assert!(map.contains(&ann.ids.to_string()), "{map}");
    assert!(!ann.address("web").is_empty());
}

#[test]
fn info_and_doctor_say_what_is_missing_and_how_to_get_it() {
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "web"]);
    let notes = user.info("web")["notes"].to_string();
    for word in ["same ids", "inotify", "not the host's", "nagaya-hostd"] {
        assert!(notes.contains(word), "{word}: {notes}");
    }
    let output = user.nagaya(&["doctor", "--format", "json"]);
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).expect("doctor prints JSON");
    let check = |name: &str| {
        let found = checks.iter().find(|check| check["area"] == "daemonless" && check["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {checks:?}"))
    };
    assert_eq!(check("subordinate ids")["status"], "ok");
    assert!(check("cgroup of your own")["detail"].as_str().unwrap().contains(&user.name));
    for name in ["id ranges", "inotify", "network"] {
        assert_eq!(check(name)["status"], "degraded", "{name}");
    }
    assert!(check("id ranges")["fix"].as_str().unwrap().contains("nagaya-hostd"));
    assert!(checks.iter().all(|check| check["fix"] != "sudo nagaya doctor"), "{checks:?}");
}

#[test]
fn where_no_cgroup_is_writable_two_ways_out_are_named() {
    let user = DaemonlessUser::with_template();
    let root = user.cgroup.parent().unwrap().to_owned();
    let elsewhere = Otherwise { cgroup: Some(root), ..Otherwise::default() };
    let said = user.fails(3, &["launch", "tiny", "web"], &elsewhere);
    for word in ["no cgroup may be written", "install nagaya-hostd; or", "chown"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(user.nagaya_otherwise(&["list"], &elsewhere).status.success());
    assert!(user.list().is_empty());
    // What runs is found and stopped from anywhere.
    user.ok(&["launch", "tiny", "web"]);
    let listed = user.nagaya_otherwise(&["list", "--format", "json"], &elsewhere);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("\"running\""), "{}", told(&listed));
    let said = user.nagaya_otherwise(&["exec", "web", "--", "echo", "there"], &elsewhere);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "there\n", "{}", told(&said));
    let stopped = user.nagaya_otherwise(&["stop", "--force", "web"], &elsewhere);
    assert!(stopped.status.success(), "{}", told(&stopped));
}

#[test]
fn a_host_that_forbids_it_is_named_with_what_mends_it() {
    let user = DaemonlessUser::new();
    let hidden = |program: &str| format!("mount --bind /dev/null $(command -v {program})");
    for program in ["newuidmap", "newgidmap"] {
        let before = hidden(program);
        let without = Otherwise { before: &before, ..Otherwise::default() };
        let said = user.fails(3, &["list"], &without);
        assert!(said.contains(&format!("'{program}' is not installed")) && said.contains("uidmap"), "{said}");
    }
    // Another's ids, which are made before this one's are free.
    let held = hold_ids();
    let other = DaemonlessUser::new_while(&held);
    let ids = format!("{}-{}", user.ids, user.ids + 65535);
    run_tool("usermod", &["--del-subgids", &ids, &user.name]);
    let said = user.fails(3, &["list"], &Otherwise::default());
    let line = format!("{}:{}:65536", user.name, user.ids);
    assert!(said.contains("in /etc/subgid, as it has in /etc/subuid"), "{said}");
    assert!(said.contains(&format!("add the line '{line}' to /etc/subgid")), "{said}");
    run_tool("usermod", &["--del-subuids", &ids, &user.name]);
    let said = user.fails(3, &["list"], &Otherwise::default());
    assert!(said.contains("has no 65536 subordinate ids in /etc/subuid and /etc/subgid"), "{said}");
    assert!(said.contains(&format!("add the line '{}:", user.name)), "{said}");
    let ids = format!("{}-{}", other.ids, other.ids + 65535);
    run_tool("usermod", &["--add-subuids", &ids, "--add-subgids", &ids, &user.name]);
    let said = user.fails(3, &["list"], &Otherwise::default());
    assert!(said.contains(&format!("also given to '{}'", other.name)), "{said}");
    run_tool("usermod", &["--del-subuids", &ids, "--del-subgids", &ids, &user.name]);
    // The test's own end needs ids again.
    let ids = format!("{}-{}", user.ids, user.ids + 65535);
    run_tool("usermod", &["--add-subuids", &ids, "--add-subgids", &ids, &user.name]);
    drop(held);
}

/// Runs a program in a user namespace of everybody's ids in which there may be no further one.
const FORBID: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
(made, tell), (wait, go) = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert libc.unshare(0x10000000) == 0, os.strerror(ctypes.get_errno())
    os.write(tell, b"x")
    os.read(wait, 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(made, 1)
for file in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{file}", "w") as file:
        file.write("0 0 4294967295")
os.write(go, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

#[test]
fn where_user_namespaces_are_forbidden_the_sysctl_is_named() {
    let user = DaemonlessUser::new();
    let run = |args: &[&str]| {
        let inner = user.command(args, &Otherwise::default());
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-c", FORBID]).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        Running::start(command, b"").wait()
    };
    let listed = run(&["list"]);
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert_eq!(listed.status.code(), Some(3), "{said}");
    assert!(said.contains("user.max_user_namespaces is 0"), "{said}");
    assert!(said.contains("sysctl -w user.max_user_namespaces=65536"), "{said}");
    let doctor = run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(3), "{said}");
    assert!(said.contains("user.max_user_namespaces = 65536"), "{said}");
}

#[test]
fn a_run_directory_of_somebody_else_is_refused() {
    let user = DaemonlessUser::new();
    let dir = user.run_dir();
    fs::create_dir(&dir).unwrap();
    let said = user.fails(3, &["list"], &Otherwise::default());
    assert!(said.contains("is not a directory of yours"), "{said}");
    fs::remove_dir(&dir).unwrap();
    std::os::unix::fs::symlink("/etc", &dir).unwrap();
    let said = user.fails(3, &["list"], &Otherwise::default());
    assert!(said.contains("is not a directory of yours"), "{said}");
    fs::remove_file(&dir).unwrap();
}
