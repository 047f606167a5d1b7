//! Programs in a container: streams, terminals, users, signals, exit codes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use rustix::fs::makedev;

use super::host::{Host, PATH, Running, lives, pids, status, told, until};

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

/// What is known of a container that runs stands in a file, too.
#[test]
fn a_program_is_run_without_the_database_as_long_as_nothing_has_changed() {
    let host = Host::new();
    host.launch("c");
    let colour = || host.sh("c", "echo $COLOUR");
    host.ok(&["config", "set", "c", "environment.COLOUR=blue"]);
    let (database, aside) = (host.state_dir().join("nagaya.db"), host.state_dir().join("aside"));
    fs::rename(&database, &aside).expect("move the database");
    assert_eq!(colour(), "blue");
    assert!(!database.exists(), "a command has asked for a database");
    fs::rename(&aside, &database).expect("move the database back");
    host.ok(&["config", "set", "c", "environment.COLOUR=green"]);
    assert_eq!(colour(), "green");
    // As an earlier version of nagaya leaves the file behind, which only writes the manifest.
    let known = host.run_dir().join("running/c");
    let text = fs::read_to_string(&known).expect("read what is known of c");
    fs::write(&known, text.replace("green", "black")).expect("falsify it");
    assert_eq!(colour(), "black");
    let id = host.info("c")["id"].as_str().unwrap().to_owned();
    let manifest = host.state_dir().join("containers").join(id).join("manifest.toml");
    let text = fs::read_to_string(&manifest).expect("read the manifest");
    fs::write(&manifest, text).expect("write the manifest anew");
    assert_eq!(colour(), "green");
    // The name is another's.
    host.ok(&["stop", "--force", "c"]);
    host.ok(&["rename", "c", "d"]);
    assert!(!known.exists());
    host.ok(&["start", "d"]);
    host.fails(1, &["exec", "c", "--", "true"]);
    host.launch("c");
    assert_eq!([host.sh("c", "hostname"), host.sh("d", "hostname")], ["c", "d"]);
    host.ok(&["delete", "--force", "c"]);
    assert!(!known.exists());
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
    // As the guest counts: a number that is none, or beyond its id range, is never root.
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
    let inside = "stty rows 33 cols 101; nagaya exec c -t -- sh -c 'tty; stty size; echo err >&2; exit 5'";
    let mut script = command(&host, "script");
    script.args(["-qec", inside, "/dev/null"]);
    // Nobody types, but the keyboard is there.
    let (running, keyboard) = Running::typed_at(script);
    let done = running.wait();
    drop(keyboard);
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

/// Changes and writes whatever it can of its standard input, output and error.
const OVERWRITER: &str = r#"
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <stdio.h>
    #include <unistd.h>
    int main(void) {
        for (int n = 0; n < 3; n++) {
            char link[64], name[256] = "";
            snprintf(link, sizeof link, "/proc/self/fd/%d", n);
            if (readlink(link, name, sizeof name - 1) < 0) return 1;
            fcntl(n, F_SETFL, (fcntl(n, F_GETFL) & ~O_APPEND) | O_NONBLOCK);
            (void)!pwrite(n, "REWRITTEN", 9, 0);
            (void)!ftruncate(n, 3);
            dprintf(1, "%s\n", name);
        }
        return 0;
    }
"#;

#[test]
fn nothing_of_the_callers_is_passed_to_a_guest() {
    let host = Host::new();
    host.launch("c");
    let program = super::templates::program(OVERWRITER);
    let put = ["exec", "c", "--", "sh", "-c", "cat > /root/ovr; chmod 755 /root/ovr"];
    assert!(host.spawn(&put, &program).wait().status.success());
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::write(at("log"), "an important line\n").unwrap();
    std::fs::write(at("in"), "input\n").unwrap();
    // Files, a named pipe, devices and a socket, by every one of the three.
    let (log, input, fifo, out) = (at("log"), at("in"), at("fifo"), at("out"));
    let socket = format!(
        "import socket, subprocess; a, b = socket.socketpair(); b.sendall(b'x'); \
         subprocess.run(['nagaya', 'exec', 'c', '--', '/root/ovr'], stdin=a, stdout=a, stderr=a); \
         a.close(); open('{out}', 'wb').write(b.recv(65536))"
    );
    for script in [
        format!("nagaya exec c -- /root/ovr >> {log} 2>> {log} < {input}; tail -n 3 {log} > {out}"),
        format!("nagaya exec c -- /root/ovr 0<> {input} 2> /dev/null > {out}"),
        format!("mkfifo {fifo}; nagaya exec c -- /root/ovr <> {fifo} 2<> {fifo} > {out}"),
        format!("nagaya exec c -- /root/ovr < /dev/null 2> /dev/full | cat > {out}"),
        format!("python3 -c \"{socket}\""),
    ] {
        let done = shell(&host, &script);
        let seen = std::fs::read_to_string(&out).unwrap();
        let names: Vec<_> = seen.lines().collect();
        // In the place of a null device the guest has its own: a_null_device_is_the_guests_own.
        assert!(
            names.len() == 3 && names.iter().all(|n| n.starts_with("pipe:[") || *n == "/dev/null"),
            "{script}: {seen:?} {}",
            told(&done)
        );
    }
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.starts_with("an important line\npipe:["), "{log:?}");
    assert_eq!(std::fs::read_to_string(input).unwrap(), "input\n");
}

#[test]
fn a_program_can_open_its_streams_by_their_names() {
    let host = Host::new();
    host.launch("c");
    for user in ["root", "alice"] {
        let script = "read a < /proc/self/fd/0; echo $a > /proc/self/fd/1; echo err > /proc/self/fd/2";
        let args = ["exec", "c", "--user", user, "--", "sh", "-c", script];
        let done = host.spawn(&args, b"typed\n").wait();
        assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"typed\n"[..], &b"err\n"[..]), "{user}");
    }
}

#[test]
fn a_loop_keeps_the_lines_that_its_programs_do_not_read() {
    let host = Host::new();
    host.launch("c");
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("lines");
    std::fs::write(&lines, "a\nb\nc\nd\n").unwrap();
    let each = "while read -r line; do nagaya exec c -- echo \"got $line\"; done";
    let reading = "while read -r line; do nagaya exec c -- sh -c 'read x; echo got $0 $x' $line; done";
    for (script, expected) in [
        (format!("{each} < {}", lines.display()), "got a\ngot b\ngot c\ngot d\n"),
        (format!("cat {} | {each}", lines.display()), "got a\ngot b\ngot c\ngot d\n"),
        (format!("{reading} < {}", lines.display()), "got a b\ngot c d\n"),
        (format!("cat {} | {reading}", lines.display()), "got a b\ngot c d\n"),
    ] {
        let done = shell(&host, &script);
        assert_eq!(String::from_utf8_lossy(&done.stdout), expected, "{script}: {}", told(&done));
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let host = Host::new();
    host.launch("c");
    for redirection in ["> /dev/full", "2> /dev/full", "> /dev/full 2> /dev/null"] {
        let done = shell(&host, &format!("nagaya exec c -- sh -c 'echo x; echo x >&2' {redirection}"));
        assert_eq!(done.status.code(), Some(1), "{redirection}: {}", told(&done));
    }
    let done = shell(&host, "nagaya exec c -- echo x > /dev/full");
    assert!(String::from_utf8_lossy(&done.stderr).contains("No space left on device"), "{}", told(&done));
    let done = shell(&host, "nagaya exec c -- cat < /");
    assert_eq!(done.status.code(), Some(1), "{}", told(&done));
}

#[test]
fn a_child_in_the_background_does_not_hold_its_caller_up() {
    let host = Host::new();
    host.launch("c");
    let begun = std::time::Instant::now();
    let done = shell(
        &host,
        "yes | nagaya exec c -- sh -c 'echo one; (sleep 60; echo two) & exit 4' | cat; exit ${PIPESTATUS[1]}",
    );
    assert_eq!((done.status.code(), &done.stdout[..]), (Some(4), &b"one\n"[..]));
    assert!(begun.elapsed() < Duration::from_secs(20));
    let done = shell(&host, "nagaya exec c -- yes | head -n 1 > /dev/null; exit ${PIPESTATUS[0]}");
    assert_eq!(done.status.code(), Some(141), "{}", told(&done));
}

#[test]
fn a_signal_ends_who_sits_at_a_terminal() {
    let host = Host::new();
    host.launch("c");
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    for (signal, number) in [("TERM", 15), ("HUP", 1)] {
        // What runs in the guest ignores both; the terminal is as it was afterwards.
        let client = format!(
            "echo $$ > {}; exec nagaya exec c -t -- sh -c 'trap \"\" TERM HUP; touch /tmp/{signal}; sleep 50'",
            pid.display()
        );
        let inner = dir.path().join("inner");
        std::fs::write(&inner, client).unwrap();
        let script =
            format!("a=$(stty -a); bash {}; echo code $?; test \"$a\" = \"$(stty -a)\"", inner.display());
        let mut command = command(&host, "script");
        command.args(["-qec", &script, "/dev/null"]);
        let running = Running::start(command, b"");
        until(30, "it runs", || {
            host.nagaya(&["exec", "c", "--", "test", "-e", &format!("/tmp/{signal}")]).status.success()
        });
        let pid = std::fs::read_to_string(&pid).unwrap();
        super::host::run_tool("kill", &[&format!("-{number}"), pid.trim()]);
        let done = running.wait_for(Duration::from_secs(10));
        let said = String::from_utf8_lossy(&done.stdout).replace('\r', "");
        assert!(said.contains(&format!("code {}", 128 + number)), "{signal}: {}", told(&done));
        assert!(done.status.success(), "{signal}: the terminal stayed as it was made");
    }
}

#[test]
fn what_cannot_be_executed_is_told_from_what_is_not_there() {
    let host = Host::new();
    host.launch("c");
    let put = |name: &str, text: &str| {
        let script = format!("cat > /root/{name}; chmod 755 /root/{name}");
        assert!(
            host.spawn(&["exec", "c", "--", "sh", "-c", &script], text.as_bytes()).wait().status.success()
        );
    };
    put("lost", "#!/no/such/python\nx\n");
    let said = host.fails(126, &["exec", "c", "--", "./lost"]);
    assert!(said.contains("'/no/such/python' is not in the guest"), "{said}");
    // As execvp(3) has it, with its arguments, wherever it is found.
    put("plain", "echo $0 $1\nexit 3\n");
    let done = host.nagaya(&["exec", "c", "--", "/root/plain", "one"]);
    assert_eq!(
        (done.status.code(), &done.stdout[..]),
        (Some(3), &b"/root/plain one\n"[..]),
        "{}",
        told(&done)
    );
    host.fails(3, &["exec", "c", "-e", "PATH=/no:/root:/bin", "--", "plain"]);
    put("foreign", "\x7fELF\0\0\0");
    host.fails(126, &["exec", "c", "--", "/root/foreign"]);
    let said = host.fails(127, &["exec", "c", "ls -la"]);
    assert!(said.contains("nagaya exec c -- sh -c 'ls -la'"), "{said}");
}

#[test]
fn bytes_that_are_no_text_arrive_as_they_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let host = Host::new();
    host.launch("c");
    host.sh("c", "mkdir -p \"$(printf '/tmp/d\\344')\"");
    let mut command = host.command(&["exec", "c", "-e"]);
    command.arg(OsStr::from_bytes(b"V=\xe4\xf6")).arg("-w").arg(OsStr::from_bytes(b"/tmp/d\xe4"));
    command
        .args(["--", "sh", "-c", "printf '%s|' \"$1\" \"$V\"; pwd", "sh"])
        .arg(OsStr::from_bytes(b"\xff\xfe"));
    let done = Running::start(command, b"").wait();
    assert_eq!(done.stdout, b"\xff\xfe|\xe4\xf6|/tmp/d\xe4\n", "{}", told(&done));
}

#[test]
fn one_command_runs_in_several_containers() {
    let host = Host::new();
    for name in ["web1", "web2", "db"] {
        host.launch(name);
    }
    let script = "printf 'a\\nb'; cat; exit $(($(hostname | tr -d a-z) + 1))";
    let done = host.spawn(&["exec", "web*", "--", "sh", "-c", script], b"not read").wait();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["web1: a", "web1: b", "web2: a", "web2: b"]);
    assert_eq!(done.status.code(), Some(3), "{}", told(&done));
    assert_eq!(host.ok(&["exec", "db,web1,db", "--", "true"]), "");
    host.fails(1, &["exec", "db,nothere", "--", "touch", "/tmp/done"]);
    host.fails(1, &["exec", "mail*", "--", "true"]);
    host.fails(1, &["exec", "db", "--", "test", "-e", "/tmp/done"]);
}

#[test]
fn a_program_can_be_left_running() {
    let host = Host::new();
    host.launch("c");
    // Its caller, and the process that brought it in, have ended.
    host.ok(&["exec", "c", "-d", "--", "sleep", "7101"]);
    let has = |pid: &i32, line: &[u8]| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|is| is == line);
    let pid = pids().find(|pid| has(pid, b"sleep\x007101\0")).expect("it runs");
    let of_guest = fs::metadata(format!("/proc/{pid}/root/dev/null")).expect("the guest's null device");
    for stream in 0..3 {
        let path = format!("/proc/{pid}/fd/{stream}");
        let is = fs::metadata(&path).expect("a stream");
        assert_eq!((is.dev(), is.ino(), is.rdev()), (of_guest.dev(), of_guest.ino(), makedev(1, 3)));
        assert_eq!(fs::read_link(&path).expect("its name").to_str(), Some("/dev/null"));
    }
    assert_eq!(fs::read_dir(format!("/proc/{pid}/fd")).expect("list descriptors").count(), 3);
    assert_eq!(status(pid, "SigBlk"), "0000000000000000");
    let place = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
    let id = host.info("c")["id"].as_str().expect("an id").to_owned();
    assert!(place.contains(&format!("{id}/payload/")), "{place}");

    // What keeps it from running is told as of any other program.
    let said = host.fails(127, &["exec", "c", "-d", "--", "no-such-program"]);
    assert!(said.contains("no-such-program"), "{said}");
    host.fails(126, &["exec", "c", "-d", "--", "/etc/passwd"]);
    host.sh("c", "umount -l /dev/null");
    let said = host.fails(126, &["exec", "c", "-d", "--", "true"]);
    assert!(said.contains("/dev/null: it is no null device"), "{said}");
    assert!(lives(pid), "it runs on");
}

#[test]
fn a_null_device_is_the_guests_own() {
    let host = Host::new();
    host.launch("c");
    let kinds = |redirected: &str| {
        let look = r#"for n in 0 1 2; do [ /proc/self/fd/$n -ef /dev/null ] && printf null || printf other; done > /tmp/kinds"#;
        let done = shell(&host, &format!("nagaya exec c -- sh -c '{look}' {redirected}"));
        assert!(done.status.success(), "{}", told(&done));
        host.sh("c", "cat /tmp/kinds")
    };
    // The shell's own output is the file while the loop runs.
    assert_eq!(kinds("</dev/null >/dev/null 2>/dev/null"), "nullothernull");
    assert_eq!(kinds("2>/dev/null | cat"), "nullothernull");
    let done = shell(&host, "echo in | nagaya exec c -- sh -c 'cat; echo out; echo err >&2' 2>/dev/null");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "in\nout\n");
    let done =
        shell(&host, "nagaya exec c -- sh -c 'cat; echo out; echo err >&2' 2>&1 </dev/null >/dev/null");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "err\n");
    // A guest that has none is still to be mended from where there is nobody to look on.
    host.sh("c", "umount -l /dev/null; rm -f /dev/null; touch /dev/null");
    let done = shell(&host, "nagaya exec c -- sh -c 'cat; echo out; echo err >&2' </dev/null >/dev/null");
    assert!(done.status.success(), "{}", told(&done));
    assert_eq!(String::from_utf8_lossy(&done.stderr), "err\n");
    assert_eq!(host.sh("c", "cat /dev/null"), "");
}

#[test]
fn short_options_are_those_of_other_programs() {
    let host = Host::new();
    host.launch("c");
    let script = "pwd; echo $A; id -un; test -t 0 && echo terminal";
    let done = host
        .spawn(&["exec", "-it", "-e", "A=b", "-w", "/etc", "-u", "alice", "c", "sh", "-c", script], b"")
        .wait();
    let said = String::from_utf8_lossy(&done.stdout).replace('\r', "");
    assert!(said.ends_with("/etc\nb\nalice\nterminal\n"), "{said:?}");
    // A shell that is given a command is still a login shell.
    host.sh("c", "echo 'PROFILE=read' > /etc/profile");
    assert_eq!(host.ok(&["shell", "c", "-c", "echo $PROFILE; exit 0"]), "read\n");
    assert_eq!(
        host.ok(&["shell", "c", "-u", "alice", "--", "echo", "it's $PROFILE", "b"]),
        "it's $PROFILE b\n"
    );
    host.fails(7, &["shell", "c", "-c", "exit 7"]);
}

/// A line of the host's shell, where `nagaya` is the program under test.
fn shell(host: &Host, script: &str) -> std::process::Output {
    let mut command = command(host, "/bin/bash");
    command.args(["-c", script]);
    Running::start(command, b"").wait()
}

/// A program of the host's that finds the program under test as `nagaya`.
fn command(host: &Host, program: &str) -> Command {
    let dir = std::path::Path::new(env!("CARGO_BIN_EXE_nagaya")).parent().expect("a directory");
    let mut command = Command::new(program);
    command.env_clear().env("NAGAYA_INSTANCE", host.name());
    command.env("PATH", format!("{}:{PATH}", dir.display())).env("SHELL", "/bin/bash").env("TERM", "xterm");
    command
}
