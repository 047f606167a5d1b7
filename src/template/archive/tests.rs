//! Archives that nobody would make by accident.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::error::ExtractError;
use super::extract::{Extracted, extract};
use super::limits::Limits;

const MTIME: u64 = 1_000_000_000;

/// Writes headers byte by byte: the `tar` crate's builder refuses most of what is tested here.
#[derive(Default, Clone)]
struct Archive(Vec<u8>);

impl Archive {
    fn entry(self, kind: EntryType, name: &str) -> Self {
        self.raw(kind, name, "", b"", |_| {})
    }

    fn dir(self, name: &str) -> Self {
        self.raw(EntryType::Directory, name, "", b"", |header| header.set_mode(0o755))
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.raw(EntryType::Regular, name, "", data, |_| {})
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, name, target, b"", |_| {})
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(EntryType::Link, name, target, b"", |_| {})
    }

    fn raw(
        mut self,
        kind: EntryType,
        name: &str,
        link: &str,
        data: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(MTIME);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = 3 + key.len() + value.len();
            let length = (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(EntryType::XHeader, "PaxHeader", "", &data, |_| {})
    }

    fn long(self, kind: EntryType, name: &[u8]) -> Self {
        let mut archive = self.raw(kind, "././@LongLink", "", &[name, b"\0"].concat(), |header| {
            header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
        });
        archive.0.resize(archive.0.len().next_multiple_of(512), 0);
        archive
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A place to unpack into, beside a file that no archive may reach.
pub(super) struct Place {
    dir: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/canary"), "alive").unwrap();
        Self { dir }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").to_str().unwrap().to_owned()
    }

    fn extract_with(&self, archive: &[u8], limits: &Limits) -> Result<Extracted, ExtractError> {
        let root = File::open(self.path("")).unwrap();
        let result = extract(archive, root.as_fd(), limits, &mut |_| {});
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["canary"]);
        let canary = self.dir.path().join("outside/canary");
        assert_eq!(fs::read(&canary).unwrap(), b"alive");
        assert_eq!(fs::metadata(&canary).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 2);
        result
    }

    pub(super) fn extract(&self, archive: &[u8]) -> Result<Extracted, ExtractError> {
        self.extract_with(archive, &Limits::default())
    }
}

fn refused(archive: Archive) -> ExtractError {
    Place::new().extract(&archive.end()).expect_err("the archive is refused")
}

#[test]
fn names_that_leave_the_tree_refuse_the_archive() {
    for name in ["/etc/passwd", "../x", "a/../../x", "a/..", "./..", "..", "//x"] {
        let error = refused(Archive::default().file(name, b"x"));
        assert!(matches!(&error, ExtractError::Climbs { entry, .. } if entry == name), "{name}: {error}");
        let long = Archive::default().long(EntryType::GNULongName, name.as_bytes()).file("ok", b"x");
        assert!(matches!(refused(long), ExtractError::Climbs { .. }), "{name}");
        let pax = Archive::default().pax(&[("path", name.as_bytes())]).file("ok", b"x");
        assert!(matches!(refused(pax), ExtractError::Climbs { .. }), "{name}");
        let link = Archive::default().hard_link("ok", name);
        assert!(matches!(refused(link), ExtractError::Climbs { .. }), "{name}");
    }
}

#[test]
fn nothing_is_written_through_a_symbolic_link() {
    let place = Place::new();
    let outside = place.outside();
    for target in [outside.as_str(), "../outside", "../root/../outside", "a", "nowhere"] {
        for child in ["a/x", "a/b/x"] {
            let archive = Archive::default().symlink("a", target).file(child, b"pwned");
            assert!(matches!(refused(archive), ExtractError::BelowLink { .. }), "{target} {child}");
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let chain = Archive::default().symlink("a", "b").symlink("b", "../outside").file("a/x", b"");
    assert!(matches!(refused(chain), ExtractError::BelowLink { .. }));
    let to_file = Archive::default().file("f", b"").symlink("a", "f").file("a/x", b"");
    assert!(matches!(refused(to_file), ExtractError::BelowLink { .. }));
    let file = Archive::default().file("a", b"").file("a/x", b"");
    assert!(matches!(refused(file), ExtractError::BelowLink { .. }));
}

#[test]
fn an_entry_below_a_link_lands_where_the_link_leads_in_the_tree() {
    let place = Place::new();
    let up = "../".repeat(30);
    let archive = Archive::default()
        .dir("usr/lib64")
        .raw(EntryType::Directory, "usr/lib", "", b"", |header| header.set_mode(0o750))
        .symlink("lib64", "usr/lib64")
        .symlink("lib", "/usr/lib")
        .symlink("high", &format!("{up}usr"))
        .symlink("chain", "./high/../lib")
        .symlink("usr/self", "..")
        .file("lib64/ld.so", b"ld")
        .file("chain/modules/x/y", b"y")
        .file("usr/self/top", b"top")
        .symlink("lib/link", "ld.so")
        .hard_link("high/hard", "lib64/ld.so")
        .raw(EntryType::Directory, "lib/modules", "", b"", |header| header.set_mode(0o711))
        .dir("lib64")
        .end();
    place.extract(&archive).unwrap();
    let meta = |name: &str| fs::symlink_metadata(place.path(name)).unwrap();
    assert_eq!(fs::read(place.path("usr/lib64/ld.so")).unwrap(), b"ld");
    assert_eq!(meta("usr/hard").ino(), meta("usr/lib64/ld.so").ino());
    assert_eq!(fs::read(place.path("usr/lib/modules/x/y")).unwrap(), b"y");
    assert_eq!(fs::read(place.path("top")).unwrap(), b"top");
    assert_eq!(fs::read_link(place.path("usr/lib/link")).unwrap(), Path::new("ld.so"));
    assert_eq!((meta("usr/lib").mode() & 0o7777, meta("usr/lib/modules").mode() & 0o7777), (0o750, 0o711));
    // The last component is never followed.
    assert!(meta("lib64").is_dir());
    // A path through a link is no way to be longer or deeper than others.
    let limits = Limits { depth: 4, ..Limits::default() };
    let deep = Archive::default().dir("a/b/c").symlink("l", "a/b/c").file("l/d/e", b"").end();
    let result = Place::new().extract_with(&deep, &limits);
    assert!(matches!(result, Err(ExtractError::Limit { .. })), "{result:?}");
}

#[test]
fn links_without_end_lead_nowhere() {
    // Each leads through the next, many times over.
    let mut archive = Archive::default();
    for n in 0..40 {
        archive = archive.symlink(&format!("l{n}"), &format!("l{}/", n + 1).repeat(24));
    }
    let error = refused(archive.dir("l40").file("l0/x", b""));
    assert!(matches!(error, ExtractError::BelowLink { .. }), "{error}");
}

#[test]
fn labels_and_dumped_directories_are_taken() {
    let place = Place::new();
    let archive = Archive::default()
        .raw(EntryType::new(b'V'), "backup of today", "", b"", |_| {})
        .raw(EntryType::new(b'D'), "etc/", "", b"Yhostname\0\0", |header| header.set_mode(0o711))
        .file("etc/hostname", b"x")
        .end();
    assert_eq!(place.extract(&archive).unwrap().entries, 2);
    assert_eq!(fs::metadata(place.path("etc")).unwrap().mode() & 0o7777, 0o711);
    assert!(!place.path("backup of today").exists());
    let volume = Archive::default().raw(EntryType::new(b'M'), "f", "", b"rest", |_| {});
    assert!(matches!(refused(volume), ExtractError::Unsupported { .. }));
}

#[test]
fn what_is_packed_but_no_tar_is_named() {
    let packed = zstd::encode_all(&b"070701000002D1"[..], 1).unwrap();
    let error = Place::new().extract(&packed).unwrap_err();
    assert!(error.to_string().contains("a cpio archive"), "{error}");
    assert!(error.hint().unwrap().contains("bsdtar"));
}

#[test]
fn a_name_taken_by_a_link_is_made_anew() {
    let place = Place::new();
    let canary = place.outside() + "/canary";
    let archive = Archive::default()
        .symlink("file", &canary)
        .file("file", b"mine")
        .symlink("dir", &place.outside())
        .dir("dir/")
        .file("dir/x", b"inside");
    place.extract(&archive.end()).unwrap();
    assert_eq!(fs::read(place.path("file")).unwrap(), b"mine");
    assert!(fs::symlink_metadata(place.path("dir")).unwrap().is_dir());
    assert_eq!(fs::read(place.path("dir/x")).unwrap(), b"inside");
}

#[test]
fn a_directory_replaced_by_a_link_is_not_entered_again() {
    let place = Place::new();
    let outside = place.outside();
    let archive = Archive::default().dir("d").symlink("d", &outside).file("d/x", b"");
    assert!(matches!(place.extract(&archive.end()), Err(ExtractError::BelowLink { .. })));

    // The parent is at hand from 'd/x' when it goes.
    let place = Place::new();
    let archive = Archive::default()
        .file("d/x", b"")
        .entry(EntryType::Char, "d/x")
        .symlink("d", &place.outside())
        .file("d/y", b"");
    assert!(matches!(place.extract(&archive.end()), Err(ExtractError::BelowLink { .. })));

    let full = Archive::default().file("d/x", b"").symlink("d", "/");
    assert!(matches!(refused(full), ExtractError::FullDirectory { .. }));

    let place = Place::new();
    place.extract(&Archive::default().dir("d").symlink("d", "/nowhere").end()).unwrap();
    assert_eq!(fs::read_link(place.path("d")).unwrap(), Path::new("/nowhere"));
}

#[test]
fn hard_links_point_to_files_of_the_archive_only() {
    let place = Place::new();
    let archive = Archive::default().file("a/f", b"x").hard_link("g", "./a/f").hard_link("g", "g").end();
    place.extract(&archive).unwrap();
    assert_eq!(fs::metadata(place.path("g")).unwrap().ino(), fs::metadata(place.path("a/f")).unwrap().ino());

    let canary = Place::new().outside() + "/canary";
    for (before, target) in [
        (Archive::default(), "missing"),
        (Archive::default(), "no/such"),
        (Archive::default().symlink("s", &canary), "s"),
        (Archive::default().symlink("s", "../outside"), "s/canary"),
        (Archive::default().dir("d"), "d"),
        (Archive::default().entry(EntryType::Fifo, "p"), "p"),
        (Archive::default().file("f", b""), "f/x"),
    ] {
        let place = Place::new();
        let result = place.extract(&before.hard_link("link", target).end());
        assert!(matches!(result, Err(ExtractError::LinkTarget { .. })), "{target}");
    }
}

#[test]
fn devices_are_left_out_with_the_links_to_them() {
    let place = Place::new();
    let archive = Archive::default()
        .raw(EntryType::Block, "sda", "", b"", |header| {
            header.set_device_major(8).unwrap();
            header.set_mode(0o666);
        })
        .entry(EntryType::Char, "whiteout")
        .hard_link("sdb", "sda")
        .raw(EntryType::Fifo, "fifo", "", b"", |header| {
            header.set_mode(0o622);
            header.set_uid(33);
        })
        .end();
    let extracted = place.extract(&archive).unwrap();
    assert_eq!((extracted.skipped_devices, extracted.entries), (3, 4));
    let fifo = fs::metadata(place.path("fifo")).unwrap();
    assert!(fifo.file_type().is_fifo());
    assert_eq!((fifo.mode() & 0o7777, fifo.uid(), fifo.mtime()), (0o622, 33, MTIME as i64));
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 1);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = Place::new();
    let archive = Archive::default()
        .file("f", b"first")
        .hard_link("other", "f")
        .file("f", b"second")
        .dir("d")
        .raw(EntryType::Directory, "d", "", b"", |header| header.set_mode(0o1777))
        .file("was-file", b"")
        .dir("was-file")
        .end();
    place.extract(&archive).unwrap();
    assert_eq!(fs::read(place.path("f")).unwrap(), b"second");
    assert_eq!(fs::read(place.path("other")).unwrap(), b"first");
    assert_eq!(fs::metadata(place.path("d")).unwrap().mode() & 0o7777, 0o1777);
    assert!(fs::metadata(place.path("was-file")).unwrap().is_dir());
}

#[test]
fn owners_modes_and_times_are_kept() {
    let place = Place::new();
    let archive = Archive::default()
        .raw(EntryType::Directory, "./", "", b"", |header| header.set_mode(0o711))
        .raw(EntryType::Directory, "locked/", "", b"", |header| header.set_mode(0))
        .raw(EntryType::Directory, "mail/", "", b"", |header| {
            header.set_mode(0o2775);
            header.set_gid(8);
        })
        .file("mail/box", b"")
        .raw(EntryType::Regular, "locked/su", "", b"elf", |header| {
            header.set_mode(0o6755);
            header.set_uid(1000);
            header.set_gid(65_534);
        })
        .file("implied/a/b", b"")
        .end();
    place.extract(&archive).unwrap();
    let meta = |name: &str| fs::symlink_metadata(place.path(name)).unwrap();
    assert_eq!((meta("").mode() & 0o7777, meta("").mtime()), (0o711, MTIME as i64));
    assert_eq!((meta("locked").mode() & 0o7777, meta("locked").mtime()), (0, MTIME as i64));
    assert_eq!((meta("mail").mode() & 0o7777, meta("mail").gid(), meta("mail/box").gid()), (0o2775, 8, 0));
    let su = meta("locked/su");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid()), (0o6755, 1000, 65_534));
    assert_eq!(meta("implied").mode() & 0o7777, 0o755);

    let place = Place::new();
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o2700)).unwrap();
    place.extract(&Archive::default().file("f", b"").end()).unwrap();
    assert_eq!(fs::metadata(place.path("")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn ids_outside_the_range_refuse_the_archive() {
    let big = Archive::default().raw(EntryType::Regular, "f", "", b"", |header| header.set_uid(65_536));
    assert!(matches!(refused(big), ExtractError::Owner { id: 65_536, .. }));
    let pax = Archive::default().pax(&[("gid", b"4294967296")]).file("f", b"");
    assert!(matches!(refused(pax), ExtractError::Owner { id: 4_294_967_296, .. }));
    let fine = Archive::default().pax(&[("uid", b"65535")]).file("f", b"").end();
    let place = Place::new();
    place.extract(&fine).unwrap();
    assert_eq!(fs::metadata(place.path("f")).unwrap().uid(), 65_535);
}

#[test]
fn attributes_are_admitted_by_list() {
    let place = Place::new();
    // vfs_cap_data, version 2, effective, CAP_NET_RAW
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = Archive::default()
        .pax(&[
            ("SCHILY.xattr.user.note", b"line\nline\n"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"x"),
            ("SCHILY.xattr.security.capability", &capability),
            ("RHT.security.selinux", b"x"),
        ])
        .raw(EntryType::Regular, "ping", "", b"elf", |header| {
            header.set_uid(7);
            header.set_mode(0o755);
        })
        .pax(&[("SCHILY.xattr.user.overlay.opaque", b"y"), ("SCHILY.xattr.user.d", b"v")])
        .dir("d")
        .pax(&[("SCHILY.xattr.user.link", b"y")])
        .symlink("s", "ping")
        .end();
    let extracted = place.extract(&archive).unwrap();
    assert_eq!(extracted.dropped_xattrs, 6);
    assert_eq!(xattrs(&place.path("ping")), ["security.capability", "user.note"]);
    assert_eq!(xattrs(&place.path("d")), ["user.d"]);
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(place.path("ping"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"line\nline\n");
}

pub(super) fn xattrs(path: &Path) -> Vec<String> {
    let mut buffer = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut buffer[..]).unwrap();
    let mut names: Vec<_> = buffer[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn two_readers_cannot_be_shown_two_archives() {
    let inner = Archive::default().file("smuggled", b"x").0;
    let mismatch = Archive::default().pax(&[("size", b"0")]).file("f", &inner);
    assert!(matches!(refused(mismatch), ExtractError::Malformed { .. }));
    let both =
        Archive::default().long(EntryType::GNULongName, b"one").pax(&[("path", b"two")]).file("three", b"");
    assert!(matches!(refused(both), ExtractError::Malformed { .. }));
    let twice = Archive::default().pax(&[("path", b"one")]).pax(&[("path", b"two")]).file("three", b"");
    assert!(matches!(refused(twice), ExtractError::Malformed { .. }));
    for kind in [EntryType::Link, EntryType::Symlink, EntryType::Directory, EntryType::Char, EntryType::Fifo]
    {
        let data = Archive::default().file("f", b"").raw(kind, "x", "f", &inner, |_| {});
        assert!(matches!(refused(data), ExtractError::Malformed { .. }), "{kind:?}");
    }
    let global = Archive::default().raw(EntryType::XGlobalHeader, "g", "", b"12 path=abc\n", |_| {});
    assert!(matches!(refused(global.file("f", b"")), ExtractError::Unsupported { .. }));
    let zero = Archive::default().pax(&[("path", b"a\0b")]).file("f", b"");
    assert!(matches!(refused(zero), ExtractError::Malformed { .. }));
    let root = Archive::default().symlink("./", "/");
    assert!(matches!(refused(root), ExtractError::Malformed { .. }));
    let unknown = Archive::default().entry(EntryType::new(b'Q'), "f");
    assert!(matches!(refused(unknown), ExtractError::Unsupported { .. }));
}

#[test]
fn limits_hold() {
    let limit = |change: fn(&mut Limits), archive: Archive| {
        let mut limits = Limits::default();
        change(&mut limits);
        let result = Place::new().extract_with(&archive.end(), &limits);
        assert!(matches!(result, Err(ExtractError::Limit { .. })), "{result:?}");
    };
    limit(|l| l.entries = 2, Archive::default().dir("a").dir("b").dir("c"));
    limit(|l| l.bytes = 100_000, Archive::default().file("f", &[0; 100_001]));
    limit(|l| l.path = 5, Archive::default().file("a/b/cd", b""));
    limit(|l| l.paths = 10, Archive::default().dir("abcdef").dir("ghijkl"));
    // Directories that no entry names count like those that one does.
    limit(|l| l.entries = 4, Archive::default().file("a/b/c/d", b"").file("e", b""));
    limit(|l| l.paths = 30, Archive::default().file("aaaaaa/bbbbbb/cccccc/d", b""));
    limit(|l| l.bytes = 100_000, (0..25).fold(Archive::default(), |all, n| all.file(&n.to_string(), b"")));
    limit(|l| l.bytes = 100_000, Archive::default().file(&"d/".repeat(30), b"").file("x", b""));
    // What waits in memory for the end counts, and so do headers that come to nothing.
    let noted = Archive::default().pax(&[("SCHILY.xattr.user.a", &[b'x'; 400])]);
    limit(|l| l.paths = 300, noted.dir("d"));
    limit(
        |l| l.headers = 4096,
        (0..9).fold(Archive::default(), |all, _| all.raw(EntryType::XGlobalHeader, "g", "", b"", |_| {})),
    );
    limit(|l| l.metadata = 100, Archive::default().pax(&[("comment", &[b'x'; 100])]).file("f", b""));
    limit(
        |_| {},
        Archive::default()
            .file(&"n".repeat(100), b"")
            .long(EntryType::GNULongName, &[b'n'; 256])
            .file("f", b""),
    );
    limit(|_| {}, Archive::default().long(EntryType::GNULongName, &b"n/".repeat(2100)).file("f", b""));

    // The size alone, without the data, is enough.
    let claim = |size: u64| {
        Archive::default().raw(EntryType::Regular, "f", "", b"", move |header| header.set_size(size))
    };
    limit(|_| {}, claim(1 << 40));
    limit(|_| {}, claim(u64::MAX >> 1));
    let name =
        Archive::default().raw(EntryType::GNULongName, "x", "", b"", |header| header.set_size(1 << 33));
    limit(|_| {}, name);

    let nested = "d/".repeat(2000);
    limit(|_| {}, Archive::default().long(EntryType::GNULongName, nested.as_bytes()).dir("x"));
    let deep = "d/".repeat(255);
    let deep = Archive::default().long(EntryType::GNULongName, deep.as_bytes()).dir("x").end();
    assert_eq!(Place::new().extract(&deep).unwrap().entries, 1);
}

#[test]
fn bombs_are_refused_early() {
    let bomb = Archive::default().file("zeros", &vec![0; 80 << 20]).end();
    let packed = zstd::encode_all(&bomb[..], 1).unwrap();
    assert!(matches!(Place::new().extract(&packed), Err(ExtractError::Ratio { .. })));
}

#[test]
fn cut_off_archives_are_refused() {
    let whole = Archive::default().file("f", &[1; 700]).dir("d").file("g", b"x").end();
    for cut in 0..whole.len() - 512 {
        assert!(Place::new().extract(&whole[..cut]).is_err(), "{cut} bytes");
    }
    assert!(Place::new().extract(&whole[..whole.len() - 512]).is_ok());
    let packed = zstd::encode_all(&whole[..], 1).unwrap();
    assert!(matches!(Place::new().extract(&packed[..packed.len() - 1]), Err(ExtractError::Truncated)));
    let dangling = Archive::default().long(EntryType::GNULongName, b"name").end();
    assert!(matches!(Place::new().extract(&dangling), Err(ExtractError::Truncated)));
}

#[test]
fn a_used_target_is_refused() {
    let place = Place::new();
    fs::create_dir(place.path("old")).unwrap();
    assert!(matches!(place.extract(&Archive::default().end()), Err(ExtractError::TargetInUse)));
}

#[test]
fn the_id_covers_every_byte_and_no_compression() {
    let mut stream = Archive::default().file("f", b"x").end();
    stream.extend_from_slice(b"after the end");
    let expected: String = Sha256::digest(&stream).iter().map(|byte| format!("{byte:02x}")).collect();
    let packed = zstd::encode_all(&stream[..], 1).unwrap();
    for data in [&stream, &packed] {
        assert_eq!(Place::new().extract(data).unwrap().id.as_str(), expected);
    }
}

#[test]
fn names_in_errors_are_fit_for_a_terminal() {
    let error = refused(Archive::default().file("../\x1b[2J\u{202e}x\n", b"")).to_string();
    assert!(error.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    /// Any damage: never a panic, never a byte outside.
    #[test]
    fn damaged_archives_stay_inside(flips in prop::collection::vec((0usize..7000, any::<u8>()), 1..6)) {
        let place = Place::new();
        let mut archive = Archive::default()
            .dir("./")
            .symlink("out", "../outside")
            .pax(&[("path", b"some/where"), ("SCHILY.xattr.user.a", b"b")])
            .file("short", b"data")
            .hard_link("hard", "some/where")
            .long(EntryType::GNULongName, b"long/name")
            .file("x", &[7; 600])
            .end();
        let length = archive.len();
        let mut touched = Vec::new();
        for (at, value) in flips {
            archive[at % length] = value;
            touched.push(at % length / 512);
        }
        // Make the damage look whole, or the checksum hides everything behind it.
        for block in touched {
            let header = &mut archive[block * 512..block * 512 + 512];
            if &header[257..262] == b"ustar" {
                let mut fixed = Header::from_byte_slice(header).clone();
                fixed.set_cksum();
                header.copy_from_slice(fixed.as_bytes());
            }
        }
        let _ = place.extract(&archive);
    }
}
