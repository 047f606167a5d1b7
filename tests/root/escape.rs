//! The way into a guest must be no way out of it: what enters holds nothing, and cannot be had.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::net::SocketAddrUnix;
use rustix::pipe::PipeFlags;
use serde_json::json;

use super::daemonless_user::DaemonlessUser;
use super::host::{Host, pids, run_tool, status, told, until};
use super::hostd_users::HostdUsers;
use super::monitor::Connection;
use super::templates;

/// Who types `nagaya`, for all kinds of owners alike.
struct Operator<'a> {
    nagaya: &'a dyn Fn(&[&str], &[u8]) -> std::process::Output,
    /// The owner's run directory.
    run: PathBuf,
}

/// Programs that enter while the attacker waits: so many by commands, and the others by clients that
/// ask the monitor for one after another, as commands do.
const COMMANDS: usize = 150;
const EXECS: usize = 1000;
const AT_ONCE: usize = 4;

impl Operator<'_> {
    fn ok(&self, args: &[&str]) -> String {
        let output = (self.nagaya)(args, b"");
        let said = || {
            let logs = (self.nagaya)(&["logs", "web"], b"");
            format!("{}\n{}", told(&output), String::from_utf8_lossy(&logs.stdout))
        };
        assert!(output.status.success(), "{}: {}", args.join(" "), said());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn monitor(&self) -> i32 {
        let info: serde_json::Value =
            serde_json::from_str(&self.ok(&["info", "web", "--format", "json"])).expect("JSON");
        info["monitor_pid"].as_i64().expect("a monitor") as i32
    }

    /// Has root of the guest wait for whoever enters, while the operator does everything that enters.
    fn is_attacked(&self) {
        let program = templates::program(include_str!("attacker.c"));
        let install = "cat > /root/attacker && chmod 755 /root/attacker && touch /root/watch";
        let put = (self.nagaya)(&["exec", "web", "--", "sh", "-c", install], &program);
        assert!(put.status.success(), "{}", told(&put));
        let arm =
            || self.ok(&["exec", "web", "--", "sh", "-c", "/root/attacker > /dev/null 2>&1 < /dev/null"]);
        arm();
        for round in 0..COMMANDS {
            // Nobody has to be let in while the attacker has its hands on the program; but it must end.
            (self.nagaya)(&["exec", "web", "--", "true"], b"");
            if round % 10 == 0 {
                (self.nagaya)(&["exec", "-t", "web", "--user", "alice", "--", "true"], b"");
                (self.nagaya)(&["shell", "web"], b"exit\n");
            }
        }
        let info = self.ok(&["info", "web", "--format", "json"]);
        let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        let control = self.run.join("containers").join(info["id"].as_str().expect("an id")).join("control");
        let control = SocketAddrUnix::new(control).expect("a path that is short");
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| (0..(EXECS - COMMANDS).div_ceil(AT_ONCE)).for_each(|_| ask_monitor(&control)));
            }
        });
        for _ in 0..4 {
            let monitor = self.monitor();
            kill(monitor);
            self.ok(&["exec", "web", "--", "true"]);
        }
        for _ in 0..8 {
            self.ok(&["device", "add", "web", "memory", "disk", "source=tmpfs:", "path=/mnt/memory"]);
            self.ok(&["device", "remove", "web", "memory"]);
        }
        self.ok(&["exec", "web", "--", "rm", "/root/watch"]);
        let report = || self.ok(&["exec", "web", "--", "cat", "/root/report"]);
        until(20, "the attacker has ended", || report().contains("seen "));
        let text = report();
        assert!(!text.contains("ESCAPE"), "{text}");
        let seen: usize =
            text.split_whitespace().nth(1).and_then(|n| n.trim_end_matches(',').parse().ok()).unwrap();
        assert!(seen > EXECS / 2, "the attacker has seen too few to have tried: {text}");
        // Through stops, reboots and starts. The attacker of each boot ends with it.
        for again in
            [&["restart", "web"][..], &["exec", "web", "--", "reboot"], &["restart", "--force", "web"]]
        {
            self.ok(&["exec", "web", "--", "touch", "/root/watch"]);
            arm();
            (self.nagaya)(again, b"");
            until(30, "it is up again", || {
                (self.nagaya)(&["exec", "web", "--", "true"], b"").status.success()
            });
        }
        assert!(!report().contains("ESCAPE"), "{}", report());
    }
}

#[test]
fn an_attacker_within_gets_nothing_of_who_enters() {
    let host = Host::new();
    host.launch("web");
    let nagaya = |args: &[&str], input: &[u8]| host.spawn(args, input).wait();
    Operator { nagaya: &nagaya, run: host.run_dir() }.is_attacked();
}

#[test]
fn an_attacker_in_an_ordinary_users_container_gets_nothing() {
    let users = HostdUsers::new(1);
    let user = users.granted(0);
    user.ok(&["launch", "tiny", "web"]);
    let nagaya = |args: &[&str], input: &[u8]| super::host::Running::start(user.command(args), input).wait();
    let run = format!("/run/{}-users/{}", users.host.name(), user.uid).into();
    Operator { nagaya: &nagaya, run }.is_attacked();
}

#[test]
fn an_attacker_in_a_container_without_any_broker_of_the_hosts_gets_nothing() {
    let user = DaemonlessUser::with_template();
    let launched = user.nagaya(&["launch", "tiny", "web"]);
    assert!(launched.status.success(), "{}", told(&launched));
    let nagaya = |args: &[&str], input: &[u8]| user.spawn(args, input).wait();
    Operator { nagaya: &nagaya, run: user.run_dir() }.is_attacked();
}

/// Has the monitor run a program, and waits for what comes of it. It stays long enough to be looked at.
fn ask_monitor(control: &SocketAddrUnix) {
    let connection = Connection::at(control);
    let [input, output, errors] =
        std::array::from_fn(|_| rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("make a pipe"));
    let exec = json!({"argv": ["sleep", "0.01"], "env": [], "cwd": null, "user": "root", "tty": null});
    connection.send(&json!({"exec": exec}), &[input.0.as_fd(), output.1.as_fd(), errors.1.as_fd()]);
    connection.hear().expect("the monitor says how it has ended");
}

fn kill(pid: i32) {
    run_tool("kill", &["-s", "KILL", &pid.to_string()]);
}

/// Numbers of the mounts of this process's mount namespace: the host's.
fn hosts_mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn mount_of(fd_info: &Path) -> Option<String> {
    let text = fs::read_to_string(fd_info).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|id| id.trim().to_owned())
}

/// That no descriptor of a process is of a mount of the host's, nor leads to one by "..".
fn holds_nothing_of_the_host(pid: i32) {
    let mounts = hosts_mounts();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let (path, number) = (entry.path(), entry.file_name());
        let number = number.to_string_lossy();
        let target = fs::read_link(&path).unwrap_or_default();
        let info = format!("/proc/{pid}/fdinfo/{number}");
        let Some(mount) = mount_of(Path::new(&info)) else { continue };
        assert!(!mounts.contains(&mount), "descriptor {number} of {pid} is the host's {}", target.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
        let top = climb(dir);
        let number = std::os::fd::AsRawFd::as_raw_fd(&top);
        let mount = mount_of(Path::new(&format!("/proc/self/fdinfo/{number}"))).expect("a mount's number");
        assert!(!mounts.contains(&mount), "'..' of {} leads to the host", target.display());
        let (end, root) = (rustix::fs::fstat(&top).unwrap(), fs::metadata("/").unwrap());
        assert_ne!((end.st_dev, end.st_ino), (root.dev(), root.ino()));
    }
}

fn climb(mut dir: OwnedFd) -> OwnedFd {
    for _ in 0..30 {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        dir = rustix::fs::openat(dir.as_fd(), "..", flags, Mode::empty()).expect("climb");
    }
    dir
}

#[test]
fn no_descriptor_leads_to_a_mount_of_the_host() {
    let host = Host::new();
    host.launch("web");
    holds_nothing_of_the_host(host.monitor("web"));
    holds_nothing_of_the_host(host.init("web"));
    let old = host.monitor("web");
    kill(old);
    host.exec("web", &["true"]);
    holds_nothing_of_the_host(host.monitor("web"));

    let user = DaemonlessUser::with_template();
    let launched = user.nagaya(&["launch", "tiny", "web"]);
    assert!(launched.status.success(), "{}", told(&launched));
    for (pid, _) in user.processes() {
        if status(pid, "NSpid").split_whitespace().count() > 1 || comm(pid).starts_with("nagaya-monitor") {
            holds_nothing_of_the_host(pid);
        }
    }
}

fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// What the children of a monitor hold that stand in the guest's pid namespace, while programs enter.
#[test]
fn what_enters_holds_three_streams_and_its_report() {
    let host = Host::new();
    host.launch("web");
    let (monitor, init) = (host.monitor("web"), host.init("web"));
    let is_over = AtomicBool::new(false);
    let (mut sampled, mut inside) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..150 {
                host.nagaya(&["exec", "web", "--", "true"]);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            let children =
                fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap_or_default();
            for pid in
                children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != init)
            {
                sampled += 1;
                if status(pid, "NSpid").split_whitespace().count() < 2 {
                    continue;
                }
                inside += 1;
                let open: BTreeSet<u32> = fs::read_dir(format!("/proc/{pid}/fd"))
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                    .collect();
                assert!(open.len() <= 4, "process {pid} holds {open:?}");
                let filtered = status(pid, "Seccomp");
                // Empty where it has ended meanwhile.
                assert!(matches!(filtered.as_str(), "" | "2"), "process {pid} is inside without a filter");
            }
        }
    });
    assert!(sampled > 0 && inside > 0, "nobody was seen on the way: {sampled} {inside}");
}

/// The file that a monitor was executed from, and what that does to its memory.
#[test]
fn a_monitors_program_cannot_be_read_by_its_container() {
    let host = Host::new();
    host.launch("web");
    let monitor = host.monitor("web");
    let program = fs::metadata(format!("/proc/{monitor}/exe")).unwrap();
    assert_eq!((program.uid(), program.mode() & 0o7777), (0, 0o711));
    // Its files in /proc belong to root of the user namespace that its memory belongs to: the host's.
    assert_eq!(fs::metadata(format!("/proc/{monitor}/mem")).unwrap().uid(), 0);
    assert_ne!(fs::metadata(format!("/proc/{}/mem", host.init("web"))).unwrap().uid(), 0);
    // One copy for all, and none when the instance has gone.
    host.launch("other");
    assert_eq!(fs::metadata(format!("/proc/{}/exe", host.monitor("other"))).unwrap().ino(), program.ino());
}

/// Where programs are born that a guest wants to have elsewhere.
#[test]
fn no_program_is_born_outside_of_the_containers_limits() {
    let host = Host::new();
    host.launch("web");
    let payload = host.cgroup_of("web").join("payload");
    let spoil = [
        "mkdir -p .exec; echo 1 > .exec/cgroup.freeze",
        "echo 0 > .exec/cgroup.freeze; mkdir -p .exec/inner; for c in $(cat .exec/cgroup.controllers); do echo +$c > .exec/cgroup.subtree_control; done",
        "echo threaded > .exec/cgroup.type; rmdir .exec/inner; echo 0 > .exec/cgroup.max.descendants",
        "rmdir .exec; : > .exec",
    ];
    for how in spoil {
        // From a cgroup of its own, for the shell would be spoiled with it.
        let script = format!("cd /sys/fs/cgroup; mkdir -p aside; echo $$ > aside/cgroup.procs; {how}; true");
        host.nagaya(&["exec", "web", "--", "sh", "-c", &script]);
        let program = host.spawn(&["exec", "web", "--", "sleep", "6363"], b"");
        let mut found = None;
        until(10, "the program runs", || {
            found = pids().find(|pid| comm(*pid) == "sleep\x006363\0");
            found.is_some()
        });
        let pid = found.unwrap();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let below = format!("{}/", payload.file_name().unwrap().to_string_lossy());
        let own = groups.lines().find(|line| line.starts_with("0::")).unwrap();
        assert!(own.contains(&format!("/{below}")), "{how}: {own}");
        host.ok(&["pause", "web"]);
        let frozen = fs::read_to_string(payload.join("cgroup.events")).unwrap();
        assert!(frozen.contains("frozen 1"), "{how}: {frozen}");
        host.ok(&["resume", "web"]);
        run_tool("kill", &["-s", "KILL", &pid.to_string()]);
        program.wait();
    }
}
