//! From launch to delete, with reboots in between.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::host::{Host, run_tool, until};

/// SIGRTMIN+4 and SIGRTMIN+5: what makes a systemd power off or reboot.
const POWER_OFF: &str = "38";
const REBOOT: &str = "39";

#[test]
fn a_guest_that_reboots_keeps_monitor_and_network() {
    let host = Host::new();
    host.launch("web");
    let (init, monitor, address) = (host.init("web"), host.monitor("web"), host.address("web"));
    let boot_id = host.sh("web", "cat /proc/sys/kernel/random/boot_id");
    host.sh("web", "touch /root/kept /run/lost");
    for _ in 0..3 {
        let before = host.init("web");
        host.nagaya(&["exec", "web", "--", "kill", &format!("-{REBOOT}"), "1"]);
        until(30, "a new init", || {
            host.info("web")["pid"].as_i64().is_some_and(|pid| pid != i64::from(before))
        });
        until(30, "programs run again", || host.nagaya(&["exec", "web", "--", "true"]).status.success());
    }
    assert_ne!(host.init("web"), init);
    assert_eq!(host.monitor("web"), monitor);
    run_tool("ping", &["-c1", "-W2", &address]);
    assert!(host.sh("web", "ip address show eth0").contains(&address));
    assert!(host.sh("web", "ip route").contains("default via"));
    assert_ne!(host.sh("web", "cat /proc/sys/kernel/random/boot_id"), boot_id);
    assert_eq!(host.sh("web", "ls /root; ls /run/lost 2> /dev/null || true"), "kept");
}

#[test]
fn a_guest_that_powers_off_is_stopped_and_starts_again() {
    let host = Host::new();
    host.launch("web");
    let (address, cgroup) = (host.address("web"), host.cgroup_of("web"));
    host.sh("web", "echo kept > /root/file");
    host.nagaya(&["exec", "web", "--", "kill", &format!("-{POWER_OFF}"), "1"]);
    until(30, "stopped", || host.info("web")["state"] == "stopped");
    host.list();
    assert!(!cgroup.exists(), "{} is left", cgroup.display());
    host.fails(1, &["exec", "web", "--", "true"]);
    host.ok(&["start", "web"]);
    assert_eq!(host.sh("web", "cat /root/file"), "kept");
    assert_eq!(host.address("web"), address);
    run_tool("ping", &["-c1", "-W2", &address]);
}

#[test]
fn stop_asks_init_and_leaves_nothing_running() {
    let host = Host::new();
    host.launch("web");
    let (cgroup, link) = (host.cgroup_of("web"), host.info("web")["host_link"].as_str().unwrap().to_owned());
    assert!(run_tool("ip", &["-j", "link", "show", &link]).contains(&link));
    host.ok(&["stop", "web"]);
    assert_eq!(host.list()[0]["state"], "stopped");
    assert!(host.ok(&["logs", "web"]).contains("Powering off."));
    assert!(!cgroup.exists());
    assert!(!run_tool("ip", &["-j", "link"]).contains(&link));
    host.fails(1, &["stop", "web"]);
}

#[test]
fn a_stubborn_guest_outlives_a_stop_but_not_a_forced_one() {
    let host = Host::new();
    host.launch("web");
    host.sh("web", "echo stubborn > /etc/behave");
    let init = host.init("web");
    let said = host.fails(1, &["stop", "web", "--timeout", "1"]);
    assert!(said.contains("web"), "{said}");
    assert_eq!(host.init("web"), init);
    assert_eq!(host.exec("web", &["echo", "still here"]), "still here");
    let begun = Instant::now();
    host.ok(&["stop", "web", "--force"]);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(host.list()[0]["state"], "stopped");
    assert!(!fs::exists(format!("/proc/{init}/root")).unwrap_or(true));
}

#[test]
fn a_forced_stop_need_not_wait_for_a_patient_one() {
    let host = Host::new();
    host.launch("web");
    host.sh("web", "echo stubborn > /etc/behave");
    let patient = host.spawn(&["stop", "web", "--timeout", "50"], b"");
    until(30, "the guest has been asked", || host.ok(&["logs", "web"]).contains("tiny: no"));
    let begun = Instant::now();
    host.ok(&["stop", "web", "--force"]);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(patient.wait_for(Duration::from_secs(5)).status.success());
}

#[test]
fn a_paused_guest_stands_still() {
    let host = Host::new();
    host.launch("web");
    host.sh("web", "(i=0; while :; do i=$((i + 1)); echo $i > /root/count.new; mv /root/count.new /root/count; done) > /dev/null 2>&1 &");
    let cgroup = host.cgroup_of("web").join("payload");
    let frozen = || fs::read_to_string(cgroup.join("cgroup.events")).unwrap().contains("frozen 1");
    assert!(!frozen());
    host.ok(&["pause", "web"]);
    assert!(frozen());
    assert_eq!(host.list()[0]["state"], "frozen");
    let id = host.info("web")["id"].as_str().unwrap().to_owned();
    let count = host.state_dir().join("pool/containers").join(id).join("upper/root/count");
    let read = || fs::read_to_string(&count).unwrap_or_default();
    let held = read();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(read(), held);
    for refused in [&["exec", "web", "--", "true"][..], &["pause", "web"], &["start", "web"]] {
        let begun = Instant::now();
        host.fails(1, refused);
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
    host.ok(&["resume", "web"]);
    assert!(!frozen());
    until(30, "it counts on", || read() != held && !read().is_empty());
    host.fails(1, &["resume", "web"]);
    host.exec("web", &["true"]);
}

#[test]
fn a_paused_guest_can_be_stopped_by_force_and_deleted() {
    let host = Host::new();
    host.launch("a");
    host.launch("b");
    host.ok(&["pause", "a", "b"]);
    host.ok(&["stop", "--force", "a"]);
    host.ok(&["delete", "--force", "b"]);
    assert_eq!(host.list().len(), 1);
    host.ok(&["start", "a"]);
    host.exec("a", &["true"]);
}

#[test]
fn a_guest_can_freeze_what_it_has_made_and_not_itself() {
    let host = Host::new();
    host.launch("web");
    let refused = host.nagaya(&["exec", "web", "--", "sh", "-c", "echo 1 > /sys/fs/cgroup/cgroup.freeze"]);
    assert!(!refused.status.success());
    assert_eq!(host.list()[0]["state"], "running");
    // Everything that runs in it, its init too.
    let ice = "cd /sys/fs/cgroup; mkdir ice; echo 1 > ice/cgroup.procs; echo 1 > ice/cgroup.freeze";
    host.sh("web", ice);
    host.exec("web", &["true"]);
    host.sh("web", "echo 0 > /sys/fs/cgroup/ice/cgroup.freeze");
    host.ok(&["pause", "web"]);
    host.ok(&["resume", "web"]);
    host.sh("web", "echo 1 > /sys/fs/cgroup/ice/cgroup.freeze");
    host.ok(&["delete", "--force", "web"]);
}

#[test]
fn a_guest_whose_init_ends_at_once_is_told_of() {
    let host = Host::new();
    host.launch("web");
    host.sh("web", "echo exit > /etc/behave");
    let cgroup = host.cgroup_of("web");
    host.ok(&["stop", "web"]);
    let said = host.fails(1, &["start", "web"]);
    assert!(said.contains("7") && said.contains("web"), "{said}");
    assert_eq!(host.list()[0]["state"], "stopped");
    assert!(!cgroup.exists());
}

#[test]
fn create_start_rename_restart_and_delete_do_what_they_say() {
    let host = Host::new();
    host.ok(&["create", "tiny", "one"]);
    assert_eq!(host.list()[0]["state"], "stopped");
    host.fails(1, &["create", "tiny", "one"]);
    host.fails(1, &["launch", "no-such-template", "two"]);
    host.ok(&["start", "one"]);
    host.see_links();
    host.fails(1, &["start", "one"]);
    let id = host.info("one")["id"].as_str().unwrap().to_owned();
    host.ok(&["stop", "one"]);
    host.ok(&["rename", "one", "two"]);
    host.ok(&["start", "two"]);
    assert_eq!(host.exec("two", &["hostname"]), "two");
    let init = host.init("two");
    host.ok(&["restart", "two"]);
    assert_ne!(host.init("two"), init);
    host.fails(1, &["delete", "two"]);
    host.ok(&["delete", "--force", "two"]);
    assert!(host.list().is_empty());
    for gone in ["pool/containers", "containers"] {
        assert!(!host.state_dir().join(gone).join(&id).exists());
    }
    assert!(!host.run_dir().join("containers").join(&id).exists());
}

#[test]
fn waiting_for_a_guest_returns_when_its_init_says_so() {
    let host = Host::new();
    host.ok(&["launch", "tiny", "web", "--wait=running"]);
    assert_eq!(host.info("web")["ready"], true);
    host.ok(&["launch", "tiny", "net", "--wait=network"]);
    run_tool("ping", &["-c1", "-W2", &host.address("net")]);
}

#[test]
fn a_monitor_that_is_asked_to_end_shuts_its_guest_down() {
    let host = Host::new();
    host.launch("c");
    for (signal, paused) in [(Signal::TERM, false), (Signal::URG, true)] {
        if paused {
            host.ok(&["pause", "c"]);
        }
        let monitor = rustix::process::Pid::from_raw(host.monitor("c")).expect("a process");
        rustix::process::kill_process(monitor, signal).expect("signal the monitor");
        until(10, "it has stopped", || host.list()[0]["state"] == "stopped");
        let told = host.ok(&["info", "c"]);
        let last = told.lines().find(|line| line.starts_with("Last end")).expect("how it ended");
        assert!(last.contains("shut down") && !last.contains("nobody asked"), "{last}");
        // It is to be up still, and comes with the host.
        assert_eq!(host.info("c")["wanted_up"], true);
        host.ok(&["start", "c"]);
    }
}
