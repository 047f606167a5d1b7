//! Network namespaces for tests: one that a whole host stands in, and machines around it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::host::{PATH, Running, told};

/// A network namespace with mounts of its own, so that /sys shows its interfaces. It goes with the
/// process that holds it.
pub struct Netns {
    holder: Child,
}

/// /sys anew, with the cgroups that the machine has there.
const HOLD: &str = "set -e
mkdir -p /run/ngt-sys.$$
mount -t tmpfs none /run/ngt-sys.$$
mkdir /run/ngt-sys.$$/cgroup
mount --rbind /sys/fs/cgroup /run/ngt-sys.$$/cgroup
mount -t sysfs sysfs /sys
mount --move /run/ngt-sys.$$/cgroup /sys/fs/cgroup
umount /run/ngt-sys.$$
rmdir /run/ngt-sys.$$
ip link set lo up
echo ready
exec sleep infinity";

impl Netns {
    pub fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["-n", "-m", "sh", "-c", HOLD])
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run unshare (package util-linux)");
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("piped")).read_line(&mut line).expect("hear the holder");
        assert_eq!(line, "ready\n", "a network namespace is made");
        Self { holder }
    }

    pub fn pid(&self) -> i32 {
        self.holder.id() as i32
    }

    /// A program that will run in it.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-m", "-t", &self.pid().to_string(), "--", program]).args(args);
        command.env_clear().env("PATH", PATH);
        command
    }

    /// What it prints; it must succeed.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = Running::start(self.command(program, args), b"").wait();
        assert!(output.status.success(), "{program} {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A line of shell.
    pub fn sh(&self, script: &str) -> String {
        self.run("sh", &["-ec", script])
    }

    pub fn succeeds(&self, program: &str, args: &[&str]) -> bool {
        Running::start(self.command(program, args), b"").wait().status.success()
    }

    pub fn json(&self, program: &str, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(program, args))
            .unwrap_or_else(|e| panic!("{program} prints JSON: {e}"))
    }

    pub fn pings(&self, address: &str) -> bool {
        self.succeeds("ping", &["-n", "-c1", "-W1", address])
    }

    /// What a server says that is connected to from here.
    pub fn asks(&self, address: &str, port: u16) -> Option<String> {
        asks(|args| self.command("python3", args), address, port)
    }

    /// Joins both by a link: `name` here, `peer` there.
    pub fn join(&self, name: &str, other: &Self, peer: &str) {
        let there = other.pid().to_string();
        self.run("ip", &["link", "add", name, "type", "veth", "peer", "name", peer, "netns", &there]);
        self.run("ip", &["link", "set", name, "up"]);
        other.run("ip", &["link", "set", peer, "up"]);
    }

    /// Answers each who connects to `port` with that one's address, until it is dropped.
    pub fn serve(&self, port: u16) -> Running {
        serve(self.pid(), &[port])
    }
}

/// A program of the machine's in the network of a process: a guest's init, for example.
pub fn within(pid: i32, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-n", "-t", &pid.to_string(), "--", program]).args(args).env_clear().env("PATH", PATH);
    command
}

/// Answers each who connects to one of these ports there with that one's address, until it is dropped.
pub fn serve(pid: i32, ports: &[u16]) -> Running {
    let script = format!(
        "import select, socket
all = [socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True) for port in {ports:?}]
while True:
    for s in select.select(all, [], [])[0]:
        c, a = s.accept()
        c.sendall(a[0].replace('::ffff:', '').encode()); c.close()"
    );
    let server = Running::start(within(pid, "python3", &["-c", &script]), b"");
    super::host::until(20, "the server listens", || {
        let listed = Running::start(within(pid, "ss", &["-Htln"]), b"").wait();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        ports.iter().all(|port| listed.contains(&format!(":{port} ")))
    });
    server
}

/// What a server says that is connected to from the network of a process.
pub fn asks_from(pid: i32, address: &str, port: u16) -> Option<String> {
    asks(|args| within(pid, "python3", args), address, port)
}

/// What a server that is connected to says: the address that it sees. None where nobody answers.
/// `python` makes the command that runs a script.
pub fn asks(python: impl Fn(&[&str]) -> Command, address: &str, port: u16) -> Option<String> {
    let script = format!(
        "import socket
s = socket.create_connection(('{address}', {port}), timeout=2)
s.settimeout(2); print(s.recv(99).decode())"
    );
    let output = Running::start(python(&["-c", &script]), b"").wait();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
