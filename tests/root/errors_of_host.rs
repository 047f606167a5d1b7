//! What a host can lack: ids, addresses, programs, a hierarchy of cgroups, room on its disk.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::archive::{Archive, noise};
use super::errors::{LACKING, REFUSED, check, message, refuses};
use super::host::{Host, PATH, Running, random_hex, run_tool, told};
use super::{leftovers, templates};

#[test]
fn no_range_of_ids_is_left() {
    let host = Host::with_id_ranges(3);
    host.ok(&["create", "tiny", "a"]);
    host.ok(&["create", "tiny", "b"]);
    let none = "all 2 runtime id ranges are in use";
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
    let random = random_hex(3);
    let byte = |at: usize| u8::from_str_radix(&random[at..at + 2], 16).expect("hexadecimal");
    format!("10.{}.{}.{}/{prefix}", byte(0), byte(2), byte(4) & 0xf8 | 1)
}

/// What there is, without what a container has from its first start to its deletion.
fn but_for_a_monitor(host: &Host) -> BTreeSet<String> {
    let kept =
        |line: &String| !line.contains("/run/") && !line.contains("/console.") && !line.contains("/state");
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
    for args in [&["template", "build", "debian12"][..], &["launch", "debian12", "b"]] {
        let output = without(&host, "/usr/bin/mmdebstrap", args);
        check(&output, LACKING, "cannot build template 'debian12': cannot execute mmdebstrap: …", doctor);
        assert_eq!(but_for_a_monitor(&host), before, "{}", args.join(" "));
    }
    // Rules and links take no program.
    for program in ["/usr/sbin/nft", "/usr/sbin/ip"] {
        assert!(without(&host, program, &["restart", "--force", "a"]).status.success(), "{program}");
    }
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
    let tiny = templates::tiny();
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
pub struct Disk {
    _image: tempfile::NamedTempFile,
    pub dir: PathBuf,
}

impl Disk {
    /// Mounts an empty ext4 of this many MiB and sets up the instance on it.
    pub fn under(host: &Host, mebibytes: u64) -> Self {
        Self::with(host, mebibytes, &[])
    }

    /// The same, made with these options of mkfs.
    pub fn with(host: &Host, mebibytes: u64, options: &[&str]) -> Self {
        let image = tempfile::NamedTempFile::new().expect("make a file");
        image.as_file().set_len(mebibytes << 20).expect("make it long");
        let (file, dir) = (image.path().to_string_lossy().into_owned(), host.state_dir());
        run_tool("mkfs.ext4", &[&["-q", "-F", "-m", "0"], options, &[&file]].concat());
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
    pub fn fill(&self) {
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
    let tiny = templates::tiny();
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

#[test]
fn a_disk_that_cannot_be_written() {
    let host = Host::bare();
    let disk = Disk::under(&host, 24);
    host.import("tiny", &templates::tiny());
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
    let tiny = templates::tiny();
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
fn a_removal_says_what_it_would_take_and_when_there_is_nothing() {
    let host = Host::new();
    host.ok(&["create", "tiny", "a"]);
    let said = host.fails(1, &["setup", "--remove"]);
    assert!(said.contains("1 container and 1 template would be deleted") && said.contains("--yes"), "{said}");
    host.ok(&["delete", "a"]);
    // Nothing has gone: neither the network nor what templates need.
    let said = host.fails(1, &["setup", "--remove"]);
    assert!(said.contains(": 1 template would be deleted"), "{said}");
    host.launch("a");
    host.ok(&["setup", "--remove", "--yes"]);
    let output = host.nagaya(&["setup", "--remove"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", told(&output));
    assert!(told(&output).contains("nothing to remove"), "{}", told(&output));
}

#[test]
fn an_instance_without_its_directory() {
    let host = Host::new();
    fs::remove_dir_all(host.state_dir()).expect("remove the state directory");
    check(&host.nagaya(&["list"]), REFUSED, "cannot …", "nagaya setup");
    host.ok(&["setup"]);
    assert!(host.list().is_empty());
    host.import("tiny", &templates::tiny());
    host.launch("a");
    fs::remove_dir_all(host.state_dir()).expect("remove the state directory");
    // Whoever wants it gone altogether can have that, and the container too: Host::drop sees to it.
}
