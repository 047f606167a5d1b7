//! A policy that is taken back unless somebody confirms it.

use std::time::Duration;

use super::{CLOSED, Site, WEB, file};
use crate::host::{lives, told, until};

#[test]
fn a_policy_that_nobody_confirms_is_taken_back() {
    let site = Site::new();
    let _server = site.serve("web", &[80]);
    let (_file, path) = file(CLOSED);
    let reaches = || site.asked(WEB, 80).is_some();
    let difference = "+ container web in: default deny\n";
    assert_eq!(site.ok(&format!("firewall check {path}")), difference);
    assert!(reaches(), "looking changes nothing");

    // Also when all that the command's shell has started is killed.
    let command = site.host.spawn(&["firewall", "apply", &path, "--confirm", "4"], b"");
    until(4, "the command does not wait", || !lives(command.pid()));
    command.kill(true);
    let output = command.wait();
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), difference);
    assert!(!reaches());
    assert!(site.fails("firewall allow web tcp 80").contains("waits to be confirmed"));
    until(15, "the policy is taken back", reaches);
    assert_eq!(site.ok("firewall export"), "");
    assert!(site.fails("firewall confirm").contains("no policy waits"));

    // The process that waits is lost: the next command does it.
    site.ok(&format!("firewall apply {path} --confirm 3"));
    let waiting = || waiting(site.host.name());
    until(5, "somebody waits", || !waiting().is_empty());
    for pid in waiting() {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill it");
    }
    assert!(!reaches());
    until(15, "a command takes the policy back", || {
        site.ok("list");
        reaches()
    });

    // Confirmed, it stays.
    site.ok(&format!("firewall apply {path} --confirm 3"));
    site.ok("firewall confirm");
    std::thread::sleep(Duration::from_secs(4));
    assert!(!reaches());
    assert_eq!(site.ok("firewall export").trim(), CLOSED.trim());
    until(10, "nobody waits", || waiting().is_empty());
}

/// Processes of this instance that wait to go back.
fn waiting(instance: &str) -> Vec<rustix::process::Pid> {
    let ours = |pid: &i32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (command, environment) = (read("cmdline"), read("environ"));
        let has = |text: &[u8], word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
        has(&command, "roll-back") && has(&environment, &format!("NAGAYA_INSTANCE={instance}"))
    };
    crate::host::pids().filter(ours).filter_map(rustix::process::Pid::from_raw).collect()
}
