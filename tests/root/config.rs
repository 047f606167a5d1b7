//! Configuration and limits: what is stored, what takes effect, what is refused. This holds on any
//! host; that limits are kept is a matter for hosts whose cgroup v2 has controllers.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::host::{Host, Running, run_tool, told, until};

/// Whether this host's cgroup v2 enforces what `controller` does.
fn has(host: &Host, controller: &str) -> bool {
    let mount = host.cgroup();
    let file = mount.parent().expect("a mount point").join("cgroup.controllers");
    fs::read_to_string(file).expect("read cgroup.controllers").split_whitespace().any(|c| c == controller)
}

fn get(host: &Host, name: &str, key: &str) -> String {
    host.ok(&["config", "get", name, key]).trim_end_matches('\n').to_owned()
}

#[test]
fn what_is_set_is_shown_kept_and_taken_back() {
    let host = Host::new();
    host.ok(&["create", "tiny", "c", "-c", "user.owner=ann", "-c", "boot.autostart=true"]);
    assert_eq!(get(&host, "c", "user.owner"), "ann");
    assert_eq!(get(&host, "c", "boot.host_shutdown_timeout"), "30", "a default");
    assert_eq!(get(&host, "c", "limits.memory"), "");
    host.ok(&["config", "set", "c", "user.note=a=b, 'c' \"d\" ä", "boot.autostart.delay=5"]);
    host.ok(&["rename", "c", "d"]);
    let all = "boot.autostart:       true\nboot.autostart.delay: 5\nuser.note:            a=b, 'c' \"d\" ä\n\
               user.owner:           ann\n";
    assert_eq!(host.ok(&["config", "show", "d"]), all);
    // A rebuilt database knows it too.
    host.ok(&["repair"]);
    assert_eq!(host.ok(&["config", "show", "d"]), all);
    let json: serde_json::Value =
        serde_json::from_str(&host.ok(&["config", "show", "d", "--format", "json"])).expect("JSON");
    assert_eq!(json["user.owner"], "ann");
    host.ok(&["config", "unset", "d", "user.owner", "user.note", "boot.autostart", "boot.autostart.delay"]);
    assert_eq!(host.ok(&["config", "show", "d"]), "");
    assert!(host.fails(1, &["config", "unset", "d", "user.owner"]).contains("user.owner is not set"));
}

#[test]
fn what_cannot_be_is_refused_and_nothing_of_it_stored() {
    let host = Host::new();
    host.ok(&["create", "tiny", "c"]);
    for (pair, code, said) in [
        ("limits.memroy=1GiB", 1, "did you mean 'limits.memory'?"),
        ("security.privileged=true", 1, "is a key of LXD's that nagaya does not have"),
        ("raw.lxc=lxc.apparmor.profile=unconfined", 1, "is a key of LXD's"),
        ("boot.autostart=maybe", 1, "it must be true or false"),
        ("user.a=b\nc", 1, "without control characters"),
        ("environment.NOTIFY_SOCKET=/x", 1, "that variable is nagaya's own"),
        ("limits.kernel.nofile=unlimited", 1, "fs.nr_open"),
        ("limits.kernel.nofile=5:4", 1, "it must be a number"),
    ] {
        let text = host.fails(code, &["config", "set", "c", "user.good=yes", pair]);
        assert!(text.contains(said), "{pair}: {text}");
        let text = host.fails(code, &["launch", "tiny", "new", "-c", pair]);
        assert!(text.contains(said), "{pair}: {text}");
    }
    assert_eq!(host.ok(&["config", "show", "c"]), "");
    assert_eq!(host.list().len(), 1);
    assert!(host.fails(1, &["config", "get", "c", "limits.memroy"]).contains("did you mean"));
    assert!(host.fails(1, &["config", "set", "d", "user.a=b"]).contains("there is no container 'd'"));
}

#[test]
fn a_limit_that_this_host_cannot_enforce_is_refused_with_the_reason() {
    let host = Host::new();
    host.launch("up");
    host.ok(&["create", "tiny", "down"]);
    let keys = [
        ("limits.memory=512MiB", "memory"),
        ("limits.memory.swap=false", "memory"),
        ("limits.cpu=1", "cpuset"),
        ("limits.cpu.allowance=50%", "cpu"),
        ("limits.cpu.priority=1", "cpu"),
        ("limits.processes=100", "pids"),
        ("limits.disk.priority=1", "io"),
        ("limits.read=10MB", "io"),
        ("limits.write=100iops", "io"),
    ];
    for (pair, controller) in keys.into_iter().filter(|(_, controller)| !has(&host, controller)) {
        for name in ["up", "down"] {
            let text = host.fails(3, &["config", "set", name, "user.a=b", pair]);
            let reason = format!("this host's cgroup v2 has no '{controller}' controller");
            assert!(text.contains(&reason) && text.contains("hint: "), "{pair}: {text}");
            assert_eq!(host.ok(&["config", "show", name]), "", "{pair}");
        }
        host.fails(3, &["launch", "tiny", "new", "-c", pair]);
    }
    assert_eq!(host.list().len(), 2);
}

#[test]
fn variables_reach_init_and_programs() {
    let host = Host::new();
    host.ok(&["launch", "tiny", "c", "-c", "environment.COLOUR=blue", "-c", "environment.HOME=/tmp"]);
    let of_init = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{}/environ", host.init(name))).expect("read environ");
        text.split('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    let init = of_init("c");
    assert!(init.contains(&"COLOUR=blue".to_owned()) && init.contains(&"HOME=/tmp".to_owned()), "{init:?}");
    assert!(
        init.contains(&"container=lxc".to_owned()) && !init.contains(&"HOME=/root".to_owned()),
        "{init:?}"
    );
    assert_eq!(host.sh("c", "echo $COLOUR $HOME"), "blue /tmp");
    let told = host.nagaya(&["config", "set", "c", "environment.COLOUR=red"]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("environment.COLOUR") && told.contains("nagaya restart c"), "{told}");
    assert_eq!(host.sh("c", "echo $COLOUR"), "red");
    assert_eq!(host.ok(&["exec", "--env", "COLOUR=green", "c", "--", "sh", "-c", "echo $COLOUR"]), "green\n");
    assert!(of_init("c").contains(&"COLOUR=blue".to_owned()));
    host.ok(&["restart", "c"]);
    assert!(of_init("c").contains(&"COLOUR=red".to_owned()));
}

/// Soft and hard limit of a resource as `/proc/PID/limits` names it.
fn limit(text: &str, name: &str) -> (String, String) {
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().expect("soft"), words.next().expect("hard"))
}

fn pair(soft: &str, hard: &str) -> (String, String) {
    (soft.to_owned(), hard.to_owned())
}

#[test]
fn resource_limits_hold_for_init_and_programs_not_for_the_monitor() {
    let host = Host::new();
    let asked = [
        "-c",
        "limits.kernel.nofile=300:400",
        "-c",
        "limits.kernel.fsize=1000000",
        "-c",
        "limits.kernel.cpu=50:60",
    ];
    host.ok(&[&["launch", "tiny", "c"][..], &asked].concat());
    let init = fs::read_to_string(format!("/proc/{}/limits", host.init("c"))).expect("read limits");
    let program = host.sh("c", "cat /proc/self/limits");
    for text in [&init, &program] {
        assert_eq!(limit(text, "Max open files"), pair("300", "400"));
        assert_eq!(limit(text, "Max file size"), pair("1000000", "1000000"));
        assert_eq!(limit(text, "Max cpu time"), pair("50", "60"));
    }
    let monitor = fs::read_to_string(format!("/proc/{}/limits", host.monitor("c"))).expect("read limits");
    assert_eq!(limit(&monitor, "Max cpu time"), pair("unlimited", "unlimited"));
    assert_eq!(host.sh("c", "ulimit -n 400; ulimit -n"), "400");
    let told = host.nagaya(&["config", "set", "c", "limits.kernel.nofile=500"]);
    assert!(
        String::from_utf8_lossy(&told.stderr).contains("takes effect at the next start: nagaya restart c")
    );
    assert_eq!(host.sh("c", "ulimit -n"), "300");
    host.ok(&["restart", "c"]);
    assert_eq!(host.sh("c", "ulimit -n"), "500");
}

#[test]
fn limits_of_the_callers_shell_stay_there() {
    let host = Host::new();
    host.ok(&["create", "tiny", "usual"]);
    host.ok(&["create", "tiny", "narrow"]);
    host.ok(&["start", "usual"]);
    let program = env!("CARGO_BIN_EXE_nagaya");
    // Soft limits: not every root may raise a hard one again.
    let script = format!(
        "ulimit -Sn 256; ulimit -Su 400; ulimit -Sc unlimited 2>/dev/null; ulimit -Ss 1024; ulimit -St 3600; \
         ulimit -Sl 0; ulimit -Si 7; exec {program} start narrow"
    );
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", &script])
        .env_clear()
        .env("PATH", super::host::PATH)
        .env("NAGAYA_INSTANCE", host.name());
    let output = Running::start(command, b"").wait();
    assert!(output.status.success(), "{}", told(&output));
    for who in ["cat /proc/1/limits", "cat /proc/self/limits"] {
        let (usual, narrow) = (host.sh("usual", who), host.sh("narrow", who));
        assert_eq!(narrow, usual);
        assert_eq!(limit(&narrow, "Max open files").0, "1024");
        assert_eq!(limit(&narrow, "Max stack size").0, "8388608");
        assert_eq!(limit(&narrow, "Max cpu time"), pair("unlimited", "unlimited"));
    }
    // Nor is the shell's count of processes a ceiling of the whole guest's user namespace.
    let count = host
        .sh("narrow", "for n in $(seq 450); do sleep 60 >/dev/null 2>&1 & done; ls -d /proc/[0-9]* | wc -l");
    assert!(count.parse::<u32>().expect("a number") > 450, "{count}");
}

#[test]
fn usage_is_shown() {
    let host = Host::new();
    host.launch("c");
    host.sh("c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done");
    let usage = &host.info("c")["usage"];
    let dir = host.cgroup_of("c").join("payload");
    assert!(usage["cpu"].as_u64().expect("CPU time") > 10_000, "{usage}");
    assert!(usage["processes"].as_u64().expect("processes") >= 1, "{usage}");
    assert_eq!(usage["memory"].is_null(), !dir.join("memory.current").exists(), "{usage}");
    assert_eq!(usage["pressure"].is_null(), !dir.join("cpu.pressure").exists(), "{usage}");
    let address = host.address("c");
    run_tool("ping", &["-c", "3", "-i", "0.2", "-s", "1000", &address]);
    let after = &host.info("c")["usage"];
    let grown = |key: &str| after[key].as_u64().expect(key) - usage[key].as_u64().expect(key);
    assert!(grown("net_received") >= 3000 && grown("net_sent") >= 3000, "{usage} {after}");
    assert!(host.ok(&["info", "c"]).contains("CPU time: "));
}

#[test]
fn top_ranks_running_containers_also_paused_ones() {
    let host = Host::new();
    host.launch("busy");
    host.launch("calm");
    host.ok(&["create", "tiny", "down"]);
    let spin = host.spawn(&["exec", "busy", "--", "timeout", "20", "sh", "-c", "while :; do :; done"], b"");
    let json = host.ok(&["top", "--format", "json"]);
    let all: Vec<serde_json::Value> = serde_json::from_str(&json).expect("top prints a JSON array");
    let names: Vec<_> = all.iter().map(|c| c["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["busy", "calm"]);
    // How much of a processor it gets depends on what else the machine does.
    let share = |row: &serde_json::Value| row["cpu_percent"].as_f64().expect("CPU");
    assert!(share(&all[0]) > 3.0 && share(&all[0]) > 3.0 * share(&all[1]), "{json}");
    let table = host.ok(&["top", "--sort", "name"]);
    assert!(table.starts_with("NAME") && table.lines().count() == 3, "{table}");
    // A paused guest would not answer, and need not.
    host.ok(&["pause", "busy"]);
    assert!(host.ok(&["top", "--once"]).contains("busy"));
    host.ok(&["resume", "busy"]);
    host.ok(&["stop", "--force", "busy"]);
    drop(spin.wait());
}

#[test]
fn top_is_renewed_in_place_and_leaves_the_terminal_as_it_was() {
    let host = Host::new();
    host.launch("web");
    let look = format!(
        "before=$(stty -g); {} top --interval 1; echo code $?; [ \"$(stty -g)\" = \"$before\" ] && echo unchanged",
        env!("CARGO_BIN_EXE_nagaya")
    );
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &look, "/dev/null"]).env_clear();
    command.env("NAGAYA_INSTANCE", host.name()).env("PATH", super::host::PATH);
    command.env("SHELL", "/bin/bash").env("TERM", "xterm");
    let (looking, mut keyboard) = Running::typed_at(command);
    until(10, "it is renewed", || looking.printed().matches("\x1b[H").count() >= 2);
    keyboard.write_all(b"m").unwrap();
    until(10, "the order is another", || looking.printed().contains("by memory"));
    keyboard.write_all(b"q").unwrap();
    let done = looking.wait_for(std::time::Duration::from_secs(15));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let (picture, after) = text.split_once("\x1b[?1049l").unwrap_or_else(|| panic!("{}", told(&done)));
    assert!(after.contains("code 0") && after.contains("unchanged"), "{after:?}");
    assert!(picture.contains("by CPU") && picture.contains("by memory"), "{picture:?}");
    assert!(picture.matches("\x1b[H").count() >= 3 && picture.contains("web"), "{picture:?}");
}

#[test]
fn huge_pages_are_limited_at_once_and_from_the_start_where_the_host_can() {
    let host = Host::new();
    host.launch("up");
    let refused = host.fails(3, &["config", "set", "up", "limits.hugepages.1MB=1MiB"]);
    assert!(
        refused.contains("no huge pages of 1MB") || refused.contains("no 'hugetlb' controller"),
        "{refused}"
    );
    let pages = fs::exists("/sys/kernel/mm/hugepages/hugepages-2048kB").expect("look for huge pages");
    if !has(&host, "hugetlb") || !pages {
        host.fails(3, &["config", "set", "up", "limits.hugepages.2MB=4MiB"]);
        return;
    }
    let held = |file: &str| {
        let info: serde_json::Value =
            serde_json::from_str(&host.ok(&["info", "up", "--format", "json"])).expect("JSON");
        let payload = Path::new(info["cgroup"].as_str().expect("a path")).join("payload");
        let text = fs::read_to_string(payload.join(file)).expect("read the file");
        let shown = info["limits"][file].as_str().expect("a limit").to_owned();
        assert_eq!(shown, text.trim(), "{file}");
        shown
    };
    host.ok(&["config", "set", "up", "limits.hugepages.2MB=5MiB"]);
    assert_eq!(held("hugetlb.2MB.max"), (4 << 20).to_string(), "whole pages");
    assert_eq!(held("hugetlb.2MB.rsvd.max"), (4 << 20).to_string());
    assert!(host.ok(&["info", "up"]).contains("limits.hugepages.2MB 5MiB (hugetlb.2MB.max 4194304)"));
    host.ok(&["restart", "up"]);
    assert_eq!(held("hugetlb.2MB.max"), (4 << 20).to_string());
    host.ok(&["config", "unset", "up", "limits.hugepages.2MB"]);
    assert_eq!(held("hugetlb.2MB.max"), "max");
}
