//! A guest's own figures from lxcfs, which may crash at any time.

use std::path::Path;
use std::process::{Command, Output};

use super::host::{Host, PATH, Running, random_hex, run_tool, told, until};

const DIR: &str = "/var/lib/lxcfs";

/// A mount namespace with an lxcfs where hosts have it; the host's own is not touched.
struct Lxcfs {
    shell: Running,
    pid_file: String,
}

impl Lxcfs {
    fn new() -> Self {
        let there = Path::new("/usr/bin/lxcfs").exists() && Path::new(DIR).is_dir();
        assert!(there, "there is no lxcfs: apt-get install lxcfs");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sleep", "600"]).env_clear().env("PATH", PATH);
        let lxcfs = Self {
            shell: Running::start(command, b""),
            pid_file: format!("/run/nagaya-test-{}.pid", random_hex(4)),
        };
        let own = || std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let theirs = || std::fs::read_link(format!("/proc/{}/ns/mnt", lxcfs.shell.pid())).unwrap();
        until(10, "a mount namespace", || own() != theirs());
        lxcfs.start();
        lxcfs
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.shell.pid().to_string()]).args(words);
        command.env_clear().env("PATH", PATH);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        Running::start(self.inside(words), b"").wait()
    }

    fn start(&self) {
        let script = format!("lxcfs -p {} {DIR} > /dev/null 2>&1 &", self.pid_file);
        let started = self.run(&["sh", "-c", &script]);
        assert!(started.status.success(), "{}", told(&started));
        until(10, "lxcfs answers", || self.run(&["cat", &format!("{DIR}/proc/uptime")]).status.success());
    }

    fn kill(&self) {
        let pid = std::fs::read_to_string(&self.pid_file).unwrap();
        run_tool("kill", &["-9", pid.trim()]);
        until(10, "lxcfs is dead", || !self.run(&["cat", &format!("{DIR}/proc/uptime")]).status.success());
    }

    fn nagaya(&self, host: &Host, args: &[&str]) -> String {
        let mut command = self.inside(&[&[env!("CARGO_BIN_EXE_nagaya")], args].concat());
        command.env("NAGAYA_INSTANCE", host.name());
        let output = Running::start(command, b"").wait();
        assert!(output.status.success(), "nagaya {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Lxcfs {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(&self.pid_file) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).output();
        }
        let _ = std::fs::remove_file(&self.pid_file);
        self.shell.kill(true);
    }
}

/// How long the guest says that it is up, in seconds, and how long its host is.
fn uptimes(host: &Host) -> (f64, f64) {
    let first = |text: &str| text.split(' ').next().unwrap().parse().unwrap();
    (first(&host.sh("web", "cat /proc/uptime")), first(&std::fs::read_to_string("/proc/uptime").unwrap()))
}

#[test]
fn a_guest_sees_itself_and_survives_a_crash_of_lxcfs() {
    let host = Host::new();
    let lxcfs = Lxcfs::new();
    lxcfs.nagaya(&host, &["launch", "tiny", "web"]);
    host.see_links();
    let (own, hosts) = uptimes(&host);
    assert!(own + 60.0 < hosts, "the guest is up for {own} s, its host for {hosts} s");
    let mounts = host.sh("web", "grep -c fuse.lxcfs /proc/self/mountinfo");
    host.sh("web", "test -r /proc/meminfo && ls /sys/devices/system/cpu > /dev/null");
    // What it was lent stays as it was lent.
    let remount =
        host.nagaya(&["exec", "web", "--", "mount", "-o", "remount,bind,rw,dev,suid", "/proc/uptime"]);
    assert!(!remount.status.success(), "{}", told(&remount));

    lxcfs.kill();
    let dead = host.nagaya(&["exec", "web", "--", "cat", "/proc/uptime"]);
    assert!(!dead.status.success(), "{}", told(&dead));
    // A start with a dead one, and a reboot of a guest that has one.
    lxcfs.nagaya(&host, &["launch", "tiny", "plain"]);
    host.see_links();
    host.sh("plain", "cat /proc/uptime");
    let init = host.init("web");
    host.nagaya(&["exec", "web", "--", "kill", "-39", "1"]);
    until(30, "a new init", || host.info("web")["pid"].as_i64().is_some_and(|pid| pid != i64::from(init)));
    until(30, "programs run again", || {
        host.nagaya(&["exec", "web", "--", "cat", "/proc/uptime"]).status.success()
    });

    // Started anew, it comes back to both, and to the boots after.
    lxcfs.run(&["umount", "-l", DIR]);
    lxcfs.start();
    for _ in 0..2 {
        lxcfs.nagaya(&host, &["lxcfs-attach"]);
        assert_eq!(host.sh("web", "grep -c fuse.lxcfs /proc/self/mountinfo"), mounts);
        host.sh("plain", "grep -q fuse.lxcfs /proc/self/mountinfo");
        let (own, hosts) = uptimes(&host);
        assert!(own + 60.0 < hosts, "the guest is up for {own} s, its host for {hosts} s");
    }
    let init = host.init("web");
    host.nagaya(&["exec", "web", "--", "kill", "-39", "1"]);
    until(30, "a new init", || host.info("web")["pid"].as_i64().is_some_and(|pid| pid != i64::from(init)));
    until(30, "programs run again", || host.nagaya(&["exec", "web", "--", "true"]).status.success());
    assert_eq!(host.sh("web", "grep -c fuse.lxcfs /proc/self/mountinfo"), mounts);
}

#[test]
fn a_guest_that_has_mounted_over_proc_is_left_alone() {
    let host = Host::new();
    let lxcfs = Lxcfs::new();
    lxcfs.nagaya(&host, &["launch", "tiny", "web"]);
    host.see_links();
    host.sh("web", "mkdir -p /tmp/x && ln -s / /tmp/x/meminfo && mount --bind /tmp/x /proc");
    let mut command = lxcfs.inside(&[env!("CARGO_BIN_EXE_nagaya"), "lxcfs-attach"]);
    command.env("NAGAYA_INSTANCE", host.name());
    let output = Running::start(command, b"").wait();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("web: "), "{}", told(&output));
    host.sh("web", "umount /proc");
    lxcfs.nagaya(&host, &["lxcfs-attach"]);
    host.sh("web", "cat /proc/meminfo");
}
