//! Archives made to write where they should not, through `nagaya template import` as it is typed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tar::EntryType;

use super::archive::Archive;
use super::errors::message;
use super::host::{Host, told};
use super::hostile_trees::Canary;
use super::leftovers;
use super::templates::program;

/// The largest has 100,000 files, all of which are to be on the disk.
const BOUND: Duration = Duration::from_secs(60);

/// An instance, what there is of it, and what it must not touch.
struct Scene {
    host: Host,
    canary: Canary,
    before: BTreeSet<String>,
}

impl Scene {
    fn new() -> Self {
        let (host, canary) = (Host::new(), Canary::new());
        // What a first container brings is there from the beginning.
        host.ok(&["create", "tiny", "first"]);
        let before = leftovers::of(&host);
        Self { host, canary, before }
    }

    fn import(&self, archive: &[u8]) -> Output {
        let output = self.host.spawn(&["template", "import", "-", "--name", "h"], archive).wait_for(BOUND);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", told(&output));
        output
    }

    /// The archive must be refused, and nothing be left of it.
    fn refuses(&self, what: &str, archive: Archive, why: &str) {
        let output = self.import(&archive.finish());
        assert!(!output.status.success(), "{what} was imported");
        let (error, _) = message(&output);
        assert!(error.starts_with("cannot unpack the template: ") && error.contains(why), "{what}: {error}");
        self.untouched(what);
    }

    /// The archive must be taken; returns the template's directory.
    fn takes(&self, what: &str, archive: Archive) -> PathBuf {
        let output = self.import(&archive.finish());
        assert!(output.status.success(), "{what}: {}", told(&output));
        self.canary.check(what);
        let show = self.host.ok(&["template", "show", "h", "--format", "json"]);
        let show: serde_json::Value = serde_json::from_str(&show).expect("show prints JSON");
        self.host.state_dir().join("pool/templates").join(show["id"].as_str().expect("an id"))
    }

    /// Deletes what was taken.
    fn forget(&self, what: &str) {
        self.host.ok(&["template", "delete", "h"]);
        self.untouched(what);
    }

    fn untouched(&self, what: &str) {
        self.canary.check(what);
        leftovers::gone(&self.host, &self.before, what);
    }
}

#[test]
fn names_that_climb() {
    let scene = Scene::new();
    let up = "../../../../../../..";
    let canary = scene.canary.path("dir");
    for name in [
        "../evil",
        "etc/../../evil",
        "..",
        "etc/..",
        "./../evil",
        "etc/../../../evil",
        &format!("{up}{canary}/evil"),
        &format!("etc/{up}{canary}/evil"),
    ] {
        scene.refuses(name, Archive::tiny().file(name, b"evil"), "climbs out of the tree");
        scene.refuses(name, Archive::tiny().dir(name), "climbs out of the tree");
        scene.refuses(name, Archive::tiny().symlink(name, "/"), "climbs out of the tree");
        scene.refuses(name, Archive::tiny().hard_link(name, "etc/passwd"), "climbs out of the tree");
        scene.refuses(name, Archive::tiny().device(name, EntryType::Char, 1, 3), "climbs out of the tree");
    }
    let absolute = format!("{canary}/evil");
    scene.refuses(&absolute, Archive::tiny().file(&absolute, b"evil"), "the name is absolute");
}

#[test]
fn links_that_are_written_through() {
    let scene = Scene::new();
    let dir = scene.canary.path("dir");
    let file = scene.canary.path("file");
    let up = format!("../../../../../../../../../..{dir}");
    for target in [&dir, &up, "nowhere", "/proc/self/cwd", "d"] {
        let below = "symbolic link that leads to no directory of the tree";
        let link = || Archive::tiny().symlink("d", target);
        scene.refuses(target, link().file("d/evil", b"evil"), below);
        scene.refuses(target, link().dir("d/evil"), below);
        scene.refuses(target, link().symlink("d/evil", "/"), below);
        scene.refuses(target, link().fifo("d/evil"), below);
        scene.refuses(target, link().hard_link("d/evil", "etc/passwd"), below);
        scene.refuses(target, link().device("d/hostname", EntryType::Char, 1, 3), below);
        // A directory that was one while it was looked at.
        let swapped = Archive::tiny().dir("d").symlink("d", target).file("d/evil", b"evil");
        scene.refuses(target, swapped, below);
        let chained = Archive::tiny().symlink("e", target).symlink("d", "e").file("d/evil", b"evil");
        scene.refuses(target, chained, below);
        let deep = Archive::tiny().dir("a").dir("a/b").symlink("a/b/c", target).file("a/b/c/d/evil", b"evil");
        scene.refuses(target, deep, below);
    }
    // A link that leads somewhere in the tree is followed as a guest would, with the tree as its root.
    for (target, lands) in
        [("/", "evil"), ("../../..", "evil"), ("etc", "etc/evil"), ("/etc/../sbin", "sbin/evil")]
    {
        let tree = scene.takes(target, Archive::tiny().symlink("d", target).file("d/evil", b"inside"));
        assert_eq!(fs::read(tree.join(lands)).expect("read a file"), b"inside", "{target}");
        scene.forget(target);
    }
    // What follows takes the link's place, never that of its target.
    for target in [file.as_str(), "/etc/hostname", &format!("{dir}/hostname")] {
        let tree = scene.takes(target, Archive::tiny().symlink("f", target).file("f", b"inside"));
        assert_eq!(fs::read(tree.join("f")).expect("read a file"), b"inside");
        assert!(fs::symlink_metadata(tree.join("f")).expect("look at a file").is_file());
        scene.forget(target);
        let tree = scene.takes(target, Archive::tiny().symlink("f", target).dir("f").file("f/x", b"inside"));
        assert!(fs::symlink_metadata(tree.join("f")).expect("look at a directory").is_dir());
        scene.forget(target);
    }
}

#[test]
fn hard_links_to_what_is_not_in_the_tree() {
    let scene = Scene::new();
    let file = scene.canary.path("file");
    for target in ["nowhere", "etc", "etc/nothing"] {
        scene.refuses(target, Archive::tiny().hard_link("h", target), "hard link");
    }
    scene.refuses("the root", Archive::tiny().hard_link("h", "."), "hard link");
    for target in [file.as_str(), "/etc/passwd", "/", "../../../../../etc/shadow", "etc/../../x"] {
        scene.refuses(target, Archive::tiny().hard_link("h", target), "climbs out of the tree");
    }
    for target in [file.as_str(), "/etc/shadow", "nowhere"] {
        let linked = Archive::tiny().symlink("s", target).hard_link("h", "s");
        scene.refuses(target, linked, "not a regular file");
    }
    let through = Archive::tiny().symlink("s", &scene.canary.path("dir")).hard_link("h", "s/hostname");
    scene.refuses("through a link", through, "hard link");
}

#[test]
fn devices_and_what_steers_an_overlay_are_left_out() {
    let scene = Scene::new();
    let archive = Archive::tiny()
        .dir("dev")
        .device("dev/sda", EntryType::Block, 8, 0)
        .device("dev/mem", EntryType::Char, 1, 1)
        .hard_link("dev/again", "dev/sda")
        .device("etc/passwd", EntryType::Char, 0, 0)
        .xattrs(&[
            ("trusted.overlay.opaque", b"y"),
            ("trusted.overlay.redirect", b"/etc"),
            ("user.overlay.opaque", b"y"),
            ("user.overlay.redirect", b"/etc"),
            ("user.overlay.metacopy", b""),
            ("security.selinux", b"system_u:object_r:shadow_t:s0"),
            ("user.note", b"kept"),
        ])
        .dir("opaque")
        .xattrs(&[("user.overlay.whiteout", b"y"), ("trusted.overlay.metacopy", b"")])
        .file("opaque/file", b"x");
    let tree = scene.takes("devices", archive);
    let mut kinds = Vec::new();
    walk(&tree, &mut |path| {
        let stat = fs::symlink_metadata(path).expect("look at a file");
        kinds.push(stat.mode() & libc::S_IFMT);
        for name in xattrs(path) {
            assert!(name == "user.note" || name == "security.capability", "{name} of {}", path.display());
        }
    });
    assert!(!kinds.iter().any(|kind| [libc::S_IFCHR, libc::S_IFBLK].contains(kind)));
    assert_eq!(xattrs(&tree.join("opaque")), ["user.note"]);
    assert!(!tree.join("dev/again").exists() && !tree.join("etc/passwd").exists());
    scene.forget("devices");
}

/// Calls `look` on all that lies in `dir`.
fn walk(dir: &Path, look: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).expect("list a directory").flatten() {
        look(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), look);
        }
    }
}

fn xattrs(path: &Path) -> Vec<String> {
    let mut names = [0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("list attributes");
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn a_setuid_program_is_one_within_its_container_alone() {
    let scene = Scene::new();
    let source = "#include <stdio.h>\n#include <unistd.h>\n\
                  int main(void) { printf(\"%d %d\\n\", getuid(), geteuid()); return 0; }";
    let program = program(source);
    let archive = Archive::tiny().entry("bin/who", EntryType::Regular, 0o6755, "", &program);
    let tree = scene.takes("setuid", archive);
    let on_disk = fs::metadata(tree.join("bin/who")).expect("look at a program");
    assert_eq!(on_disk.mode() & 0o7777, 0o6755);
    let (start, _) = scene.host.ids().expect("ids");
    let mut owners = BTreeSet::new();
    walk(&tree, &mut |path| {
        let stat = fs::symlink_metadata(path).expect("look at a file");
        owners.extend([stat.uid(), stat.gid()]);
    });
    assert_eq!(owners.into_iter().collect::<Vec<_>>(), [start], "all belongs to the storage ids");
    // Whoever has an account on the host does not come near it.
    let outside = Command::new(tree.join("bin/who")).uid(65_534).gid(65_534).output();
    let refused = outside.expect_err("the program can be run from outside");
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    scene.host.ok(&["launch", "h", "a"]);
    scene.host.see_links();
    assert_eq!(scene.host.ok(&["exec", "a", "--user", "alice", "--", "/bin/who"]), "1000 0\n");
    let init = scene.host.init("a");
    assert!(super::host::uids(init).iter().all(|uid| *uid != 0), "root of the container is nobody outside");
}

#[test]
fn ids_beyond_the_container_are_refused() {
    let scene = Scene::new();
    for id in [65_536u64, 100_000, u64::from(u32::MAX), 1 << 32] {
        let archive = Archive::tiny().owned("f", id, 0);
        scene.refuses("uid", archive, "a container has 0 to 65535");
        scene.refuses("gid", Archive::tiny().owned("f", 0, id), "a container has 0 to 65535");
    }
    scene.takes("nobody", Archive::tiny().owned("f", 65_535, 65_534));
    scene.forget("nobody");
}

#[test]
fn the_later_of_two_entries_counts() {
    let scene = Scene::new();
    let twice = Archive::tiny().file("f", b"first").file("f", b"second").fifo("g").file("g", b"third");
    let tree =
        scene.takes("twice", twice.symlink("h", "/").hard_link("h", "f").dir("e").file("e", b"fourth"));
    for (name, content) in [("f", "second"), ("g", "third"), ("h", "second"), ("e", "fourth")] {
        assert_eq!(fs::read_to_string(tree.join(name)).expect("read a file"), content, "{name}");
    }
    scene.forget("twice");
    scene.refuses("full", Archive::tiny().file("etc", b"x"), "replaces a directory that is not empty");
    scene.refuses("root", Archive::tiny().file(".", b"x"), "");
    scene.refuses("root link", Archive::tiny().symlink("./", "/"), "");
}

#[test]
fn entries_without_end() {
    let scene = Scene::new();
    let many =
        (0..100_000).fold(Archive::tiny(), |archive, n| archive.file(&format!("many/{}/{n}", n % 100), b""));
    let tree = scene.takes("many", many);
    assert_eq!(fs::read_dir(tree.join("many/7")).expect("list a directory").count(), 1000);
    scene.forget("many");
    // Directories below one another, deeper than any path may be long.
    let deep = (1..40).fold(Archive::tiny(), |archive, n| archive.dir(&"d/".repeat(n)));
    scene.takes("deep", deep);
    scene.forget("deep");
    let long = [b"x/".repeat(3000), b"x".to_vec()].concat();
    scene.refuses("long", Archive::tiny().long_name(&long).file("short", b"x"), "");
    scene.refuses("long name", Archive::tiny().long_name(&b"x".repeat(256)).file("short", b"x"), "");
    let header = Archive::tiny().header_of("endless", 1 << 62);
    scene.refuses("endless", header, "");
    let hole = Archive::tiny().hole("hole", 1 << 62);
    scene.refuses("hole", hole, "");
}

/// Few bytes of archive that ask for many directories: none of them has an entry.
#[test]
fn directories_that_no_entry_names_have_a_bound() {
    let scene = Scene::new();
    let deep = |n: usize| [format!("{n:07x}/").into_bytes(), b"a/".repeat(2040), b"a".to_vec()].concat();
    let bomb = (0..150).fold(Archive::tiny(), |archive, n| archive.long_name(&deep(n)).file("short", b""));
    scene.refuses("deep", bomb, "more than 256 directories in one another");
}

/// Numbers that are the same in each run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// A small archive with an entry of every kind.
fn varied() -> Vec<u8> {
    Archive::default()
        .dir("sbin")
        .program("sbin/init", b"#!/bin/sh\n")
        .dir("etc")
        .file("etc/passwd", b"root:x:0:0::/:\n")
        .xattrs(&[("user.note", b"x"), ("security.capability", &[0; 20])])
        .file("etc/noted", &[7; 700])
        .symlink("etc/link", "/etc/passwd")
        .hard_link("etc/hard", "etc/passwd")
        .fifo("etc/fifo")
        .hole("etc/hole", 1 << 20)
        .device("etc/null", EntryType::Char, 1, 3)
        .long_name(&b"long/".repeat(40))
        .dir("long")
        .file("last", &[1; 1500])
        .finish()
}

/// Refused in words or taken, never more.
fn survives(scene: &Scene, what: &str, archive: &[u8]) {
    let output = scene.import(archive);
    if output.status.success() {
        scene.host.ok(&["template", "delete", "h"]);
    } else {
        let (error, _) = message(&output);
        assert!(error.starts_with("cannot unpack the template: "), "{what}: {error}");
    }
    scene.untouched(what);
}

#[test]
fn archives_cut_anywhere() {
    let scene = Scene::new();
    let whole = varied();
    let mut seeded = Seeded(20);
    for _ in 0..20 {
        let cut = seeded.below(whole.len() - 1024);
        let output = scene.import(&whole[..cut]);
        assert!(!output.status.success(), "cut after {cut} bytes of {}: imported", whole.len());
        message(&output);
        scene.untouched(&format!("cut after {cut} bytes"));
    }
}

#[test]
fn archives_with_a_bit_turned_anywhere() {
    let scene = Scene::new();
    let whole = varied();
    let mut seeded = Seeded(21);
    for _ in 0..20 {
        let bit = seeded.below(whole.len() * 8);
        let mut spoilt = whole.clone();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        survives(&scene, &format!("bit {bit}"), &spoilt);
    }
    // The same where no checksum stands guard: the header's is put right again.
    for _ in 0..20 {
        let header = seeded.below(whole.len() / 512) * 512;
        let mut spoilt = whole.clone();
        spoilt[header + seeded.below(512)] ^= 1 << seeded.below(8);
        let sum = |block: &[u8]| -> u32 {
            let blank = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
            block.iter().enumerate().map(|(at, byte)| u32::from(blank(at, *byte))).sum()
        };
        let text = format!("{:06o}\0 ", sum(&spoilt[header..header + 512]));
        spoilt[header + 148..header + 156].copy_from_slice(text.as_bytes());
        survives(&scene, &format!("header at {header}"), &spoilt);
    }
}
