//! Archives that are none, trees without a system, and imports that do not get to their end.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tar::EntryType;

use super::archive::{Archive, noise};
use super::errors::{INTERRUPTED, REFUSED, check, refuses};
use super::host::{Host, PATH, Running, run_tool, told};
use super::leftovers;
use super::templates::program;

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
    let none = "rootfs.tar.gz";
    import("/dev/null", bad, none);
    import(&put("empty", b""), bad, none);
    import(&put("text", b"#!/bin/sh\necho hello\n"), bad, none);
    import(
        &put("zip", b"PK\x03\x04 and so on"),
        "cannot unpack the template: this is a zip archive…",
        "bsdtar",
    );
    let tiny = Archive::tiny().finish();
    import(&put("cut", &tiny[..tiny.len() / 2]), "cannot unpack the template: the archive is cut off…", "");
    import(
        &put("no-end", &tiny[..tiny.len() - 1024]),
        "cannot unpack the template: the archive is cut off…",
        "",
    );
    let mut damaged = tiny.clone();
    damaged[0] ^= 1;
    import(&put("damaged", &damaged), bad, none);
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
    let hint = |error: &str| if error == none { "systemd-sysv" } else { "" };
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
        check(&output, REFUSED, &format!("cannot unpack the template: {error}"), hint(error));
        leftovers::gone(&host, &before, error);
    }
    let below = Archive::default().dir("rootfs").dir("rootfs/etc").dir("rootfs/sbin");
    let output = import(&host, "bad", &below.clone().file("metadata.yaml", b"").finish());
    check(
        &output,
        REFUSED,
        &format!("cannot unpack the template: {none}: it is an image of LXD…"),
        "t/rootfs",
    );
    let output = import(&host, "bad", &below.finish());
    check(
        &output,
        REFUSED,
        &format!("cannot unpack the template: {none}: the system lies below…"),
        "t/rootfs",
    );
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
        let output = import(&host, name, &with_init(0o755, &program(source)));
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

#[test]
fn a_program_in_a_directory_that_is_closed_to_the_service_user() {
    let host = Host::new();
    // As a checkout in root's home. tempfile makes it for its owner alone.
    let dir = tempfile::tempdir().expect("make a directory");
    let copy = dir.path().join("nagaya");
    // By another process: what this one has open for writing, a child that another test has just forked has too.
    run_tool("cp", &[env!("CARGO_BIN_EXE_nagaya"), &copy.to_string_lossy()]);
    let mut command = Command::new(&copy);
    command.args(["launch", "nosuch", "web"]).env_clear().env("PATH", PATH);
    command.env("NAGAYA_INSTANCE", host.name());
    let output = Running::start(command, b"").wait();
    check(&output, REFUSED, "there is no template 'nosuch'", "nagaya template recipes");
}
