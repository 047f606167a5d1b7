//! Whose files and processes a container's are.

use std::collections::BTreeSet;
use std::fs;

use super::host::{Host, run_tool, status, tool_succeeds, uids, until};

const IDS_PER_RANGE: u32 = 65_536;

#[test]
fn files_on_disk_belong_to_the_storage_ids_and_none_to_root() {
    let host = Host::new();
    host.launch("web");
    host.sh(
        "web",
        "touch /root/mine; touch /home/alice/hers; chown 1000:1000 /home/alice/hers; chmod 4755 /root/mine",
    );
    let (start, _) = host.ids().expect("ids");
    let storage = start..start + IDS_PER_RANGE;
    let pool = host.state_dir().join("pool");
    let owners = run_tool("find", &[&pool.to_string_lossy(), "-printf", "%U %G %p\n"]);
    assert!(owners.contains("/root/mine"));
    for line in owners.lines() {
        let mut words = line.split(' ').filter_map(|word| word.parse().ok());
        let both = [words.next().expect("a uid"), words.next().expect("a gid")];
        assert!(both.iter().all(|id| storage.contains(id)), "{line}");
    }
    assert!(owners.contains(&format!("{0} {0} ", start + 1000)), "alice's file");
    for dir in [host.state_dir(), host.run_dir()] {
        let of_root = run_tool("find", &[&dir.to_string_lossy(), "-uid", "0", "-o", "-gid", "0"]);
        assert_eq!(of_root, "");
        let mode = run_tool("stat", &["-c", "%a %U", &dir.to_string_lossy()]);
        assert_eq!(mode.trim(), format!("700 {}", host.name()));
    }
}

#[test]
fn each_guest_runs_on_ids_of_its_own() {
    let host = Host::new();
    let (start, count) = host.ids().expect("ids");
    let mut bases = BTreeSet::new();
    for name in ["a", "b", "c"] {
        host.launch(name);
        let init = host.init(name);
        let base = uids(init)[0];
        assert!(
            base >= start + IDS_PER_RANGE && base + IDS_PER_RANGE <= start + count,
            "{base} is no runtime id range"
        );
        assert_eq!((base - start) % IDS_PER_RANGE, 0);
        assert_eq!(uids(init), [base; 4]);
        for map in ["uid_map", "gid_map"] {
            let map = fs::read_to_string(format!("/proc/{init}/{map}")).unwrap();
            assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", &base.to_string(), "65536"]);
        }
        host.sh(name, "su alice -c 'sleep 300 > /dev/null 2>&1 &'");
        for (pid, what) in processes_of(&host, name) {
            let wanted = if what.starts_with("sleep") { base + 1000 } else { base };
            assert_eq!(uids(pid), [wanted; 4], "{what:?}");
        }
        bases.insert(base);
    }
    assert_eq!(bases.len(), 3);
}

#[test]
fn monitors_have_the_guests_first_id_and_no_right_outside() {
    let host = Host::new();
    host.launch("web");
    let (init, monitor) = (host.init("web"), host.monitor("web"));
    assert_eq!(uids(monitor), uids(init));
    assert_eq!(status(monitor, "Gid").split_whitespace().next(), Some(uids(init)[0].to_string().as_str()));
    assert_eq!(status(monitor, "Groups"), "");
    assert_eq!(status(monitor, "Threads"), "1");
    let user_ns = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(user_ns(monitor), user_ns(init));
    assert_ne!(user_ns(monitor), user_ns(std::process::id() as i32));
}

#[test]
fn no_process_of_root_stays_when_a_command_has_ended() {
    let host = Host::new();
    host.launch("web");
    host.exec("web", &["true"]);
    let (start, count) = host.ids().expect("ids");
    for (pid, what) in processes_of(&host, "web") {
        assert!(uids(pid).iter().all(|uid| (start..start + count).contains(uid)), "{pid} {what:?}");
    }
    let own = format!("NAGAYA_INSTANCE={}", host.name());
    for pid in super::host::pids() {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        assert!(
            !environment.split(|b| *b == 0).any(|word| word == own.as_bytes()),
            "process {pid} is a command's"
        );
    }
}

#[test]
fn inotify_instances_are_counted_for_each_container() {
    let host = Host::new();
    let limit: u32 =
        fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap().trim().parse().unwrap();
    for name in ["a", "b"] {
        host.launch(name);
    }
    // The first goes on holding its instances while the second takes its own.
    for name in ["a", "b"] {
        host.sh(name, &format!("(sleep 60 | probe inotify {} > /tmp/got) > /dev/null 2>&1 &", limit + 1));
        until(10, "the probe has counted", || !host.sh(name, "cat /tmp/got").is_empty());
        assert_eq!(host.sh(name, "cat /tmp/got"), limit.to_string(), "{name}");
    }
}

#[test]
fn other_users_can_enter_nothing_and_reach_no_socket() {
    let host = Host::new();
    host.launch("web");
    let info = host.info("web");
    let id = info["id"].as_str().unwrap();
    let id_range = info["first_id"].to_string();
    let (start, _) = host.ids().expect("ids");
    let socket = host.run_dir().join("containers").join(id).join("control");
    const CONNECT: &str = "import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])";
    let connect = ["/usr/bin/python3", "-c", CONNECT, &socket.to_string_lossy()].map(str::to_owned);
    assert!(tool_succeeds(&connect[0], &[&connect[1], &connect[2], &connect[3]]), "root can connect");
    for uid in ["65534", id_range.as_str(), &start.to_string()] {
        let as_user = |argv: &[&str]| {
            let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
            tool_succeeds("setpriv", &[&[ids[0].as_str(), &ids[1], "--clear-groups", "--"], argv].concat())
        };
        assert!(as_user(&["true"]), "setpriv works");
        assert!(!as_user(&[&connect[0], &connect[1], &connect[2], &connect[3]]), "uid {uid} has connected");
        for path in ["", "nagaya.db", "pool", "pool/templates", "containers"] {
            let path = host.state_dir().join(path);
            assert!(!as_user(&["test", "-r", &path.to_string_lossy()]), "uid {uid} reads {}", path.display());
        }
        assert!(!as_user(&["ls", &host.state_dir().join("pool/containers").join(id).to_string_lossy()]));
    }
}

/// Processes of a container's cgroup, the monitor included.
fn processes_of(host: &Host, name: &str) -> Vec<(i32, String)> {
    let dir = host.cgroup_of(name);
    let files = run_tool("find", &[&dir.to_string_lossy(), "-name", "cgroup.procs"]);
    let text: String = files.lines().map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
    let pids = text.lines().filter_map(|pid| pid.parse::<i32>().ok());
    let found: Vec<_> = pids
        .map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
        .collect();
    assert!(found.len() >= 2, "a monitor and an init at least: {found:?}");
    found
}
