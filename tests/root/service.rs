//! Containers as services: `run`, `autostart`, `autostop`, and what they go by.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use serde_json::Value;

use super::host::{Host, Running, lives, told, until};

/// SIGRTMIN+4: what makes a systemd, and the tiny system, power off.
const POWER_OFF: &str = "38";
const REBOOT: &str = "39";

/// A service manager's ear.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new() -> Self {
        let name = format!("nagaya-test-{}", super::host::random_hex(8));
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { socket, name }
    }

    fn run(&self, host: &Host, container: &str) -> Running {
        let mut command = host.command(&["run", container]);
        command.env("NOTIFY_SOCKET", format!("@{}", self.name));
        Running::start(command, b"")
    }

    /// Waits until it is told a line.
    fn hears(&self, line: &str) {
        let mut text = [0u8; 4096];
        loop {
            let length = self.socket.recv(&mut text).unwrap_or_else(|e| panic!("no {line}: {e}"));
            if String::from_utf8_lossy(&text[..length]).lines().any(|l| l == line) {
                return;
            }
        }
    }
}

fn signal(running: &Running, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(running.pid()).unwrap(), signal).unwrap();
}

fn record(host: &Host, name: &str) -> Value {
    let id = host.info(name)["id"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(host.state_dir().join("containers").join(id).join("state")).unwrap();
    serde_json::from_str(text.trim_end()).unwrap()
}

fn power_off(host: &Host, name: &str) {
    host.nagaya(&["exec", name, "--", "kill", &format!("-{POWER_OFF}"), "1"]);
    until(30, "stopped", || host.info(name)["state"] == "stopped");
}

#[test]
fn a_run_starts_tells_prints_and_stops() {
    let host = Host::new();
    host.ok(&["create", "tiny", "web"]);
    let manager = Manager::new();
    let running = manager.run(&host, "web");
    manager.hears("READY=1");
    host.see_links();
    assert_eq!(host.info("web")["wanted_up"], false);
    host.sh("web", "echo printed on the console > /dev/console");
    signal(&running, rustix::process::Signal::TERM);
    manager.hears("STOPPING=1");
    let output = running.wait();
    assert!(output.status.success(), "{}", told(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("printed on the console"), "{}", told(&output));
    assert_eq!(host.info("web")["state"], "stopped");
    assert_eq!(record(&host, "web")["ended"]["asked"], true);
}

#[test]
fn a_run_survives_reboots_and_its_monitor() {
    let host = Host::new();
    host.launch("web");
    let manager = Manager::new();
    let running = manager.run(&host, "web");
    manager.hears("READY=1");
    let before = host.init("web");
    host.nagaya(&["exec", "web", "--", "kill", &format!("-{REBOOT}"), "1"]);
    until(30, "a new init", || host.info("web")["pid"].as_i64().is_some_and(|pid| pid != i64::from(before)));
    let (init, monitor) = (host.init("web"), host.monitor("web"));
    let killed = rustix::process::Pid::from_raw(monitor).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    // The run itself gives the guest a new one: `info` would not.
    until(30, "a new monitor", || {
        host.info("web")["monitor_pid"].as_i64().is_some_and(|p| p != i64::from(monitor))
    });
    assert_eq!(host.init("web"), init);
    host.exec("web", &["true"]);
    signal(&running, rustix::process::Signal::TERM);
    let output = running.wait();
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(host.info("web")["state"], "stopped");
}

#[test]
fn a_run_ends_with_1_when_the_guest_crashes_and_kills_at_the_second_signal() {
    let host = Host::new();
    host.launch("web");
    let manager = Manager::new();
    let running = manager.run(&host, "web");
    manager.hears("READY=1");
    let init = rustix::process::Pid::from_raw(host.init("web")).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    assert_eq!(running.wait().status.code(), Some(1));
    assert_eq!(record(&host, "web")["ended"]["clean"], false);

    let running = manager.run(&host, "web");
    manager.hears("READY=1");
    let init = host.init("web");
    host.ok(&["pause", "web"]);
    host.ok(&["resume", "web"]);
    let stopped = rustix::process::Pid::from_raw(init).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    signal(&running, rustix::process::Signal::TERM);
    manager.hears("STOPPING=1");
    signal(&running, rustix::process::Signal::INT);
    assert_eq!(running.wait().status.code(), Some(0));
    assert!(!lives(init));
}

#[test]
fn what_was_up_starts_with_the_host() {
    let host = Host::new();
    for name in ["up", "crashed", "off", "stopped"] {
        host.launch(name);
    }
    host.ok(&["create", "tiny", "never"]);
    host.ok(&["stop", "stopped"]);
    power_off(&host, "off");
    let init = rustix::process::Pid::from_raw(host.init("crashed")).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    until(30, "stopped", || host.info("crashed")["state"] == "stopped");
    host.ok(&["autostop"]);
    assert!(host.list().iter().all(|row| row["state"] == "stopped"));
    assert_eq!(record(&host, "up")["ended"]["asked"], true);
    assert_eq!(host.info("up")["wanted_up"], true);
    // As after a restart of the host.
    fs::remove_dir_all(host.run_dir()).unwrap();
    host.ok(&["autostart"]);
    let states: Vec<String> =
        host.list().iter().map(|row| format!("{} {}", row["name"], row["state"]).replace('"', "")).collect();
    let wanted = ["crashed running", "never stopped", "off stopped", "stopped stopped", "up running"];
    assert_eq!(states, wanted);
    // Both are for what is left to do.
    host.ok(&["autostart"]);
    host.ok(&["start", "off"]);
    host.ok(&["autostop"]);
    host.ok(&["autostop"]);
    host.ok(&["autostart"]);
    assert_eq!(host.info("off")["state"], "running");
}

#[test]
fn one_that_cannot_start_hinders_no_other() {
    let host = Host::new();
    for name in ["a", "b", "c"] {
        host.launch(name);
    }
    host.ok(&["autostop"]);
    let id = host.info("b")["id"].as_str().unwrap().to_owned();
    let data = host.state_dir().join("pool/containers").join(id);
    fs::rename(&data, data.with_extension("away")).unwrap();
    let said = host.fails(1, &["autostart"]);
    assert!(said.contains("b: "), "{said}");
    assert_eq!((&host.info("a")["state"], &host.info("c")["state"]), (&"running".into(), &"running".into()));
    fs::rename(data.with_extension("away"), &data).unwrap();
    assert_eq!(host.info("b")["wanted_up"], true);
    host.ok(&["autostart"]);
    assert_eq!(host.info("b")["state"], "running");
}

#[test]
fn a_shutdown_of_all_says_what_became_of_each() {
    let host = Host::new();
    host.launch("good");
    host.launch("deaf");
    host.ok(&["config", "set", "deaf", "boot.host_shutdown_timeout=1"]);
    let init = rustix::process::Pid::from_raw(host.init("deaf")).expect("a process");
    rustix::process::kill_process(init, rustix::process::Signal::STOP).expect("stop its init");
    let said = host.fails(0, &["autostop"]);
    assert!(said.contains("good is stopped") && said.contains("deaf is ended by force"), "{said}");
    assert!(host.list().iter().all(|row| row["state"] == "stopped"));
}

#[test]
fn an_instance_that_is_not_set_up_has_nothing_to_start() {
    let host = Host::bare();
    assert_eq!(host.ok(&["autostart"]), "");
    assert_eq!(host.ok(&["autostop"]), "");
    assert!(!host.state_dir().exists());
}
