//! What a guest prints on its console, and who sees it.

use std::fs;
use std::io::Write;
use std::time::Duration;

use super::host::{Host, Running, until};

#[test]
fn the_console_shows_the_boot_and_what_comes_later() {
    let host = Host::new();
    host.launch("web");
    until(30, "the boot is in the history", || host.ok(&["logs", "web"]).contains("tiny: up"));
    host.sh("web", "echo later > /dev/console");
    until(30, "the rest follows", || host.ok(&["logs", "web"]).contains("later"));
    host.ok(&["stop", "web"]);
    host.ok(&["start", "web"]);
    let logs = host.ok(&["logs", "web"]);
    assert!(logs.contains("later") && logs.matches("tiny: up").count() == 2, "{logs}");
}

#[test]
fn the_history_is_bounded_and_keeps_the_latest() {
    let host = Host::new();
    host.launch("web");
    host.sh("web", "yes 0123456789abcdef0123456789abcdef | head -c 5242880 > /dev/console; echo the very last > /dev/console");
    until(20, "all of it is taken", || host.ok(&["logs", "web"]).contains("the very last"));
    let dir = host.state_dir().join("containers").join(host.info("web")["id"].as_str().unwrap());
    let size = |name: &str| fs::metadata(dir.join(name)).map_or(0, |m| m.len());
    let sum = size("console.0") + size("console.1");
    assert!((400 << 10..=1_153_434).contains(&sum), "{sum} bytes");
    // The guest went on meanwhile and is well.
    assert_eq!(host.exec("web", &["echo", "well"]), "well");
}

#[test]
fn several_watch_at_once_until_the_guest_ends() {
    let host = Host::new();
    host.launch("web");
    let watchers: Vec<_> = (0..2).map(|_| host.spawn(&["console", "web"], b"")).collect();
    // A third that never reads holds nobody up.
    let mut command = host.command(&["console", "web"]);
    let mut deaf =
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let hear = |what: &str| watchers.iter().all(|watcher| watcher.printed().contains(what));
    until(10, "they are shown the boot", || hear("tiny: up"));
    host.sh("web", "yes watch me | head -c 300000 > /dev/console");
    // Those that read are given the time to: who is too slow loses what comes meanwhile.
    until(10, "they have caught up", || {
        host.sh("web", "echo is anybody there > /dev/console");
        hear("is anybody there")
    });
    host.sh("web", "echo to all of you > /dev/console");
    host.ok(&["stop", "web"]);
    for watcher in watchers {
        let done = watcher.wait_for(Duration::from_secs(10));
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(text.contains("to all of you"), "{} bytes", text.len());
    }
    deaf.kill().unwrap();
    deaf.wait().unwrap();
}

#[test]
fn what_is_typed_reaches_the_guest() {
    let host = Host::new();
    host.launch("web");
    let mut command = std::process::Command::new("script");
    let console = format!("{} console web", env!("CARGO_BIN_EXE_nagaya"));
    command.args(["-qec", &console, "/dev/null"]).env_clear().env("NAGAYA_INSTANCE", host.name());
    command.env("PATH", super::host::PATH).env("SHELL", "/bin/sh").env("TERM", "xterm");
    let (sitting, mut keyboard) = Running::typed_at(command);
    until(10, "the console is there", || sitting.printed().contains("Ctrl-a q leaves it"));
    // What is typed before the terminal is the guest's is thrown away.
    let mut looks = 0;
    until(10, "the guest hears", || {
        if looks % 40 == 0 {
            keyboard.write_all(b"hello\r").unwrap();
        }
        looks += 1;
        sitting.printed().contains("heard: hello")
    });
    keyboard.write_all(b"second\r").unwrap();
    until(10, "the guest hears more", || sitting.printed().contains("heard: second"));
    keyboard.write_all(b"\x01q").unwrap();
    let done = sitting.wait_for(Duration::from_secs(15));
    assert_eq!(done.status.code(), Some(0), "{}", super::host::told(&done));
    let logs = host.ok(&["logs", "web"]);
    assert!(logs.contains("heard: hello") && logs.contains("heard: second"), "{logs}");
    assert_eq!(host.list()[0]["state"], "running");
}

#[test]
fn logs_are_followed_through_stops_and_starts() {
    let host = Host::new();
    host.ok(&["create", "tiny", "web"]);
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let mut command = host.command(&["logs", "-f", "web"]);
    let mut following = command.stdout(fs::File::create(&seen).unwrap()).spawn().unwrap();
    let text = || fs::read_to_string(&seen).unwrap();
    host.ok(&["start", "web"]);
    host.see_links();
    until(20, "the first boot is shown", || text().contains("tiny: up"));
    host.ok(&["restart", "web"]);
    until(20, "the second boot is shown", || text().matches("tiny: up").count() == 2);
    // More than both files hold: the end comes all the same, and what comes is shown once.
    host.sh("web", "seq 1 200000 > /dev/console; printf '\\033[31mthe %s\\033[0m\\n' end > /dev/console");
    until(30, "all is shown", || text().contains("\nthe end\n"));
    assert_eq!(text().matches("\n200000\n").count(), 1);
    host.ok(&["delete", "--force", "web"]);
    until(10, "it ends with the container", || following.try_wait().unwrap().is_some());
    host.launch("other");
    until(20, "it is up", || host.ok(&["logs", "other"]).contains("tiny: up"));
    host.sh("other", "printf 'one\\ntwo\\n' > /dev/console");
    until(10, "it is there", || host.ok(&["logs", "other", "-n", "1"]) == "two\n");
    assert_eq!(host.ok(&["logs", "other", "--lines", "2"]), "one\ntwo\n");
}
