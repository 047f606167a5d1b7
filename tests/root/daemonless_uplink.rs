//! pasta: what an ordinary user's containers reach, and what they do not.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::daemonless_user::{DaemonlessUser, Otherwise};
use super::host::{PATH, run_tool, told, until};

/// A host of its own, in a network namespace, with a neighbour in another: so nothing of this
/// machine's network is used.
struct World {
    host: Child,
    neighbour: Child,
    servers: Vec<Child>,
}

const NEIGHBOUR: &str = "198.51.100.7";
/// Says who it is and whom it sees.
const SERVER: &str = "
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
while True:
    c, peer = s.accept()
    c.sendall((sys.argv[3] + ' ' + peer[0] + '\\n').encode())
    c.close()
";

impl World {
    fn new() -> Self {
        for (program, package) in [("pasta", "passt"), ("unshare", "util-linux"), ("python3", "python3")] {
            let there = PATH.split(':').any(|dir| std::path::Path::new(dir).join(program).exists());
            assert!(there, "there is no {program}: apt-get install {package}");
        }
        let sleeper = || {
            let mut command = Command::new("unshare");
            command.args(["-n", "sleep", "600"]).env_clear().env("PATH", PATH).stdin(Stdio::null());
            command.spawn().expect("make a network namespace")
        };
        let own = fs::read_link("/proc/self/ns/net").expect("read a namespace");
        let world = Self { host: sleeper(), neighbour: sleeper(), servers: Vec::new() };
        for pid in [world.host.id(), world.neighbour.id()] {
            until(5, "a network namespace", || {
                fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns != own)
            });
        }
        world
    }

    fn prepare(mut self) -> Self {
        let (host, neighbour) = (self.host.id(), self.neighbour.id());
        let within = |pid: u32, script: &str| {
            run_tool("nsenter", &["-n", "-t", &pid.to_string(), "sh", "-ec", script])
        };
        within(
            host,
            &format!(
                "ip link set lo up; ip link add up0 type veth peer name down0 netns {neighbour}; \
                 ip addr add 192.0.2.2/24 dev up0; ip link set up0 up"
            ),
        );
        within(
            neighbour,
            &format!(
                "ip link set lo up; ip addr add {NEIGHBOUR}/32 dev lo; ip addr add 192.0.2.1/24 dev down0; \
                 ip link set down0 up"
            ),
        );
        within(host, "ip route add default via 192.0.2.1");
        self.serve(neighbour, NEIGHBOUR, "8080", "neighbour");
        self.serve(host, "127.0.0.1", "8081", "loopback");
        self
    }

    fn serve(&mut self, pid: u32, address: &str, port: &str, name: &str) {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &pid.to_string(), "python3", "-c", SERVER, address, port, name]);
        self.servers
            .push(command.env_clear().env("PATH", PATH).stdin(Stdio::null()).spawn().expect("run a server"));
        let listens = ["-n", "-t", &pid.to_string(), "ss", "-Htln", &format!("sport = :{port}")];
        until(10, "a server", || run_tool("nsenter", &listens).contains("LISTEN"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain([&mut self.host, &mut self.neighbour]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// /dev/net/tun as udev would have it, for the length of a test; one test at a time.
struct Tun {
    mode: u32,
    _lock: File,
}

const TUN: &str = "/dev/net/tun";

impl Tun {
    fn with_mode(mode: u32) -> Self {
        let lock = File::create("/tmp/nagaya-test-tun.lock").expect("make a lock file");
        lock.lock().expect("lock the device's mode");
        let before = fs::metadata(TUN).expect("there is no /dev/net/tun: modprobe tun").permissions();
        fs::set_permissions(TUN, fs::Permissions::from_mode(mode)).expect("set the device's mode");
        Self { mode: before.mode(), _lock: lock }
    }
}

impl Drop for Tun {
    fn drop(&mut self) {
        let _ = fs::set_permissions(TUN, fs::Permissions::from_mode(self.mode));
    }
}

#[test]
fn containers_reach_the_world_and_not_the_hosts_loopback() {
    let world = World::new().prepare();
    let _tun = Tun::with_mode(0o666);
    let user = DaemonlessUser::with_template();
    let there = Otherwise { network_of: Some(world.host.id() as i32), ..Otherwise::default() };
    let ok = |args: &[&str]| {
        let output = user.nagaya_otherwise(args, &there);
        assert!(output.status.success(), "nagaya {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ok(&["launch", "tiny", "web"]);
    // Its input stays open until it is answered.
    let ask =
        format!("until [ -s /tmp/said ]; do usleep 20000; done | nc -w 5 {NEIGHBOUR} 8080 | tee /tmp/said");
    let said = ok(&["exec", "web", "--", "timeout", "20", "sh", "-c", &ask]);
    assert_eq!(said.trim(), "neighbour 192.0.2.2");
    let gateway = user.info("web")["gateway"].as_str().expect("a gateway").to_owned();
    // All at once, as each is waited for.
    let script = format!(
        "for address in 127.0.0.1 192.0.2.1 192.0.2.2 169.254.53.53 {gateway}; do
            (sleep 1 | timeout 2 nc -w 1 $address 8081 | sed s/^/$address:/) & done; wait"
    );
    let tried = user.nagaya_otherwise(&["exec", "web", "--", "sh", "-c", &script], &there);
    assert!(!String::from_utf8_lossy(&tried.stdout).contains("loopback"), "{}", told(&tried));
    let links = user.in_network(&["ip", "-j", "addr", "show", "outside0"]);
    assert!(links.contains("192.0.2.2"), "{links}");
    // One pasta for all containers, which ends with them.
    ok(&["launch", "tiny", "other"]);
    let pastas = user.processes().into_iter().filter(|(_, what)| what.contains("pasta")).count();
    assert_eq!(pastas, 1);
    let notes = user.info("web")["notes"].to_string();
    assert!(!notes.contains("no uplink"), "{notes}");
}

#[test]
fn without_an_uplink_containers_run_and_it_is_said() {
    let _tun = Tun::with_mode(0o600);
    let user = DaemonlessUser::with_template();
    user.ok(&["launch", "tiny", "web"]);
    let notes = user.info("web")["notes"].to_string();
    assert!(notes.contains("no uplink of its network: /dev/net/tun cannot be opened"), "{notes}");
    let doctor = user.nagaya(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("chmod 0666 /dev/net/tun"), "{said}");
    let hidden = Otherwise { before: "mount --bind /dev/null $(command -v pasta)", ..Otherwise::default() };
    let info = user.nagaya_otherwise(&["info", "web"], &hidden);
    assert!(String::from_utf8_lossy(&info.stdout).contains("'pasta' is not installed"), "{}", told(&info));
}
