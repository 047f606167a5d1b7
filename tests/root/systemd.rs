//! Real systems with systemd.

use super::host::{Host, run_tool, until};
use super::templates;

#[test]
fn debian_11_boots_reboots_and_stops_without_a_failed_unit() {
    boots("debian11");
}

#[test]
fn debian_12_boots_reboots_and_stops_without_a_failed_unit() {
    stops_by_force(&boots("debian12"));
}

#[test]
fn debian_13_boots_reboots_and_stops_without_a_failed_unit() {
    boots("debian13");
}

fn boots(system: &str) -> Host {
    let host = Host::bare();
    host.import(system, &templates::debian(system));
    host.ok(&["launch", system, "web", "--wait=running", "--timeout", "50"]);
    host.see_links();
    healthy(&host);
    let (init, monitor) = (host.init("web"), host.monitor("web"));

    host.nagaya(&["exec", "web", "--", "systemctl", "reboot"]);
    until(30, "a new init", || host.info("web")["pid"].as_i64().is_some_and(|pid| pid != i64::from(init)));
    until(30, "programs run again", || host.nagaya(&["exec", "web", "--", "true"]).status.success());
    healthy(&host);
    assert_eq!(host.monitor("web"), monitor);

    host.ok(&["stop", "web", "--timeout", "30"]);
    assert_eq!(host.list()[0]["state"], "stopped");
    host.ok(&["start", "web", "--wait=running", "--timeout", "50"]);
    healthy(&host);
    host.nagaya(&["exec", "web", "--", "systemctl", "poweroff"]);
    until(30, "stopped", || host.list()[0]["state"] == "stopped");
    host
}

/// The kernel takes its time for what systemd holds, above all for each inotify instance. A forced stop does not
/// wait for that, and whoever wants the container next does.
fn stops_by_force(host: &Host) {
    let start = || host.ok(&["start", "web", "--wait=running", "--timeout", "50"]);
    start();
    let (cgroup, link) = (host.cgroup_of("web"), host.info("web")["host_link"].as_str().unwrap().to_owned());
    host.ok(&["stop", "--force", "web"]);
    assert_eq!(host.list()[0]["state"], "stopped");
    assert!(!run_tool("ip", &["-j", "link"]).contains(&link));
    host.fails(1, &["exec", "web", "--", "true"]);
    host.fails(1, &["stop", "--force", "web"]);
    until(20, "nothing is left", || !cgroup.exists());
    assert_eq!(host.info("web")["ended"]["reason"], "stopped by force");
    start();
    host.ok(&["stop", "--force", "web"]);
    start();
    host.exec("web", &["true"]);
    host.ok(&["stop", "--force", "web"]);
    host.ok(&["delete", "web"]);
    assert!(!cgroup.exists());
}

fn healthy(host: &Host) {
    // Just after a reboot systemd does not listen yet.
    let state = || {
        let asked = host.nagaya(&["exec", "web", "--", "systemctl", "is-system-running"]);
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    };
    until(60, "the boot is over", || ["running", "degraded"].contains(&state().as_str()));
    let failed = host.exec("web", &["systemctl", "list-units", "--failed", "--no-legend", "--plain"]);
    assert_eq!(failed, "");
    assert_eq!(state(), "running");
    assert_eq!(host.exec("web", &["systemd-detect-virt", "--container"]), "lxc");
    assert_eq!(host.exec("web", &["hostname"]), "web");
    assert_eq!(host.exec("web", &["cat", "/etc/machine-id"]), host.info("web")["uuid"].as_str().unwrap());
    let address = host.address("web");
    run_tool("ping", &["-c1", "-W2", &address]);
    let shown = host.exec("web", &["ip", "-4", "-o", "address", "show", "eth0"]);
    assert!(shown.contains(&format!("inet {address}/20")), "{shown}");
    // networkd has taken over what was there, and has nothing left to do.
    until(10, "eth0 is configured", || {
        host.exec("web", &["networkctl", "--no-legend", "list", "eth0"]).contains("configured")
    });
    // Each kind of thing that a server does on its first day.
    host.sh("web", "systemd-run --wait -p DynamicUser=yes -p PrivateTmp=yes -p ProtectSystem=strict true");
    host.sh("web", "useradd -m bob-$(cat /proc/sys/kernel/random/uuid | cut -c1-8)");
}
