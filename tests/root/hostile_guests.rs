//! Guests that turn on whoever enters or operates them. What they break is theirs; the operator's
//! commands end in time, and the host stays as it was.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use super::archive::Archive;
use super::errors::message;
use super::host::{Host, lives, run_tool, told, until};
use super::hostile_trees::Canary;
use super::templates::program;

const BOUND: Duration = Duration::from_secs(20);

/// A command that ends in time, whatever its outcome, but for a bug's.
fn bounded(host: &Host, args: &[&str]) -> Output {
    let output = host.spawn(args, b"").wait_for(BOUND);
    let code = output.status.code();
    assert!(code.is_some_and(|code| code != 70 && code != 101), "{}: {}", args.join(" "), told(&output));
    output
}

fn kill(pid: i32) {
    run_tool("kill", &["-s", "KILL", &pid.to_string()]);
    until(5, "the monitor is gone", || !lives(pid));
}

/// Launches `a` from the tree `tiny` with further programs in it.
fn launch_with(host: &Host, programs: &[(&str, &[u8])]) {
    let tree = programs.iter().fold(Archive::tiny(), |tree, (path, content)| tree.program(path, content));
    let output = host.spawn(&["template", "import", "-", "--name", "armed"], &tree.finish()).wait();
    assert!(output.status.success(), "{}", told(&output));
    host.ok(&["launch", "armed", "a"]);
    host.see_links();
}

/// What an operator does with a container that has gone wild; ends with its deletion.
fn operate(host: &Host, canary: &Canary, what: &str) {
    let all = |round: &str| {
        for args in [
            &["exec", "a", "--", "/bin/true"][..],
            &["exec", "-t", "a", "--", "/bin/true"],
            &["exec", "a", "--user", "alice", "--", "/bin/true"],
            &["logs", "a"],
            &["info", "a"],
            &["list"],
            &["pause", "a"],
            &["resume", "a"],
        ] {
            bounded(host, args);
            canary.check(&format!("{what}, {round}: {}", args.join(" ")));
        }
        // It would stay for as long as the guest does.
        let console = host.spawn(&["console", "a"], b"");
        std::thread::sleep(Duration::from_millis(50));
        drop(console);
        canary.check(&format!("{what}, {round}: console"));
    };
    all("as it is");
    kill(host.monitor("a"));
    all("adopted");
    assert!(bounded(host, &["stop", "--force", "a"]).status.success(), "{what}: stop");
    // A guest that has put something in the way of what a start mounts has to be told so.
    let started = bounded(host, &["start", "a"]);
    assert!(
        started.status.success() || message(&started).0.contains("cannot mount on"),
        "{what}: {}",
        told(&started)
    );
    canary.check(&format!("{what}: start"));
    host.ok(&["delete", "--force", "a"]);
    canary.check(what);
}

#[test]
fn terminals_and_proc_are_replaced() {
    let (host, canary) = (Host::new(), Canary::new());
    for script in [
        "umount -l /dev/pts; mount -t tmpfs none /dev/pts",
        "umount -l /dev/pts; rm -f /dev/ptmx; mkfifo /dev/ptmx",
        "umount -l /dev/pts; rmdir /dev/pts; ln -s /proc/1/root /dev/pts",
        "umount -l /dev/pts; rmdir /dev/pts; ln -s pts /dev/pts",
        "umount -l /dev/pts; rmdir /dev/pts; mkfifo /dev/pts",
        "mount -t devpts -o newinstance,max=0 none /dev/pts",
        "umount -l /dev/console; rm /dev/console",
        "umount -l /dev/console; rm /dev/console; ln -s /proc/1/fd/0 /dev/console",
        "umount -l /dev/console; rm /dev/console; mkfifo /dev/console",
        "umount -l /dev/console; rm /dev/console; mkdir /dev/console",
        "mount --bind /etc/passwd /dev/console",
        "umount -l /dev",
        "umount -l /dev; rmdir /dev; ln -s /proc/self/fd /dev",
        "mount -t tmpfs none /dev",
        "mount -t tmpfs none /proc",
        "umount -l /proc; mkdir -p /proc/self/fd /proc/self/ns; mkfifo /proc/self/fd/3",
        "umount -l /proc; rmdir /proc; ln -s / /proc",
        "mount -t tmpfs none /sys/fs/cgroup",
        "umount -l /sys/fs/cgroup; umount -l /sys",
        "mount -t tmpfs none /etc",
        "mount -t tmpfs none /bin",
        "mount -t tmpfs none /run",
        "chmod 000 / /dev /etc",
    ] {
        host.launch("a");
        host.nagaya(&["exec", "a", "--", "sh", "-c", script]);
        operate(&host, &canary, script);
    }
}

/// Puts a file system of its own, which never answers, over `dir` of container `a`.
fn mount_deaf(host: &Host, dir: &str) {
    let script = format!("setsid deaf {dir} < /dev/null > /dev/null 2>&1 &");
    host.sh(
        "a",
        &format!("{script} for i in $(seq 100); do test -e /tmp/mounted && exit; usleep 20000; done; exit 1"),
    );
}

#[test]
fn a_file_system_that_never_answers() {
    let (host, canary) = (Host::new(), Canary::new());
    let deaf = program(include_str!("deaf.c"));
    launch_with(&host, &[("bin/deaf", &deaf)]);
    host.ok(&["delete", "--force", "a"]);
    for dir in ["/dev/pts", "/dev", "/proc", "/etc", "/root", "/run", "/sys/fs/cgroup"] {
        host.ok(&["launch", "armed", "a"]);
        host.see_links();
        mount_deaf(&host, dir);
        // What looks at that file system may wait for it for ever; nobody else does.
        let mut stuck = Vec::new();
        for args in [&["exec", "a", "--", "/bin/true"][..], &["exec", "-t", "a", "--", "/bin/true"]] {
            stuck.push(host.spawn(args, b""));
        }
        std::thread::sleep(Duration::from_millis(200));
        for args in [&["list"][..], &["info", "a"], &["logs", "a"]] {
            assert!(bounded(&host, args).status.success(), "{dir}: {}", args.join(" "));
        }
        let begun = Instant::now();
        host.ok(&["stop", "--force", "a"]);
        assert!(begun.elapsed() < BOUND, "{dir}: stop took {:?}", begun.elapsed());
        for command in stuck {
            command.wait_for(BOUND);
        }
        host.ok(&["delete", "a"]);
        canary.check(dir);
    }
}

#[test]
fn an_adoption_that_never_ends_can_be_ended() {
    let (host, canary) = (Host::new(), Canary::new());
    launch_with(&host, &[("bin/deaf", &program(include_str!("deaf.c")))]);
    mount_deaf(&host, "/dev/pts");
    kill(host.monitor("a"));
    let adopting = host.spawn(&["exec", "a", "--", "/bin/true"], b"");
    std::thread::sleep(Duration::from_millis(300));
    host.ok(&["list"]);
    let begun = Instant::now();
    let stopped = host.spawn(&["stop", "--force", "a"], b"").wait_for(Duration::from_secs(40));
    assert!(stopped.status.success(), "{}", told(&stopped));
    assert!(begun.elapsed() < BOUND, "stop took {:?}", begun.elapsed());
    adopting.wait_for(BOUND);
    host.ok(&["delete", "--force", "a"]);
    canary.check("an adoption");
}

#[test]
fn a_console_that_is_flooded() {
    let host = Host::new();
    host.launch("a");
    host.sh("a", "setsid sh -c 'yes $(seq 1 100) > /dev/console' < /dev/null > /dev/null 2>&1 &");
    until(10, "the history is full of it", || host.ok(&["logs", "a"]).len() > 400_000);
    for _ in 0..5 {
        let begun = Instant::now();
        assert_eq!(host.sh("a", "echo here"), "here");
        assert!(begun.elapsed() < Duration::from_secs(5), "exec took {:?}", begun.elapsed());
    }
    // A watcher that reads nothing holds nobody up.
    let watcher = host.spawn(&["console", "a"], b"");
    assert_eq!(host.sh("a", "echo here"), "here");
    let id = host.info("a")["id"].as_str().expect("an id").to_owned();
    let dir = host.state_dir().join("containers").join(id);
    for name in ["console.0", "console.1"] {
        let length = fs::metadata(dir.join(name)).expect("look at the log").len();
        assert!(length <= (512 << 10) + 4096, "{name} has {length} bytes");
    }
    let begun = Instant::now();
    host.ok(&["stop", "--force", "a"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "stop took {:?}", begun.elapsed());
    watcher.wait_for(BOUND);
}

#[test]
fn accounts_that_change_while_they_are_read() {
    let (host, canary) = (Host::new(), Canary::new());
    host.launch("a");
    let racer = "cd /etc; cp passwd good; mkfifo bad; ln -s /proc/1/environ link; mkdir dir
        (while :; do for f in good bad link; do cp -a $f new 2>/dev/null || cp -P $f new; mv -f new passwd; done; done) \
        < /dev/null > /dev/null 2>&1 &";
    host.sh("a", racer);
    let begun = Instant::now();
    for _ in 0..40 {
        let output =
            bounded(&host, &["exec", "a", "--user", "alice", "--", "grep", "Uid", "/proc/self/status"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.is_empty() || text == "Uid:\t1000\t1000\t1000\t1000\n", "{}", told(&output));
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    host.ok(&["stop", "--force", "a"]);
    canary.check("accounts");
}

#[test]
fn directories_that_change_while_files_are_written() {
    let (host, canary) = (Host::new(), Canary::new());
    host.launch("a");
    let racer = format!(
        "cp -a /etc /etc.good; ln -s {} /etc.link; ln -s / /etc.root
        (while :; do for d in link root good; do mv -T /etc /etc.was; mv -T /etc.$d /etc; mv -T /etc.was /etc.$d; done; done) \
        < /dev/null > /dev/null 2>&1 &",
        canary.path("dir")
    );
    for _ in 0..8 {
        host.nagaya(&["exec", "a", "--", "sh", "-c", &racer]);
        // Whatever /etc is when the guest is cut off, the next start writes its files there.
        bounded(&host, &["restart", "--force", "a"]);
        canary.check("restart");
        bounded(&host, &["start", "a"]);
        canary.check("start");
    }
}

#[test]
fn our_own_program_cannot_be_written() {
    let host = Host::new();
    let ours = Path::new(env!("CARGO_BIN_EXE_nagaya"));
    let before = fs::read(ours).expect("read nagaya");
    let script: &[u8] = b"#!/proc/self/exe\n";
    launch_with(&host, &[("bin/writer", &program(include_str!("writer.c"))), ("bin/evil", script)]);
    let writer = host.spawn(&["exec", "a", "--", "writer"], b"");
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        for words in [&["evil"][..], &["/proc/self/exe"], &["/proc/self/exe", "setup"], &["true"]] {
            bounded(&host, &[&["exec", "a", "--"], words].concat());
        }
        bounded(&host, &["exec", "-t", "a", "--", "evil"]);
    }
    let output = writer.wait_for(BOUND);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("tries") && !text.contains("WRITTEN"), "{}", told(&output));
    assert!(fs::read(ours).expect("read nagaya") == before, "the program was changed");
}

/// CVE-2024-21626: a directory of the host's that was left open.
#[test]
fn directories_of_the_host_are_not_to_be_had() {
    let (host, canary) = (Host::new(), Canary::new());
    host.launch("a");
    let seen = host.sh("a", "ls /proc/self/fd");
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "3 is the listing's own");
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").expect("read the host's name");
    let mut dirs: Vec<String> = (0..21).map(|n| format!("/proc/self/fd/{n}")).collect();
    dirs.extend((0..21).map(|n| format!("/proc/1/fd/{n}/../..")));
    dirs.extend(["/proc/self/cwd", "/proc/1/cwd", "/proc/1/root", "/proc/self/root/.."].map(str::to_owned));
    dirs.extend(["../../..", "/../../..", "//proc//self//fd/7"].map(str::to_owned));
    for dir in dirs {
        let look = format!(
            "cat ../../../../../etc/hostname /etc/hostname; cat {} ./file ../file",
            canary.path("file")
        );
        let output = bounded(&host, &["exec", "a", "--cwd", &dir, "--", "sh", "-c", &look]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            !text.contains("of the host") && !text.contains(host_name.trim()),
            "{dir}: {}",
            told(&output)
        );
        if output.status.code() != Some(126) && output.status.code() != Some(2) {
            assert!(text.lines().all(|line| line == "a"), "{dir}: {}", told(&output));
        }
    }
    // A link within the guest is resolved as the guest would, not as we would.
    host.sh("a", "ln -s /proc/self/fd/8 /way; ln -s / /root-link");
    assert_eq!(bounded(&host, &["exec", "a", "--cwd", "/way", "--", "pwd"]).status.code(), Some(126));
    assert_eq!(host.ok(&["exec", "a", "--cwd", "/root-link", "--", "pwd"]), "/\n");
}

#[test]
fn cgroups_that_are_nested_too_deep_or_too_many() {
    let host = Host::new();
    host.launch("a");
    let deep = "cd /sys/fs/cgroup; name=$(printf %0200d 0)
        while mkdir $name; do cd -P $name || cd /proc/self/cwd/$name || break; done";
    host.nagaya(&["exec", "a", "--", "sh", "-c", deep]);
    host.ok(&["delete", "--force", "a"]);
    launch_with(&host, &[("bin/nest", &program(include_str!("nest.c")))]);
    let made = host.exec("a", &["nest"]);
    let (deep, wide) = made.split_once(' ').expect("two numbers");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    assert!((20..100).contains(&number(deep)) && (1000..20_000).contains(&number(wide)), "{made}");
    // Its own programs still start, and it can be stopped, started and deleted.
    assert_eq!(host.sh("a", "echo here"), "here");
    host.ok(&["stop", "--force", "a"]);
    host.ok(&["start", "a"]);
    host.exec("a", &["nest"]);
    host.ok(&["delete", "--force", "a"]);
}

#[test]
fn a_guest_that_freezes_who_enters() {
    let (host, canary) = (Host::new(), Canary::new());
    host.launch("a");
    let leaf = "/sys/fs/cgroup/.exec";
    // The shell that does it is in that cgroup itself.
    let frozen = host.spawn(&["exec", "a", "--", "sh", "-c", &format!("echo 1 > {leaf}/cgroup.freeze")], b"");
    let file = host.cgroup_of("a").join("payload/guest/.exec/cgroup.freeze");
    until(10, "it is frozen", || fs::read_to_string(&file).is_ok_and(|text| text.trim() == "1"));
    // Nobody else is put there.
    let output = bounded(&host, &["exec", "a", "--", "/bin/true"]);
    assert!(output.status.success(), "{}", told(&output));
    // Nobody else has to wait for the one who is stuck.
    for args in [&["list"][..], &["info", "a"], &["logs", "a"], &["pause", "a"], &["resume", "a"]] {
        assert!(bounded(&host, args).status.success(), "{}", args.join(" "));
    }
    host.ok(&["stop", "--force", "a"]);
    frozen.wait_for(BOUND);
    host.ok(&["start", "a"]);
    host.sh("a", &format!("test -d {leaf}; true"));
    assert!(
        !bounded(&host, &["exec", "a", "--", "sh", "-c", "echo 1 > /sys/fs/cgroup/cgroup.freeze"])
            .status
            .success()
    );
    host.ok(&["delete", "--force", "a"]);
    canary.check("a frozen guest");
}
