//! Files into containers and out of them, whether they run or not: by root, by ordinary users, and with guests that do
//! what they can against it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::daemonless_user::DaemonlessUser;
use super::host::{Host, PATH, Running, run_tool, status, told, until};
use super::hostd_users::HostdUsers;
use super::hostile_trees::Canary;

/// No command on a hostile guest may take longer.
const BOUND: Duration = Duration::from_secs(20);

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("make a directory");
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("let others in");
    dir
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of the test's").to_owned()
}

/// A container that runs, `c`, and one that never has, `s`.
fn both(host: &Host) -> [&'static str; 2] {
    host.launch("c");
    host.ok(&["create", "tiny", "s"]);
    ["c", "s"]
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("list {}: {e}", dir.display()));
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A tree with all that is awkward, and what a guest has instead of its fifo: nothing.
fn tree(at: &Path) {
    fs::create_dir_all(at.join("sub/empty")).expect("make a directory");
    fs::write(at.join("sub/file"), "content\n").expect("write");
    fs::set_permissions(at.join("sub/file"), PermissionsExt::from_mode(0o640)).expect("chmod");
    fs::write(at.join(OsStr::from_bytes(b"new\nline \xff \x1b[2J")), "odd").expect("write");
    symlink("/etc/shadow", at.join("link")).expect("link");
    symlink("nowhere", at.join("sub/broken")).expect("link");
    let sparse = File::create(at.join("sparse")).expect("make a file");
    sparse.write_all_at(b"middle", 30 << 20).expect("write");
    sparse.set_len(64 << 20).expect("make it long");
}

fn same(a: &Path, b: &Path) {
    run_tool("diff", &["-r", "--no-dereference", &text(a), &text(b)]);
}

#[test]
fn files_keep_their_mode_and_owner_on_the_way_in_and_belong_to_the_caller_on_the_way_out() {
    let host = Host::new();
    let dir = dir();
    let here = |name: &str| text(&dir.path().join(name));
    fs::write(here("own"), "own\n").expect("write");
    fs::set_permissions(here("own"), PermissionsExt::from_mode(0o751)).expect("chmod");
    chown(here("own"), Some(33), Some(34)).expect("chown");
    for name in both(&host) {
        let there = |path: &str| format!("{name}{path}");
        host.ok(&["file", "push", &here("own"), &there("/etc/")]);
        let given = ["file", "push", "--uid", "7", "--gid", "8", "--mode", "4600"];
        host.ok(&[&given[..], &[&here("own"), &there("/etc/other")]].concat());
        let failed = host.fails(1, &["file", "push", &here("own"), &there("/no/such/dir")]);
        assert!(failed.contains("-p"), "{failed}");
        host.ok(&["file", "push", "-p", &here("own"), &there("/no/such/dir")]);
        host.ok(&["file", "pull", &there("/etc/other"), &here("back")]);
        let back = fs::metadata(here("back")).expect("look");
        assert_eq!((back.mode() & 0o7777, back.uid()), (0o600, 0));
        assert_eq!(fs::read_to_string(here("back")).expect("read"), "own\n");
        // As it starts with what was put into it.
        if name == "s" {
            host.ok(&["start", "s"]);
        }
        let stat = "stat -c '%a %u %g' /etc/own /etc/other /no/such/dir";
        assert_eq!(host.sh(name, stat), "751 33 34\n4600 7 8\n751 33 34");
    }
    host.ok(&["stop", "--force", "s"]);
    let listed: serde_json::Value =
        serde_json::from_str(&host.ok(&["file", "list", "s/etc/other", "--format", "json"])).expect("JSON");
    assert_eq!((&listed[0]["mode"], &listed[0]["uid"]), (&"4600".into(), &7.into()), "{listed}");
    for name in ["c", "s"] {
        let failed = host.fails(1, &["file", "delete", &format!("{name}/no")]);
        assert!(failed.contains("-r"), "{failed}");
        host.ok(&["file", "delete", "-r", &format!("{name}/no"), &format!("{name}/etc/own")]);
        let failed = host.fails(1, &["file", "list", &format!("{name}/no")]);
        assert!(failed.contains("No such file"), "{failed}");
        host.ok(&["file", "delete", "--if-exists", &format!("{name}/no/such/dir")]);
    }
}

#[test]
fn trees_come_back_as_they_were() {
    let host = Host::new();
    let dir = dir();
    let source = dir.path().join("tree");
    tree(&source);
    for name in both(&host) {
        let target = dir.path().join(name);
        host.ok(&["file", "push", "-r", "-p", &text(&source), &format!("{name}/srv/a")]);
        // Again, over what is there.
        host.ok(&["file", "push", "-r", &text(&source), &format!("{name}/srv/a")]);
        host.ok(&["file", "pull", "-r", "-p", &format!("{name}/srv/a/tree"), &text(&target)]);
        same(&source, &target.join("tree"));
        let sparse = fs::metadata(target.join("tree/sparse")).expect("look");
        assert!(sparse.blocks() * 512 < 2 << 20, "{} blocks", sparse.blocks());
        let listed = host.ok(&["file", "list", &format!("{name}/srv/a/tree")]);
        assert!(!listed.contains('\x1b') && listed.contains("link -> /etc/shadow"), "{listed}");
        assert_eq!(listed.lines().count(), 5, "{listed}");
    }
    let used = host.sh("c", "du -m /srv/a/tree/sparse");
    assert!(used.starts_with(['0', '1']), "{used}");
}

#[test]
fn large_files_and_pipes_pass_through() {
    let host = Host::new();
    let dir = dir();
    let here = |name: &str| text(&dir.path().join(name));
    let make = format!("yes 'a line of a large file' | head -c {} > {}", 256 << 20, here("large"));
    run_tool("sh", &["-c", &make]);
    for name in both(&host) {
        let there = format!("{name}/root/large");
        host.ok(&["file", "push", &here("large"), &there]);
        host.ok(&["file", "pull", &there, &here("back")]);
        run_tool("cmp", &[&here("large"), &here("back")]);
        let line = format!(
            "set -e; n={}; cat {large} | $n file push - {there}2; $n file pull {there}2 - | cmp - {large}",
            env!("CARGO_BIN_EXE_nagaya"),
            large = here("large")
        );
        let mut command = host.program("sh", &["-c", &line]);
        command.env("NAGAYA_INSTANCE", host.name());
        let output = Running::start(command, b"").wait();
        assert!(output.status.success(), "{}", told(&output));
        host.ok(&["file", "delete", &there, &format!("{there}2")]);
    }
    // Not a descriptor of the caller's is in the guest: a pipe of the caller's would be.
    let output = host.spawn(&["file", "push", "-", "c/tmp/x"], b"typed").wait();
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(host.sh("c", "cat /tmp/x; stat -c ' %a %u' /tmp/x"), "typed 644 0");
}

#[test]
fn roots_own_rights_never_meet_what_a_guest_has_written() {
    let host = Host::new();
    host.launch("c");
    host.sh("c", "echo x > /root/x; head -c 400000000 /dev/zero > /root/big");
    let dir = dir();
    // Into somebody's directory: what is pulled is theirs.
    chown(dir.path(), Some(1234), Some(1235)).expect("chown");
    host.ok(&["file", "pull", "c/root/x", &text(dir.path())]);
    let pulled = fs::metadata(dir.path().join("x")).expect("look");
    assert_eq!((pulled.uid(), pulled.gid()), (1234, 1235));
    // While it lasts, whoever has the stream or the directory is nobody's root.
    let pull = host.spawn(&["file", "pull", "c/root/big", &text(dir.path())], b"");
    let own = host.uid().expect("a service user").to_string();
    let place = |path: String| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let here = place(text(dir.path()));
    let ones = |pid: &i32| {
        // It stands in the directory as its root.
        let is_one =
            status(*pid, "PPid") == pull.pid().to_string() && place(format!("/proc/{pid}/root/")) == here;
        let said = ["Uid", "CapEff", "NoNewPrivs", "Seccomp"].map(|key| status(*pid, key));
        // The filter is what it gets last.
        (is_one && said[3] == "2").then_some(said)
    };
    let mut writers = Vec::new();
    until(10, "a process writes", || {
        writers = super::host::pids().filter_map(|pid| ones(&pid)).collect();
        !writers.is_empty()
    });
    for said in writers {
        assert!(said[0].split_whitespace().all(|uid| uid == own), "{said:?}");
        assert_eq!((said[1].as_str(), said[2].as_str()), ("0000000000000000", "1"), "{said:?}");
    }
    let output = pull.wait();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn an_edit_keeps_owner_and_mode_and_is_not_roots() {
    let host = Host::new();
    let dir = dir();
    let editor = dir.path().join("editor");
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("let everybody in");
    let script = format!("id -u > {}/who; sed -i s/old/new/ \"$1\"", text(dir.path()));
    fs::write(&editor, script).expect("write");
    for name in both(&host) {
        let file = format!("{name}/etc/edited");
        host.spawn(&["file", "push", "--uid", "5", "--mode", "640", "-", &file], b"old text\n").wait();
        let line = format!("{} file edit {file}", env!("CARGO_BIN_EXE_nagaya"));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env_clear().env("NAGAYA_INSTANCE", host.name());
        command.env("PATH", PATH).env("SHELL", "/bin/sh").env("TMPDIR", dir.path());
        command.env("EDITOR", format!("sh {}", editor.display()));
        let output = Running::start(command, b"").wait();
        assert!(output.status.success(), "{}", told(&output));
        assert_eq!(host.ok(&["file", "pull", &file, "-"]), "new text\n");
        let who = fs::read_to_string(dir.path().join("who")).expect("who");
        assert_eq!(who.trim().parse().ok(), host.uid());
        let _ = fs::remove_file(dir.path().join("who"));
        let input = host.spawn(&["file", "edit", &file], b"from a pipe\n").wait();
        assert!(input.status.success(), "{}", told(&input));
        let listed = host.ok(&["file", "list", &file]);
        assert!(listed.contains("-rw-r-----   5 "), "{listed}");
        assert_eq!(host.ok(&["file", "pull", &file, "-"]), "from a pipe\n");
    }
    assert_eq!(names(dir.path()), ["editor"], "no copy is left");
}

/// A user's own directory with a tree in it.
fn place_of(uid: u32, gid: u32) -> tempfile::TempDir {
    let dir = dir();
    tree(&dir.path().join("tree"));
    let all = format!("chown -Rh {uid}:{gid} {}", text(dir.path()));
    run_tool("sh", &["-c", &all]);
    dir
}

fn work_as(nagaya: impl Fn(&[&str]) -> std::process::Output, dir: &Path, uid: u32) {
    let ok = |args: &[&str]| {
        let output = nagaya(args);
        assert!(output.status.success(), "nagaya {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let sh = |name: &str, script: &str| ok(&["exec", name, "--", "sh", "-c", script]);
    ok(&["launch", "tiny", "c"]);
    ok(&["create", "tiny", "s"]);
    for name in ["c", "s"] {
        let there = format!("{name}/srv/a");
        ok(&["file", "push", "-r", "-p", "--uid", "0", "--gid", "0", &text(&dir.join("tree")), &there]);
        let target = dir.join(name);
        ok(&["file", "pull", "-r", "-p", &format!("{there}/tree"), &text(&target)]);
        same(&dir.join("tree"), &target.join("tree"));
        assert_eq!(fs::symlink_metadata(target.join("tree/link")).expect("look").uid(), uid);
        ok(&["file", "push", &text(&dir.join("tree/sub/file")), &format!("{name}/etc/file")]);
        assert_eq!(ok(&["file", "pull", &format!("{name}/etc/file"), "-"]), "content\n");
        ok(&["file", "delete", "-r", &there]);
    }
    assert_eq!(sh("c", "ls -A /srv"), "");
    ok(&["start", "s"]);
    assert_eq!(sh("s", "cat /etc/file; ls -A /srv"), "content\n");
}

#[test]
fn ordinary_users_have_the_same_by_hostd() {
    let users = HostdUsers::new(1);
    let user = users.granted(0);
    let (uid, gid) = (user.uid, user.gid);
    let dir = place_of(uid, gid);
    work_as(|args| user.nagaya(args), dir.path(), uid);
}

#[test]
fn ordinary_users_have_the_same_without_a_daemon() {
    let user = DaemonlessUser::with_template();
    let dir = place_of(user.uid, user.gid);
    work_as(|args| user.nagaya(args), dir.path(), user.uid);
}

/// Swaps a directory for a link to the host's, and back, until the guest ends.
fn swapping(canary: &Canary) -> String {
    format!(
        "mkdir -p /srv/t/d; cd /srv/t; echo x > d/x; (while :; do mv d e; ln -s {} d; rm d; mv e d; done) \
         >/dev/null 2>&1 &",
        canary.path("dir")
    )
}

#[test]
fn what_a_guest_swaps_meanwhile_leads_nowhere() {
    let host = Host::new();
    host.launch("c");
    let canary = Canary::new();
    let dir = dir();
    let tree = dir.path().join("t");
    fs::create_dir_all(tree.join("d")).expect("make a directory");
    for name in ["hostname", "passwd", "init", "file"] {
        fs::write(tree.join("d").join(name), "of the guest\n").expect("write");
    }
    host.ok(&["exec", "-d", "c", "--", "sh", "-c", &format!("{} wait", swapping(&canary))]);
    host.sh("c", &format!("ln -s {} /srv/out; ln -s {} /srv/file", canary.path("dir"), canary.path("file")));
    for round in 0..20 {
        let back = dir.path().join(format!("back{round}"));
        for args in [
            &["file", "push", "-r", &text(&tree), "c/srv"][..],
            &["file", "push", &text(&tree.join("d/file")), "c/srv/t/d/hostname"],
            &["file", "push", &text(&tree.join("d/file")), "c/srv/out/hostname"],
            &["file", "push", &text(&tree.join("d/file")), "c/srv/file"],
            &["file", "pull", "-r", "-p", "c/srv", &text(&back)],
            &["file", "pull", "c/srv/t/d/passwd", &text(&dir.path().join("one"))],
            &["file", "delete", "-r", "c/srv/t/d"],
        ] {
            let output = host.spawn(args, b"").wait_for(BOUND);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{}", told(&output));
            canary.check(&args.join(" "));
        }
        let found = Command::new("grep").args(["-rl", "of the host", &text(dir.path())]).output();
        assert_eq!(found.expect("run grep").stdout, b"", "round {round}");
    }
}

#[test]
fn what_a_guest_has_instead_of_files_hangs_nobody() {
    let host = Host::new();
    host.launch("c");
    let dir = dir();
    host.sh("c", "mkdir -p /srv/t; cd /srv/t; mkfifo fifo; echo x > file; mknod dev p; ln -s loop loop");
    // A file that grows while it is read, and a directory that is deep beyond all paths.
    host.ok(&["exec", "-d", "c", "--", "sh", "-c", "while :; do echo more; done > /srv/grows"]);
    let deep =
        "mkdir -p /srv/deep; cd /srv/deep; i=0; while [ $i -lt 600 ]; do mkdir d; cd d; i=$((i+1)); done";
    host.sh("c", deep);
    let pull = |path: &str, recursive: &[&str]| {
        let (from, to) = (format!("c{path}"), text(dir.path()));
        let all = [&["file", "pull"], recursive, &[&from, &to]].concat();
        let output = host.spawn(&all, b"").wait_for(BOUND);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = pull("/srv/t/fifo", &[]);
    assert!(code == Some(1) && said.contains("it is a fifo"), "{said}");
    let (code, said) = pull("/srv/t/loop", &[]);
    assert!(code == Some(1) && said.contains("symbolic links"), "{said}");
    let (code, said) = pull("/srv/t", &["-r"]);
    assert!(code == Some(0) && said.contains("left out"), "{said}");
    assert_eq!(names(&dir.path().join("t")), ["file", "loop"]);
    let (code, said) = pull("/srv/grows", &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = pull("/srv/deep", &["-r"]);
    assert!(code == Some(1) && said.contains("within one another"), "{said}");
    assert!(!dir.path().join("deep").exists() && names(dir.path()).iter().all(|n| !n.starts_with('.')));
    // The views of the kernel in a guest are no files.
    let (code, said) = pull("/", &["-r"]);
    assert!(code == Some(1) && said.contains("within one another"), "{said}");
    host.ok(&["file", "delete", "-r", "c/srv"]);
    let (code, said) = pull("/", &["-r"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(dir.path().join("c/etc").is_dir() && !dir.path().join("c/proc").exists());
}

#[test]
fn a_hundred_thousand_files_take_seconds() {
    let host = Host::new();
    host.launch("c");
    let dir = dir();
    host.sh("c", "mkdir -p /srv/many; cd /srv/many; seq 1 100000 | xargs touch");
    let output =
        host.spawn(&["file", "pull", "-r", "c/srv/many", &text(dir.path())], b"").wait_for(BOUND * 3);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(names(&dir.path().join("many")).len(), 100_000);
    let listed = host.ok(&["file", "list", "c/srv/many", "--format", "csv"]);
    assert_eq!(listed.lines().count(), 100_001);
}

/// The names in a directory of a guest's that is stopped or runs.
fn in_guest(host: &Host, path: &str) -> Vec<String> {
    let listed: serde_json::Value =
        serde_json::from_str(&host.ok(&["file", "list", path, "--format", "json"])).expect("JSON");
    let names = listed.as_array().expect("an array").iter();
    names.map(|file| file["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_command_that_is_killed_leaves_nothing_half_made() {
    let host = Host::new();
    let dir = dir();
    let back: PathBuf = dir.path().join("back");
    fs::create_dir(&back).expect("make a directory");
    for name in both(&host) {
        let there = format!("{name}/srv/d");
        host.ok(&["file", "push", "-p", "/etc/hostname", &format!("{there}/kept")]);
        let (push, mut typed) =
            Running::typed_at(host.command(&["file", "push", "-", &format!("{there}/kept")]));
        typed.write_all(&[b'x'; 1 << 20]).expect("type");
        std::thread::sleep(Duration::from_millis(300));
        push.kill(false);
        drop(push);
        until(10, "what was half written is gone", || in_guest(&host, &there) == ["kept"]);
        let before = fs::read_to_string("/etc/hostname").expect("read");
        assert_eq!(host.ok(&["file", "pull", &format!("{there}/kept"), "-"]), before);
        drop(typed);
        // The same of a pull.
        let big = dir.path().join("big");
        let make = format!("head -c {} /dev/zero | tr '\\0' x > {}", 300 << 20, text(&big));
        run_tool("sh", &["-c", &make]);
        host.ok(&["file", "push", &text(&big), &format!("{there}/big")]);
        let pull = host.spawn(&["file", "pull", &format!("{there}/big"), &text(&back)], b"");
        until(10, "it has begun", || !names(&back).is_empty());
        pull.kill(false);
        drop(pull);
        until(10, "what was half pulled is gone", || names(&back).is_empty());
        host.ok(&["file", "delete", &format!("{there}/big")]);
    }
    host.ok(&["start", "s"]);
    assert_eq!(host.sh("s", "ls -A /srv/d"), "kept");
}

#[test]
fn an_interrupted_command_takes_back_what_it_has_begun() {
    let host = Host::new();
    let dir = dir();
    for name in both(&host) {
        let big = format!("{name}/root/big");
        let make = format!("head -c {} /dev/zero | tr '\\0' x", 300 << 20);
        let line = format!("{make} | {} file push - {big}", env!("CARGO_BIN_EXE_nagaya"));
        let mut command = host.program("sh", &["-c", &line]);
        command.env("NAGAYA_INSTANCE", host.name());
        let made = Running::start(command, b"").wait();
        assert!(made.status.success(), "{}", told(&made));
        for signal in ["-INT", "-TERM"] {
            let pull = host.spawn(&["file", "pull", &big, &text(dir.path())], b"");
            until(10, "it has begun", || !names(dir.path()).is_empty());
            run_tool("kill", &[signal, &pull.pid().to_string()]);
            let output = pull.wait_for(BOUND);
            assert_eq!(output.status.code(), Some(130), "{}", told(&output));
            assert_eq!(names(dir.path()), [""; 0]);
            // One that waits for input that does not come.
            let mut command = host
                .program(env!("CARGO_BIN_EXE_nagaya"), &["file", "push", "-", &format!("{name}/root/new")]);
            let (input, kept_open) = std::io::pipe().expect("make a pipe");
            command.env("NAGAYA_INSTANCE", host.name()).stdin(input);
            let mut push = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start it");
            until(10, "somebody reads for it", || children(push.id()) > 1);
            run_tool("kill", &[signal, &push.id().to_string()]);
            let end = Instant::now() + BOUND;
            let status = loop {
                match push.try_wait().expect("wait") {
                    Some(status) => break status,
                    None => assert!(Instant::now() < end, "it goes on waiting"),
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            // At its very beginning it ends as every program does.
            assert!(status.code() == Some(130) || status.signal().is_some(), "{status}");
            drop(kept_open);
        }
    }
}

/// How many processes this one has begun that live.
fn children(pid: u32) -> usize {
    let parent = pid.to_string();
    super::host::pids().filter(|pid| status(*pid, "PPid") == parent).count()
}

#[test]
fn requests_have_the_same() {
    let host = Host::new();
    let dir = dir();
    let (source, target) = (text(&dir.path().join("in")), text(&dir.path().join("out")));
    fs::write(&source, "by request\n").expect("write");
    let ask = |request: &str, redirections: &str| -> serde_json::Value {
        let line = format!("echo '{request}' | {} engine {redirections}", env!("CARGO_BIN_EXE_nagaya"));
        let mut command = host.program("sh", &["-c", &line]);
        command.env("NAGAYA_INSTANCE", host.name());
        let output = Running::start(command, b"").wait();
        let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        serde_json::from_str(&last).unwrap_or_else(|e| panic!("{e}: {}", told(&output)))
    };
    for name in both(&host) {
        let of = |request: &str, path: &str, more: &str| {
            format!(r#"{{"request":"{request}","name":"{name}","path":"{path}"{more}}}"#)
        };
        let how = r#","input":3,"how":{"uid":5,"mode":384,"parents":true}"#;
        let written = ask(&of("write_file", "/srv/d/f", how), &format!("3<{source}"));
        assert_eq!(written["response"]["transferred"]["bytes"], 11, "{written}");
        let listed = ask(&of("list_files", "/srv/d", ""), "");
        let file = &listed["response"]["files"][0];
        assert_eq!((&file["name"], &file["mode"], &file["uid"]), (&"f".into(), &"0600".into(), &5.into()));
        assert_eq!(file["kind"], "file", "{listed}");
        ask(&of("read_file", "/srv/d/f", r#","output":3"#), &format!("3>{target}"));
        assert_eq!(fs::read_to_string(&target).expect("read"), "by request\n");
        let piped = ask(&of("pull_files", "/srv", r#","recursive":true,"stream":3"#), &format!("3>{target}"));
        assert!(piped["error"]["message"].as_str().unwrap_or_default().contains("not a pipe"), "{piped}");
        let deleted = ask(&of("delete_file", "/srv/d", r#","recursive":true"#), "");
        assert_eq!(deleted["response"]["changed"], true, "{deleted}");
        let again = ask(&of("delete_file", "/srv/d", r#","if_exists":true"#), "");
        assert_eq!(again["response"]["changed"], false, "{again}");
    }
}

/// What is typed in the shell of `mount`.
fn repaired(host: &Host, script: &str) -> Output {
    host.nagaya(&["mount", "c", "/mnt", "--", "sh", "-ec", script])
}

#[test]
fn a_stopped_container_is_repaired_in_a_shell_of_the_hosts() {
    let host = Host::new();
    host.launch("c");
    host.sh("c", "echo broken >/etc/x; chown 33:34 /etc/x; ln -s /etc/shadow /root/link; ln -s /etc/nagaya-evil /root/new");
    assert!(host.fails(1, &["mount", "c", "/mnt"]).contains("is running"));
    host.ok(&["snapshot", "create", "c"]);
    host.ok(&["stop", "--force", "c"]);
    let done = repaired(
        &host,
        "pwd; stat -c %u:%g etc/x; echo mended >etc/x; echo new >etc/y; rm etc/os-release; id -u",
    );
    assert_eq!(String::from_utf8_lossy(&done.stdout), "/mnt\n33:34\n0\n", "{}", told(&done));
    // It has no right to anything of the host's, not by links of the guest either.
    for script in [
        "cat root/link",
        "echo x >root/new",
        "echo x >/etc/nagaya-evil",
        "mknod dev/x b 8 0",
        "mount -t tmpfs x etc",
        "chroot . /bin/true",
        "mount -t overlay o -o lowerdir=etc:root bin",
    ] {
        let output = repaired(&host, script);
        assert_ne!(output.status.code(), Some(0), "{script}: {}", told(&output));
    }
    assert!(!Path::new("/etc/nagaya-evil").exists());
    assert!(!Path::new("/mnt/etc/x").exists(), "nobody else sees it");
    let status = repaired(&host, "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; ls /proc/self/fd");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("CapEff:\t000000008000001f") && status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(
        status.lines().filter(|line| line.parse::<u32>().is_ok()).count(),
        4,
        "three streams and ls's own: {status}"
    );
    assert!(host.fails(1, &["mount", "c", "/root/nowhere"]).contains("find /root/nowhere"));
    // The exit code is the command's, and nothing starts the container meanwhile.
    assert_eq!(repaired(&host, "exit 7").status.code(), Some(7));
    let shell = host.spawn(&["mount", "c", "/mnt", "--", "sh", "-c", "echo >etc/up; sleep 100"], b"");
    let id = host.info("c")["id"].as_str().expect("an id").to_owned();
    let up = host.state_dir().join("pool/containers").join(id).join("upper/etc/up");
    until(10, "the shell is at work", || up.exists());
    // Who wants to start it waits.
    let start = host.spawn(&["start", "c"], b"");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(host.list()[0]["state"], "stopped");
    shell.kill(true);
    drop(shell.wait());
    assert!(start.wait().status.success());
    assert_eq!(
        host.sh("c", "cat /etc/x /etc/y; stat -c %u /etc/y; ls /etc/os-release 2>/dev/null || true"),
        "mended\nnew\n0"
    );
}

#[test]
fn ordinary_users_repair_their_containers_with_and_without_hostd() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let daemonless = DaemonlessUser::with_template();
    let script = "echo mended >etc/x; stat -c %u etc/x";
    let mount = ["mount", "c", "/mnt", "--", "sh", "-ec", script];
    ann.ok(&["create", "tiny", "c"]);
    assert_eq!(ann.ok(&mount), "0\n");
    ann.ok(&["start", "c"]);
    assert_eq!(ann.ok(&["exec", "c", "--", "cat", "/etc/x"]), "mended\n");
    daemonless.ok(&["create", "tiny", "c"]);
    assert_eq!(daemonless.ok(&mount), "0\n");
    daemonless.ok(&["start", "c"]);
    assert_eq!(daemonless.ok(&["exec", "c", "--", "cat", "/etc/x"]), "mended\n");
}
