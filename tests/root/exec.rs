//! Programs in a container: streams, terminals, users, signals, exit codes.

use std::process::Command;
use std::time::Duration;

use super::host::{Host, PATH, Running, told, until};

#[test]
fn exit_codes_are_the_programs() {
    let host = Host::new();
    host.launch("c");
    for code in [0, 1, 7, 125, 255] {
        let done = host.nagaya(&["exec", "c", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(done.status.code(), Some(code));
    }
    host.fails(128 + 9, &["exec", "c", "--", "sh", "-c", "kill -9 $$"]);
    let said = host.fails(127, &["exec", "c", "--", "no-such-program"]);
    assert!(said.contains("no-such-program"), "{said}");
    host.fails(126, &["exec", "c", "--", "/etc/passwd"]);
    host.fails(126, &["exec", "c", "--", "/etc"]);
    host.fails(1, &["exec", "no-such-container", "--", "true"]);
}

#[test]
fn output_and_error_are_kept_apart() {
    let host = Host::new();
    host.launch("c");
    let done = host.nagaya(&["exec", "c", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
}

#[test]
fn bytes_pass_unchanged_in_both_directions() {
    let host = Host::new();
    host.launch("c");
    assert_eq!(host.spawn(&["exec", "c", "--", "cat"], b"x\n").wait().stdout, b"x\n");
    // Every byte value, without a pattern that a pipe's size divides.
    let mut state = 1u32;
    let data: Vec<u8> = (0..10 << 20)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let done = host.spawn(&["exec", "c", "--", "cat"], &data).wait();
    assert!(done.status.success());
    assert!(done.stdout == data, "{} bytes came back of {}", done.stdout.len(), data.len());
}

#[test]
fn a_program_need_not_read_its_input() {
    let host = Host::new();
    host.launch("c");
    let done = host.spawn(&["exec", "c", "--", "true"], &vec![b'x'; 1 << 20]).wait();
    assert!(done.status.success(), "{}", told(&done));
    let done = host.spawn(&["exec", "c", "--", "head", "-c", "3"], &vec![b'x'; 1 << 20]).wait();
    assert_eq!(done.stdout, b"xxx");
}

#[test]
fn an_end_of_output_reaches_the_program() {
    let host = Host::new();
    host.launch("c");
    let begun = std::time::Instant::now();
    let printed = shell(&host, "nagaya exec c -- yes | head -n 2");
    assert_eq!(String::from_utf8_lossy(&printed.stdout), "y\ny\n");
    assert!(begun.elapsed() < Duration::from_secs(10));
    until(30, "yes has ended", || !host.sh("c", "ps").contains(" yes"));
}

#[test]
fn closed_streams_are_no_streams_of_another() {
    let host = Host::new();
    host.launch("c");
    for closed in ["<&-", "2>&-", "<&- 2>&-"] {
        let done = shell(&host, &format!("nagaya exec c -- sh -c 'echo ok; cat' {closed} 2> /dev/null"));
        assert!(String::from_utf8_lossy(&done.stdout).starts_with("ok"), "{closed}: {}", told(&done));
    }
    let done = shell(&host, "nagaya exec c -- sh -c 'echo lost; echo told >&2' >&-");
    assert!(!String::from_utf8_lossy(&done.stderr).contains("lost"), "{}", told(&done));
}

#[test]
fn environment_and_directory_are_as_asked_and_nothing_of_the_callers() {
    let host = Host::new();
    host.launch("c");
    let mut command = host.command(&[
        "exec", "c", "--env", "A=b=c", "--env", "E=", "--cwd", "/etc", "--", "sh", "-c", "pwd; env",
    ]);
    command.env("SECRET", "of the host").env("LD_PRELOAD", "");
    let done = Running::start(command, b"").wait();
    let text = String::from_utf8_lossy(&done.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"/etc"), "{}", told(&done));
    assert!(lines.contains(&"A=b=c") && lines.contains(&"E="), "{text}");
    assert!(!text.contains("SECRET") && !text.contains("NAGAYA") && !text.contains("LD_PRELOAD"), "{text}");
    assert_eq!(host.sh("c", "pwd; echo $HOME"), "/root\n/root");
    let refused = host.nagaya(&["exec", "c", "--cwd", "/no/such", "--", "pwd"]);
    assert!(!refused.status.success() && refused.stdout.is_empty());
}

#[test]
fn users_are_those_of_the_guest() {
    let host = Host::new();
    host.launch("c");
    let id =
        |user: &str| host.ok(&["exec", "c", "--user", user, "--", "sh", "-c", "id -u; id -g; id -G; pwd"]);
    assert_eq!(id("alice"), "1000\n1000\n1000 29\n/home/alice\n");
    assert_eq!(id("1000"), "1000\n1000\n1000 29\n/home/alice\n");
    assert_eq!(id("root"), "0\n0\n0\n/root\n");
    assert_eq!(id("alice:tty").lines().nth(1), Some("5"));
    assert_eq!(id("4321").lines().next(), Some("4321"));
    // As the guest counts: a number that is none, or beyond its slice, is never root.
    for wrong in ["nobody-here", "65536", "4294967295", "4294967296", "-1", "1000x", "0x0", "", "+0"] {
        let done = host.nagaya(&["exec", "c", &format!("--user={wrong}"), "--", "id", "-u"]);
        assert!(!done.status.success() && done.stdout.is_empty(), "--user={wrong}: {}", told(&done));
    }
    let caps = host.ok(&["exec", "c", "--user", "alice", "--", "grep", "CapEff", "/proc/self/status"]);
    assert_eq!(caps.split_whitespace().nth(1), Some("0000000000000000"));
}

#[test]
fn a_terminal_has_the_callers_size_and_mixes_the_streams() {
    let host = Host::new();
    host.launch("c");
    let done = shell(
        &host,
        "sleep 3 | script -qec \"stty rows 33 cols 101; nagaya exec c -t -- sh -c 'tty; stty size; echo err >&2; exit 5'\" /dev/null",
    );
    let text = String::from_utf8_lossy(&done.stdout).replace('\r', "");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{}", told(&done));
    assert!(lines[0].starts_with("/dev/pts/"), "{text}");
    assert_eq!(&lines[1..], ["33 101", "err"]);
    assert_eq!(done.status.code(), Some(5));
    // Without a terminal of one's own too, and what is typed arrives.
    let typed = host.spawn(&["exec", "c", "-t", "--", "sh", "-c", "read a; echo got $a"], b"hello\n").wait();
    let text = String::from_utf8_lossy(&typed.stdout).replace('\r', "");
    assert!(text.ends_with("got hello\n"), "{text:?}");
    assert!(!host.nagaya(&["exec", "c", "-T", "--", "tty"]).status.success());
}

#[test]
fn signals_are_passed_on() {
    let host = Host::new();
    host.launch("c");
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("USR1", 10)] {
        let script = format!(
            "trap 'echo got {signal}; exit 9' {signal}; touch /tmp/{signal}; while :; do sleep 0.02; done"
        );
        let running = host.spawn(&["exec", "c", "--", "sh", "-c", &script], b"");
        until(30, "the program is ready", || {
            host.nagaya(&["exec", "c", "--", "test", "-e", &format!("/tmp/{signal}")]).status.success()
        });
        super::host::run_tool("kill", &[&format!("-{number}"), &running.pid().to_string()]);
        let done = running.wait_for(Duration::from_secs(10));
        assert_eq!(String::from_utf8_lossy(&done.stdout), format!("got {signal}\n"));
        assert_eq!(done.status.code(), Some(9));
    }
}

#[test]
fn many_programs_run_at_once_in_one_container() {
    let host = Host::new();
    host.launch("c");
    let all: Vec<_> = (0..20)
        .map(|n| host.spawn(&["exec", "c", "--", "sh", "-c", &format!("sleep 0.3; echo {n}; exit {n}")], b""))
        .collect();
    for (n, running) in (0..).zip(all) {
        let done = running.wait();
        assert_eq!(done.status.code(), Some(n), "{}", told(&done));
        assert_eq!(String::from_utf8_lossy(&done.stdout), format!("{n}\n"));
    }
}

#[test]
fn a_program_ends_with_its_guest() {
    let host = Host::new();
    host.launch("c");
    let running = host.spawn(&["exec", "c", "--", "sleep", "100"], b"");
    until(30, "it runs", || host.sh("c", "ps").contains("sleep 100"));
    host.ok(&["stop", "--force", "c"]);
    let done = running.wait_for(Duration::from_secs(5));
    assert!(!done.status.success());
}

/// A line of the host's shell, where `nagaya` is the program under test.
fn shell(host: &Host, script: &str) -> std::process::Output {
    let dir = std::path::Path::new(env!("CARGO_BIN_EXE_nagaya")).parent().expect("a directory");
    let mut command = Command::new("/bin/bash");
    command.args(["-c", script]).env_clear().env("NAGAYA_INSTANCE", host.name());
    command.env("PATH", format!("{}:{PATH}", dir.display())).env("SHELL", "/bin/bash").env("TERM", "xterm");
    Running::start(command, b"").wait()
}
