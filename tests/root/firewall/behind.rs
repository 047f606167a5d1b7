//! What a killed command has stored and not told the kernel is made up for by whoever comes next.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use super::{HOST, Site, file};
use crate::host::{Host, pids, told, until};

/// The firewall's lock or a note, as a command has it that is about to be killed.
struct Busy {
    _file: File,
    path: PathBuf,
}

impl Busy {
    fn new(host: &Host, name: &str) -> Self {
        let path = host.run_dir().join("locks").join(name);
        let file = own_file(host, &path);
        std::fs::write(&path, "held").expect("mark the lock");
        flock(&file, FlockOperation::NonBlockingLockExclusive).expect("lock it");
        Self { _file: file, path }
    }

    /// As one does that is not killed.
    fn release(self) {
        std::fs::remove_file(&self.path).expect("remove the lock");
    }
}

/// Whether another process has this file open, as one has that waits for a lock.
fn opened_by_another(path: &std::path::Path) -> bool {
    pids().filter(|pid| *pid != std::process::id() as i32).any(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| target == path)
    })
}

fn own_file(host: &Host, path: &std::path::Path) -> File {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path).expect("make a file");
    std::os::unix::fs::chown(path, host.uid(), None).expect("give it away");
    file
}

#[test]
fn whoever_waits_for_a_command_that_is_killed_makes_up_for_it() {
    let site = Site::new();
    let (host, name) = (&site.host, site.host.name());
    let _server = site.serve("web", &[80]);
    site.ok("forward add web tcp 8022:22");
    let old = host.net().run("nft", &["list", "table", "inet", name]);
    site.ok("forward remove web tcp 8022");
    site.ok("forward add web tcp 8022:80");
    let reached = || site.asked(HOST, 8022).is_some();
    assert!(reached());
    // The same keys, and as many rules: only what they lead to is another's.
    let (_file, path) = file(&format!("delete table inet {name}\n{old}"));
    let fall_behind = || {
        host.net().run("nft", &["-f", &path]);
        assert!(!reached());
    };
    let beside = |words: &str, end: &dyn Fn(Busy)| {
        fall_behind();
        let busy = Busy::new(host, "firewall");
        let waiting = host.spawn(&words.split(' ').collect::<Vec<_>>(), b"");
        // It has looked for what is left behind by then.
        until(20, &format!("'{words}' waits for the lock"), || opened_by_another(&busy.path));
        end(busy);
        let output = waiting.wait();
        assert!(output.status.success(), "{words}: {}", told(&output));
        assert!(reached(), "after '{words}'");
    };
    beside("network repair", &drop);
    beside("device add db eth1 nic network=dmz", &drop);
    beside("firewall allow db tcp 80", &drop);
    // One that did not have the lock any more, or not yet.
    beside("device set db eth1 security.port_isolation=true", &|busy| {
        own_file(host, &host.run_dir().join("locks/firewall-behind"));
        busy.release();
    });
    // What another command is about to tell is left to it while it lives.
    fall_behind();
    let busy = Busy::new(host, "firewall-behind-1-0");
    site.ok("list");
    assert!(!reached());
    drop(busy);
    site.ok("list");
    assert!(reached());
    // Nobody knows of it, and a repair finds it out.
    fall_behind();
    site.ok("network repair");
    assert!(reached());
    // Where all is as it should be, nothing is made anew.
    let listed = || host.net().sh("nft -a list ruleset | grep -v counter");
    let before = listed();
    site.ok("network repair");
    assert_eq!(listed(), before);
    let locks: Vec<_> = std::fs::read_dir(host.run_dir().join("locks")).expect("list").flatten().collect();
    let left = |entry: &&std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("firewall");
    assert!(!locks.iter().any(|entry| left(&entry)), "{locks:?}");
}

#[test]
fn a_network_is_led_through_the_host_once_a_guest_with_rules_is_on_it() {
    let site = Site::new();
    site.ok("network create lan ipv4.address=10.21.0.1/24 ipv6.address=none");
    site.ok("firewall allow db tcp 80");
    site.ok("stop --force db");
    let routed = || {
        let table = site.host.net().run("nft", &["list", "table", "bridge", site.host.name()]);
        table.contains("lan")
    };
    assert!(!routed());
    site.ok("device add db eth1 nic network=lan");
    assert!(routed());
    site.ok("device remove db eth1");
    assert!(!routed());
}
