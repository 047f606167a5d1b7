//! Every way in which a command is refused: one line that says why, a hint where one helps, the
//! documented exit code, and nothing left of what was begun.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tar::EntryType;

use super::archive::Archive;
use super::host::{Host, PATH, Running, run_tool, told};
use super::leftovers;

/// Exit codes.
const REFUSED: i32 = 1;
const USAGE: i32 = 2;
const LACKING: i32 = 3;
const INTERRUPTED: i32 = 130;

/// What a command says on its way to an error.
const PROGRESS: [&str; 2] = ["importing template ", "building template "];

/// The error and the hint, after `error: ` and `hint: `; panics where there is anything else.
pub fn message(output: &Output) -> (String, Option<String>) {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().filter(|line| !PROGRESS.iter().any(|start| line.starts_with(start)));
    let error = lines.next().and_then(|line| line.strip_prefix("error: "));
    let error = error.unwrap_or_else(|| panic!("no error: {}", told(output))).to_owned();
    let hint = lines.next().map(|line| {
        line.strip_prefix("hint: ")
            .unwrap_or_else(|| panic!("neither error nor hint: {}", told(output)))
            .to_owned()
    });
    assert_eq!(lines.next(), None, "more than error and hint: {}", told(output));
    assert!(output.stdout.is_empty(), "an error with output: {}", told(output));
    (error, hint)
}

/// That `output` is error `code` with this text, whole or from its beginning (`…` at the end), and
/// a hint that contains `hint`; none where that is empty.
fn check(output: &Output, code: i32, error: &str, hint: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
    let (said, hinted) = message(output);
    match error.strip_suffix('…') {
        Some(start) => assert!(said.starts_with(start), "{said}"),
        None => assert_eq!(said, error),
    }
    match hinted {
        Some(hinted) => assert!(!hint.is_empty() && hinted.contains(hint), "{said}: {hinted}"),
        None => assert_eq!(hint, "", "{said}: no hint"),
    }
}

/// That `nagaya args` is refused as `check` says, and changes nothing.
fn refuses(host: &Host, args: &[&str], code: i32, error: &str, hint: &str) {
    let before = leftovers::of(host);
    check(&host.nagaya(args), code, error, hint);
    leftovers::gone(host, &before, &args.join(" "));
}

#[test]
fn names_that_mean_nothing() {
    let host = Host::new();
    host.ok(&["create", "tiny", "web01"]);
    for verb in ["start", "stop", "restart", "pause", "resume", "delete", "info", "logs", "console", "shell"]
    {
        refuses(&host, &[verb, "web02"], REFUSED, "there is no container 'web02'", "did you mean 'web01'?");
        refuses(&host, &[verb, "unlike"], REFUSED, "there is no container 'unlike'", "nagaya list");
    }
    let none = "there is no container 'web02'";
    refuses(&host, &["exec", "web02", "--", "id"], REFUSED, none, "did you mean 'web01'?");
    refuses(&host, &["rename", "web02", "db"], REFUSED, none, "did you mean 'web01'?");
    let none = "there is no template 'tinny'";
    for args in [&["launch", "tinny", "a"][..], &["create", "tinny"], &["template", "show", "tinny"]] {
        refuses(&host, args, REFUSED, none, "did you mean 'tiny'?");
    }
    refuses(&host, &["template", "delete", "tinny"], REFUSED, none, "did you mean 'tiny'?");
    let none = "there is no template 'debian21'";
    refuses(&host, &["template", "build", "debian21"], REFUSED, none, "did you mean 'debian");
    refuses(&host, &["launch", "zzzzzzzz"], REFUSED, "there is no template 'zzzzzzzz'", "template list");
}

#[test]
fn names_that_cannot_be() {
    let host = Host::new();
    host.ok(&["create", "tiny", "good"]);
    let long = "a".repeat(64);
    for bad in ["Web", "a_b", "-a", "a-", "123", "", "a.b", "a b", "ä", "a\n", "../a", &long] {
        for args in
            [&["launch", "tiny", "--", bad][..], &["create", "tiny", "--", bad], &["start", "--", bad]]
        {
            refuses(&host, args, REFUSED, "not a container's name: …", "RFC 1123");
        }
        refuses(&host, &["rename", "good", "--", bad], REFUSED, "not a container's name: …", "RFC 1123");
    }
    for bad in ["", "a b", "../x", "/etc", "-x", "a\nb", &"a".repeat(129)] {
        let args = ["template", "import", "/dev/null", &format!("--name={bad}")];
        refuses(&host, &args, REFUSED, "…", "letters, digits");
    }
    for bad in ["Up", "a/b", "..", "thirteen-char", "0a"] {
        let mut command = host.command(&["list"]);
        command.env("NAGAYA_INSTANCE", bad);
        let output = Running::start(command, b"").wait();
        check(&output, REFUSED, "cannot use NAGAYA_INSTANCE: …", "unset NAGAYA_INSTANCE");
    }
}

#[test]
fn names_that_are_taken() {
    let host = Host::new();
    host.ok(&["create", "tiny", "a"]);
    host.ok(&["create", "tiny", "b"]);
    for args in [&["launch", "tiny", "a"][..], &["create", "tiny", "a"]] {
        refuses(&host, args, REFUSED, "there is a container 'a' already", "nagaya delete a");
    }
    refuses(&host, &["rename", "b", "a"], REFUSED, "there is a container 'a' already", "nagaya delete a");
    let args = ["template", "import", "/etc/hostname", "--name", "tiny"];
    refuses(&host, &args, REFUSED, "there is a template 'tiny' already", "nagaya template delete tiny");
    let args = ["template", "delete", "tiny"];
    refuses(&host, &args, REFUSED, "template 'tiny' is used by a, b", "delete those containers");
}

#[test]
fn verbs_at_the_wrong_time() {
    let host = Host::new();
    host.launch("up");
    host.ok(&["create", "tiny", "down"]);
    refuses(&host, &["start", "up"], REFUSED, "container 'up' is running already", "nagaya restart up");
    refuses(&host, &["delete", "up"], REFUSED, "container 'up' is running", "--force");
    refuses(&host, &["rename", "up", "x"], REFUSED, "container 'up' is running", "nagaya stop up");
    refuses(&host, &["resume", "up"], REFUSED, "container 'up' is not paused", "");
    for args in [&["exec", "down", "--", "id"][..], &["exec", "-t", "down", "--", "id"], &["shell", "down"]] {
        refuses(&host, args, REFUSED, "container 'down' is not running", "nagaya start down");
    }
    for verb in ["stop", "pause", "resume", "console"] {
        refuses(&host, &[verb, "down"], REFUSED, "container 'down' is not running", "nagaya start down");
    }
    host.ok(&["pause", "up"]);
    for args in [&["exec", "up", "--", "id"][..], &["start", "up"], &["pause", "up"]] {
        refuses(&host, args, REFUSED, "container 'up' is paused", "nagaya resume up");
    }
    refuses(&host, &["delete", "up"], REFUSED, "container 'up' is running", "--force");
    host.ok(&["delete", "--force", "up"]);
    refuses(&host, &["start", "up"], REFUSED, "there is no container 'up'", "nagaya list");
}

#[test]
fn programs_that_cannot_run_in_a_guest() {
    let host = Host::new();
    host.launch("a");
    let exec = |args: &[&'static str], code: i32, error: &str| {
        let output = host.nagaya(&[&["exec"], args].concat());
        check(&output, code, error, "");
    };
    exec(&["a", "--", "nope"], 127, "'nope' is not in the guest");
    exec(&["a", "--", "/bin/nope"], 127, "'/bin/nope' is not in the guest");
    exec(&["a", "--", "/etc/passwd"], 126, "cannot execute '/etc/passwd' in the guest: Permission denied");
    exec(&["a", "--", "/etc"], 126, "cannot execute '/etc' in the guest: Permission denied");
    exec(&["a", "--user", "nobody-here", "--", "id"], 126, "the guest has no user 'nobody-here'");
    exec(&["a", "--user", "65536", "--", "id"], 126, "id 65536 is beyond the container's 65536");
    exec(&["a", "--cwd", "/nope", "--", "id"], 126, "cannot enter the directory '/nope' in the guest: …");
    assert_eq!(host.nagaya(&["exec", "a", "--", "sh", "-c", "exit 70"]).status.code(), Some(70));
    assert_eq!(host.nagaya(&["exec", "a", "--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
}

#[test]
fn wrong_usage() {
    let host = Host::new();
    for args in [
        &["frobnicate"][..],
        &["launch"],
        &["start"],
        &["exec", "a"],
        &["template"],
        &["template", "import", "x.tar"],
        &["setup", "--slices", "1"],
        &["setup", "--subnet", "10.0.0.1"],
        &["setup", "--yes"],
        &["stop", "a", "--timeout", "soon"],
        &["list", "--format", "yaml"],
    ] {
        let output = host.nagaya(args);
        assert_eq!(output.status.code(), Some(USAGE), "{}", told(&output));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.starts_with("error: ") || text.contains("Usage:"), "{text}");
    }
}

#[test]
fn several_at_once_of_which_one_is_bad() {
    let host = Host::new();
    for name in ["a", "b"] {
        host.ok(&["create", "tiny", name]);
    }
    let states = || -> Vec<String> {
        host.list().iter().map(|c| format!("{} {}", c["name"], c["state"]).replace('"', "")).collect()
    };
    // A name that no container can have stops all: it was not meant so.
    refuses(&host, &["start", "a", "b", "No!"], REFUSED, "not a container's name: …", "RFC 1123");
    assert_eq!(states(), ["a stopped", "b stopped"]);
    // One that does not exist stops only itself.
    let none = "unlike: there is no container 'unlike'";
    check(&host.nagaya(&["start", "a", "unlike", "b"]), REFUSED, none, "nagaya list");
    assert_eq!(states(), ["a running", "b running"]);
    host.see_links();
    let output = host.nagaya(&["stop", "--force", "b", "unlike"]);
    check(&output, REFUSED, none, "nagaya list");
    assert_eq!(states(), ["a running", "b stopped"]);
    let output = host.nagaya(&["delete", "a", "b"]);
    check(&output, REFUSED, "a: container 'a' is running", "nagaya stop a");
    assert_eq!(states(), ["a running"]);
}

#[test]
fn a_container_that_is_created_is_started_later() {
    let host = Host::new();
    assert_eq!(host.ok(&["create", "tiny", "a"]), "a\n");
    assert_eq!(host.list()[0]["state"], "stopped");
    host.ok(&["start", "a"]);
    host.see_links();
    assert_eq!(host.sh("a", "hostname"), "a");
}

#[test]
fn no_range_of_ids_is_left() {
    let host = Host::with_slices(3);
    host.ok(&["create", "tiny", "a"]);
    host.ok(&["create", "tiny", "b"]);
    let none = "all 2 runtime slices of the id range are in use";
    for args in [&["launch", "tiny", "c"][..], &["create", "tiny"]] {
        refuses(&host, args, LACKING, none, "delete a container");
    }
    host.ok(&["delete", "a"]);
    host.launch("c");
}

#[test]
fn no_address_is_left() {
    let host = Host::with_subnet(&random_subnet(29));
    for number in 1..6 {
        host.ok(&["create", "tiny", &format!("c{number}")]);
    }
    let none = format!("network '{}' has no address left", host.bridge());
    for args in [&["launch", "tiny", "c6"][..], &["create", "tiny"]] {
        refuses(&host, args, LACKING, &none, "delete a container");
    }
    host.ok(&["delete", "c3"]);
    host.launch("c6");
}

/// A private subnet that other tests will hardly have.
fn random_subnet(prefix: u8) -> String {
    let random = super::host::random_hex(3);
    let byte = |at: usize| u8::from_str_radix(&random[at..at + 2], 16).expect("hexadecimal");
    format!("10.{}.{}.{}/{prefix}", byte(0), byte(2), byte(4) & 0xf8 | 1)
}

/// What there is, without what a container has from its first start to its deletion.
fn but_for_a_monitor(host: &Host) -> BTreeSet<String> {
    let kept = |line: &String| !line.contains("/run/") && !line.contains("/console.");
    leftovers::of(host).into_iter().filter(kept).collect()
}

/// Runs `nagaya args` where the host's `program` is not there, in a mount namespace of its own.
fn without(host: &Host, program: &str, args: &[&str]) -> Output {
    let (dir, file) = program.rsplit_once('/').expect("an absolute path");
    let cover = tempfile::tempdir().expect("make a directory");
    // A whiteout of overlayfs, for a file can be hidden otherwise only behind another.
    let script = r#"set -e
        mount -t tmpfs none "$1"; mkdir "$1/layer"; mknod "$1/layer/$3" c 0 0
        mount -t overlay -o lowerdir="$1/layer:$2" none "$2"
        ! [ -e "$2/$3" ]
        shift 3; exec "$@""#;
    let cover = cover.path().to_string_lossy();
    in_mount_namespace(host, script, &[&cover, dir, file], args)
}

/// Runs `script`, to which `words` and then the words of `nagaya args` are passed.
fn in_mount_namespace(host: &Host, script: &str, words: &[&str], args: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).args(words);
    command.arg(env!("CARGO_BIN_EXE_nagaya")).args(args);
    command.env_clear().env("PATH", PATH).env("NAGAYA_INSTANCE", host.name());
    Running::start(command, b"").wait()
}

#[test]
fn programs_that_the_host_lacks() {
    let host = Host::new();
    host.ok(&["create", "tiny", "a"]);
    let before = but_for_a_monitor(&host);
    let doctor = "nagaya doctor";
    for args in [&["launch", "tiny", "b"][..], &["start", "a"]] {
        let output = without(&host, "/usr/sbin/nft", args);
        check(&output, LACKING, "there is no nft program on this host …", doctor);
        assert_eq!(but_for_a_monitor(&host), before, "{}", args.join(" "));
    }
    for args in [&["template", "build", "debian12"][..], &["launch", "debian12", "b"]] {
        let output = without(&host, "/usr/bin/mmdebstrap", args);
        check(&output, LACKING, "cannot build template 'debian12': cannot execute mmdebstrap: …", doctor);
    }
    assert!(without(&host, "/usr/sbin/nft", &["list"]).status.success(), "what needs no nft works");
    host.ok(&["start", "a"]);
    host.see_links();
}

#[test]
fn a_host_without_what_makes_users() {
    let host = Host::bare();
    for program in ["useradd", "usermod"] {
        let output = without(&host, &format!("/usr/sbin/{program}"), &["setup"]);
        let error = format!("'{program}' is not installed (package 'passwd')");
        check(&output, LACKING, &error, "apt-get install passwd");
    }
    host.ok(&["setup"]);
}

#[test]
fn a_host_without_cgroup_v2() {
    let host = Host::new();
    host.ok(&["create", "tiny", "a"]);
    let bare = |args: &[&str]| {
        let script = r#"findmnt -rnt cgroup,cgroup2 -o TARGET | while read -r dir; do umount -l "$dir"; done
            ! grep -q cgroup2 /proc/self/mountinfo && exec "$@""#;
        in_mount_namespace(&host, script, &[], args)
    };
    let before = but_for_a_monitor(&host);
    for args in [&["start", "a"][..], &["launch", "tiny", "b"]] {
        check(&bare(args), LACKING, "cannot find the cgroup v2 hierarchy: …", "nagaya doctor");
    }
    assert!(bare(&["list"]).status.success());
    let tiny = super::templates::tiny();
    let import = bare(&["template", "import", &tiny.to_string_lossy(), "--name", "other"]);
    assert!(import.status.success(), "{}", told(&import));
    host.ok(&["template", "delete", "other"]);
    assert_eq!(but_for_a_monitor(&host), before);
    // What may be running is not deleted where that cannot be seen, but by the next command that can.
    host.ok(&["start", "a"]);
    host.see_links();
    check(
        &bare(&["delete", "--force", "a"]),
        REFUSED,
        "something of container 'a' is left: …",
        "delete --force a",
    );
    assert!(host.list().is_empty());
}

/// A file system of its own over the state directory, and the loop device below it.
struct Disk {
    _image: tempfile::NamedTempFile,
    dir: PathBuf,
}

impl Disk {
    /// Mounts an empty ext4 of this many MiB and sets up the instance on it.
    fn under(host: &Host, mebibytes: u64) -> Self {
        let image = tempfile::NamedTempFile::new().expect("make a file");
        image.as_file().set_len(mebibytes << 20).expect("make it long");
        let (file, dir) = (image.path().to_string_lossy().into_owned(), host.state_dir());
        run_tool("mkfs.ext4", &["-q", "-F", "-m", "0", &file]);
        fs::create_dir(&dir).expect("make the state directory");
        run_tool("mount", &["-o", "loop", &file, &dir.to_string_lossy()]);
        let disk = Self { _image: image, dir };
        fs::remove_dir(disk.dir.join("lost+found")).expect("remove lost+found");
        let refused = host.nagaya(&["setup"]);
        let error = format!("'{}' belongs to 0:0, not to …", disk.dir.display());
        check(&refused, REFUSED, &error, "chown");
        let owner = host.uid();
        std::os::unix::fs::chown(&disk.dir, owner, owner).expect("give the state directory away");
        host.ok(&["setup"]);
        disk
    }

    /// Writes until not one more byte fits.
    fn fill(&self) {
        let mut file = fs::File::create(self.dir.join("filler")).expect("make a file");
        for size in [1 << 16, 1 << 10] {
            while file.write_all(&vec![1; size]).and_then(|()| file.sync_data()).is_ok() {}
        }
    }

    fn mount(&self, option: &str) {
        run_tool("mount", &["-o", &format!("remount,{option}"), &self.dir.to_string_lossy()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        let _ = fs::remove_dir(&self.dir);
    }
}

#[test]
fn a_disk_that_is_full() {
    let host = Host::bare();
    let disk = Disk::under(&host, 24);
    let tiny = super::templates::tiny();
    let tiny = tiny.to_string_lossy();
    host.ok(&["template", "import", &tiny, "--name", "tiny"]);
    host.launch("a");
    let before = leftovers::of(&host);
    let big = tempfile::NamedTempFile::new().expect("make a file");
    let archive = Archive::tiny().file("big", &noise(24 << 20)).finish();
    fs::write(big.path(), archive).expect("write an archive");
    let import = ["template", "import", &big.path().to_string_lossy(), "--name", "big"];
    let output = host.nagaya(&import);
    check(
        &output,
        LACKING,
        "cannot unpack the template: cannot write 'big': No space left …",
        "nagaya doctor",
    );
    leftovers::gone(&host, &before, "an import on a full disk");

    disk.fill();
    let before = leftovers::of(&host);
    let output = host.nagaya(&["template", "import", &big.path().to_string_lossy(), "--name", "big"]);
    assert_eq!(output.status.code(), Some(LACKING), "{}", told(&output));
    let (error, _) = message(&output);
    assert!(error.to_lowercase().contains("no space"), "{error}");
    leftovers::gone(&host, &before, "an import on a disk that is full from the beginning");
    let output = host.nagaya(&["launch", "tiny", "b"]);
    if output.status.success() {
        host.ok(&["delete", "--force", "b"]);
    } else {
        assert_eq!(output.status.code(), Some(LACKING), "{}", told(&output));
        assert!(message(&output).0.to_lowercase().contains("no space"), "{}", told(&output));
    }
    leftovers::gone(&host, &before, "a launch on a full disk");

    // What the operator needs to make room, works.
    assert_eq!(host.list()[0]["state"], "running");
    assert_eq!(host.sh("a", "echo here"), "here");
    host.ok(&["stop", "--force", "a"]);
    host.ok(&["delete", "a"]);
    host.ok(&["template", "delete", "tiny"]);
    fs::remove_file(disk.dir.join("filler")).expect("make room");
    host.ok(&["template", "import", &tiny, "--name", "tiny"]);
    host.launch("c");
    let removed = host.ok(&["setup", "--remove", "--yes"]);
    assert!(removed.contains("stays as a mount point"), "{removed}");
}

/// Bytes that no compressor and no hole makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_disk_that_cannot_be_written() {
    let host = Host::bare();
    let disk = Disk::under(&host, 24);
    host.import("tiny", &super::templates::tiny());
    host.ok(&["create", "tiny", "a"]);
    let before = leftovers::of(&host);
    disk.mount("ro");
    let hint = "findmnt";
    for args in [
        &["start", "a"][..],
        &["launch", "tiny", "b"],
        &["create", "tiny"],
        &["delete", "a"],
        &["rename", "a", "b"],
        &["template", "delete", "tiny"],
    ] {
        let output = host.nagaya(args);
        // The template's deletion is refused for its user first.
        if args[0] != "template" {
            check(&output, LACKING, "cannot …", hint);
            assert!(message(&output).0.ends_with("cannot be written"), "{}", told(&output));
        }
        assert!(!output.status.success());
    }
    let tiny = super::templates::tiny();
    let output = host.nagaya(&["template", "import", &tiny.to_string_lossy(), "--name", "other"]);
    check(&output, LACKING, "cannot record …", hint);
    assert_eq!(host.list()[0]["state"], "stopped");
    host.ok(&["info", "a"]);
    let output = host.nagaya(&["setup", "--remove", "--yes"]);
    assert_eq!(output.status.code(), Some(LACKING), "{}", told(&output));
    message(&output);
    disk.mount("rw");
    leftovers::gone(&host, &before, "commands on a read-only disk");
    host.ok(&["setup", "--remove", "--yes"]);
}

#[test]
fn an_instance_without_its_directory() {
    let host = Host::new();
    fs::remove_dir_all(host.state_dir()).expect("remove the state directory");
    check(&host.nagaya(&["list"]), REFUSED, "cannot …", "nagaya setup");
    host.ok(&["setup"]);
    assert!(host.list().is_empty());
    host.import("tiny", &super::templates::tiny());
    host.launch("a");
    fs::remove_dir_all(host.state_dir()).expect("remove the state directory");
    // Whoever wants it gone altogether can have that, and the container too: Host::drop sees to it.
}

#[test]
fn files_that_are_no_archive() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("make a directory");
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("write a file");
        path.to_string_lossy().into_owned()
    };
    let import = |path: &str, error: &str, hint: &str| {
        refuses(&host, &["template", "import", path, "--name", "bad"], REFUSED, error, hint);
    };
    import("/nonexistent.tar", "cannot open '/nonexistent.tar': No such file…", "");
    import("/etc", "'/etc' is not an archive but a directory", "rootfs.tar.gz");
    let bad = "cannot unpack the template: …";
    import("/dev/null", bad, "");
    import(&put("empty", b""), bad, "");
    import(&put("text", b"#!/bin/sh\necho hello\n"), bad, "");
    import(&put("zip", b"PK\x03\x04 and so on"), bad, "");
    let tiny = Archive::tiny().finish();
    import(&put("cut", &tiny[..tiny.len() / 2]), "cannot unpack the template: the archive is cut off…", "");
    import(
        &put("no-end", &tiny[..tiny.len() - 1024]),
        "cannot unpack the template: the archive is cut off…",
        "",
    );
    let mut damaged = tiny.clone();
    damaged[0] ^= 1;
    import(&put("damaged", &damaged), bad, "");
    for compressor in ["gzip", "xz", "zstd"] {
        let packed = compressed(compressor, &tiny);
        import(&put("cut", &packed[..packed.len() / 2]), bad, "");
        let mut damaged = packed.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 16].fill(0x55);
        import(&put("damaged", &damaged), bad, "");
    }
}

fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.arg("-c").env_clear().env("PATH", PATH);
    let output = Running::start(command, bytes).wait();
    assert!(output.status.success(), "{program}: {}", told(&output));
    output.stdout
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let host = Host::new();
    let before = leftovers::of(&host);
    let header = Archive::default().header_of("zeros", 7 << 30).into_bytes();
    for compressor in ["gzip", "xz", "zstd"] {
        // 4 GiB of zeros in a few MiB, in parts as pigz and pzstd make them.
        let zeros = compressed(compressor, &vec![0; 64 << 20]);
        let bomb = tempfile::NamedTempFile::new().expect("make a file");
        let bytes = [compressed(compressor, &header), zeros.repeat(64)].concat();
        fs::write(bomb.path(), bytes).expect("write a bomb");
        let started = Instant::now();
        let output = host.nagaya(&["template", "import", &bomb.path().to_string_lossy(), "--name", "bomb"]);
        let error = "cannot unpack the template: the archive grows more than 250-fold when decompressed";
        check(&output, REFUSED, error, "");
        assert!(started.elapsed() < Duration::from_secs(20), "{compressor}: {:?}", started.elapsed());
        leftovers::gone(&host, &before, compressor);
    }
}

/// The archive of `tiny` with another program for its init.
fn with_init(mode: u32, content: &[u8]) -> Vec<u8> {
    Archive::tiny_without(&["sbin/init"]).entry("sbin/init", EntryType::Regular, mode, "", content).finish()
}

fn import(host: &Host, name: &str, archive: &[u8]) -> Output {
    host.spawn(&["template", "import", "-", "--name", name], archive).wait()
}

#[test]
fn trees_without_an_init() {
    let host = Host::new();
    let before = leftovers::of(&host);
    let bare = || Archive::tiny_without(&["sbin/init"]);
    let none = "the tree has no executable file /sbin/init";
    for (archive, error) in [
        (bare().finish(), none),
        (Archive::default().dir("etc").finish(), none),
        (with_init(0o644, b"#!/bin/sh\n"), none),
        (bare().symlink("sbin/init", "nowhere").finish(), none),
        (bare().symlink("sbin/init", "init").finish(), none),
        (bare().dir("sbin/init").finish(), none),
        (
            bare().dir("lib").dir("lib/systemd").program("lib/systemd/systemd", b"x").finish(),
            "the tree has no executable file /sbin/init, only /lib/systemd/systemd",
        ),
    ] {
        let output = import(&host, "bad", &archive);
        check(&output, REFUSED, &format!("cannot unpack the template: {error}"), "");
        leftovers::gone(&host, &before, error);
    }
}

/// A static program, compiled from C.
fn compiled(source: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("make a directory");
    let (from, to) = (dir.path().join("init.c"), dir.path().join("init"));
    fs::write(&from, source).expect("write a program");
    run_tool("gcc", &["-static", "-O1", "-o", &to.to_string_lossy(), &from.to_string_lossy()]);
    fs::read(to).expect("read the program")
}

#[test]
fn inits_that_cannot_run() {
    let host = Host::new();
    let mut foreign = b"\x7fELF\x02\x01\x01".to_vec();
    foreign.resize(18, 0);
    // e_machine of a 64-bit PowerPC, which no emulator is set up for.
    foreign[16] = 2;
    foreign.extend([21, 0]);
    foreign.resize(4096, 0);
    let exec = "cannot boot the guest: cannot execute /sbin/init in the guest: ";
    for (name, init, error) in [
        ("format", b"neither ELF nor script\n".to_vec(), "Exec format error (os error 8)"),
        ("foreign", foreign, "Exec format error (os error 8)"),
        ("shell", b"#!/nowhere/sh\n".to_vec(), "No such file or directory (os error 2)"),
        ("closed", b"#!/etc/passwd\n".to_vec(), "Permission denied (os error 13)"),
        ("loop", b"#!/sbin/init\n".to_vec(), "Too many levels of symbolic links (os error 40)"),
    ] {
        let output = import(&host, name, &with_init(0o755, &init));
        assert!(output.status.success(), "{}", told(&output));
        let error = format!("cannot start container '{name}': {exec}{error}");
        refuses(&host, &["launch", name, name], REFUSED, &error, "");
        host.ok(&["create", name, name]);
        check(&host.nagaya(&["start", name]), REFUSED, &error, "");
        assert_eq!(host.info(name)["state"], "stopped");
        host.ok(&["delete", name]);
    }
}

#[test]
fn inits_that_end_at_once() {
    let host = Host::new();
    for (name, source, reason) in [
        ("zero", "int main(void) { return 0; }", "its init ended at once"),
        ("one", "int main(void) { return 1; }", "its init exited with code 1 at once"),
        ("fault", "int main(void) { __builtin_trap(); }", "its init was killed by signal 4 at once"),
    ] {
        let output = import(&host, name, &with_init(0o755, &compiled(source)));
        assert!(output.status.success(), "{}", told(&output));
        let before = leftovers::of(&host);
        // On a busy machine it may be too late for 'at once'; then it is a container that has ended.
        let refused = (0..20).any(|_| {
            let output = host.nagaya(&["launch", name, "a"]);
            if output.status.success() {
                host.ok(&["delete", "--force", "a"]);
                return false;
            }
            check(&output, REFUSED, &format!("cannot start container 'a': {reason}"), "");
            true
        });
        assert!(refused, "twenty launches of a guest whose init ends have all succeeded");
        leftovers::gone(&host, &before, name);
    }
}

/// `nagaya template import -`, which has got the first half of an archive and waits for the rest.
fn half_an_import(host: &Host) -> std::process::Child {
    let archive = Archive::tiny().file("big", &noise(4 << 20)).finish();
    let mut command = host.command(&["template", "import", "-", "--name", "half"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start an import");
    let stdin = child.stdin.as_mut().expect("piped");
    stdin.write_all(&archive[..archive.len() / 2]).expect("feed the import");
    child
}

#[test]
fn an_import_that_is_interrupted() {
    let host = Host::new();
    let before = leftovers::of(&host);
    for signal in ["INT", "TERM", "HUP"] {
        let child = half_an_import(&host);
        run_tool("kill", &["-s", signal, &child.id().to_string()]);
        let output = Running::of(child).wait();
        check(&output, INTERRUPTED, "interrupted", "");
        leftovers::gone(&host, &before, signal);
    }
    // Nobody can clean up after this one but the next command.
    let child = half_an_import(&host);
    assert_ne!(leftovers::of(&host), before, "the import is under way");
    run_tool("kill", &["-s", "KILL", &child.id().to_string()]);
    let output = Running::of(child).wait();
    assert!(!output.status.success());
    host.list();
    leftovers::gone(&host, &before, "a killed import");
    // One that is under way is not taken for a killed one.
    let child = half_an_import(&host);
    assert!(import(&host, "meanwhile", &Archive::tiny().finish()).status.success());
    host.ok(&["template", "delete", "meanwhile"]);
    let output = Running::of(child).wait();
    check(&output, REFUSED, "cannot unpack the template: the archive is cut off: it has no end marker", "");
    // What was deleted meanwhile had to wait for it.
    host.list();
    leftovers::gone(&host, &before, "half an archive");
}

#[test]
fn two_imports_at_once() {
    let host = Host::new();
    let archive = Archive::tiny().file("other", b"content").finish();
    let start = |name: &str| host.spawn(&["template", "import", "-", "--name", name], &archive);
    let (one, two) = (start("one"), start("two"));
    for output in [one.wait(), two.wait()] {
        assert!(output.status.success(), "{}", told(&output));
    }
    let show = |name: &str| host.ok(&["template", "show", name, "--format", "json"]);
    let id = |text: &str| text.lines().find(|line| line.contains("\"id\"")).expect("an id").to_owned();
    assert_eq!(id(&show("one")), id(&show("two")), "the same content is stored once");
    let contents = fs::read_dir(host.state_dir().join("pool/templates")).expect("list templates").count();
    assert_eq!(contents, 2, "tiny and the other");

    let (three, four) = (start("three"), start("three"));
    let (three, four) = (three.wait(), four.wait());
    let (good, bad) = if three.status.success() { (three, four) } else { (four, three) };
    assert!(good.status.success(), "{}", told(&good));
    check(&bad, REFUSED, "there is a template 'three' already", "nagaya template delete three");
    for name in ["one", "two", "three"] {
        host.ok(&["template", "delete", name]);
    }
    let contents = fs::read_dir(host.state_dir().join("pool/templates")).expect("list templates").count();
    assert_eq!(contents, 1);
}
