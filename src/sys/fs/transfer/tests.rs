use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::frame::{Frame, Meta, Reader, Writer};
use super::*;
use crate::model::file_job::{Counts, Delete, FailedKind, FileJob, FileReport, Pull, Push};
use crate::sys::fs::transfer::trouble::Outcome;

const META: Meta = Meta { mode: 0o640, uid: 7, gid: 8 };

fn opened(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn base(path: &Path) -> Base {
    Base { dir: opened(path), name: None }
}

const MINE: Rules = Rules { owners: Owners::Mine, mode: None, mask: 0o777, keep: false };

/// What `write` makes of a stream that `read` has filled. Both are threads here.
fn through<T: Send>(read: impl FnOnce(OwnedFd) + Send, write: impl FnOnce(OwnedFd) -> T + Send) -> T {
    let (input, output) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| read(output.into()));
        scope.spawn(|| write(input.into())).join().unwrap()
    })
}

fn copied(source: &Path, target: &Path) -> Outcome<Counts> {
    through(
        |output| {
            let mut nobody = |_| {};
            let mut packer = Packer::new(output, &mut nobody);
            packer.opened(opened(source), b"copy").unwrap();
            packer.finish().unwrap();
        },
        |input| unpack(input, &base(target), MINE, &mut |_| {}),
    )
}

/// What becomes of these frames.
fn sent(frames: &[Frame<'_>], target: &Path) -> Outcome<Counts> {
    through(
        |output| {
            let mut writer = Writer::new(output);
            // Whoever reads may have heard enough.
            frames.iter().all(|frame| writer.send(frame).is_ok());
        },
        |input| unpack(input, &base(target), MINE, &mut |_| {}),
    )
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| source.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::write(at("a/file"), "content").unwrap();
    fs::set_permissions(at("a/file"), PermissionsExt::from_mode(0o4751)).unwrap();
    fs::write(at("a/empty"), "").unwrap();
    fs::write(source.path().join(OsStr::from_bytes(b"a/odd \xff\n\x1b")), "odd").unwrap();
    symlink("/nowhere", at("a/link")).unwrap();
    nix::unistd::mkfifo(&at("a/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::set_permissions(at("a/b"), PermissionsExt::from_mode(0o500)).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    sparse.write_all_at(b"x", 5 << 20).unwrap();
    sparse.set_len(40 << 20).unwrap();
    let counts = copied(source.path(), target.path()).unwrap();
    assert_eq!(counts.entries, 8);
    let at = |name: &str| target.path().join("copy").join(name);
    assert_eq!(names(&at("a")).len(), 5, "the fifo stays where it is");
    assert_eq!(fs::read_to_string(at("a/file")).unwrap(), "content");
    assert_eq!(fs::metadata(at("a/file")).unwrap().mode() & 0o7777, 0o751, "not set-user-id");
    assert_eq!(fs::metadata(at("a/b")).unwrap().mode() & 0o7777, 0o700);
    let odd = target.path().join(OsStr::from_bytes(b"copy/a/odd \xff\n\x1b"));
    assert_eq!(fs::read_to_string(odd).unwrap(), "odd");
    assert_eq!(fs::read_link(at("a/link")).unwrap(), Path::new("/nowhere"));
    let sparse = fs::metadata(at("sparse")).unwrap();
    assert_eq!(sparse.len(), 40 << 20);
    assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
    // Again: what is there is replaced, and no more.
    copied(source.path(), target.path()).unwrap();
    assert_eq!(names(target.path()), ["copy"]);
}

#[test]
fn a_stream_that_was_cut_off_leaves_nothing() {
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("there"), "old").unwrap();
    let file = Frame::File { meta: META, name: b"there" };
    let dir = Frame::Directory { meta: META, name: b"new" };
    let half = Frame::Bytes(b"half");
    for frames in [
        vec![file, half],
        vec![Frame::File { meta: META, name: b"there" }, Frame::Bytes(b"half"), Frame::Failed],
        vec![dir, Frame::File { meta: META, name: b"x" }, Frame::End, Frame::Failed],
    ] {
        let trouble = sent(&frames, target.path()).unwrap_err();
        assert_eq!(trouble.kind, FailedKind::Cut);
        assert_eq!(names(target.path()), ["there"], "{frames:?}");
        assert_eq!(fs::read_to_string(target.path().join("there")).unwrap(), "old");
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let target = tempfile::tempdir().unwrap();
    for name in [&b""[..], b".", b"..", b"a/b", b"/etc", b"a\0", &[b'x'; 256]] {
        for frame in [Frame::File { meta: META, name }, Frame::Directory { meta: META, name }] {
            sent(&[frame, Frame::End, Frame::Done], target.path()).unwrap_err();
        }
        let link = Frame::Link { meta: META, name, target: b"x" };
        sent(&[link, Frame::Done], target.path()).unwrap_err();
    }
    // Frames where they make no sense.
    for frames in [vec![Frame::End], vec![Frame::Bytes(b"x")], vec![Frame::Hole(1)]] {
        sent(&frames, target.path()).unwrap_err();
    }
    let file = || Frame::File { meta: META, name: b"x" };
    sent(&[file(), Frame::Done], target.path()).unwrap_err();
    sent(&[file(), file()], target.path()).unwrap_err();
    sent(&[file(), Frame::Hole(u64::MAX), Frame::End, Frame::Done], target.path()).unwrap_err();
    assert_eq!(names(target.path()), [""; 0]);
}

#[test]
fn a_link_that_was_sent_is_not_followed() {
    let (target, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let canary = outside.path().as_os_str().as_bytes();
    let link = || Frame::Link { meta: META, name: b"a", target: canary };
    let dir = || Frame::Directory { meta: META, name: b"a" };
    let file = || Frame::File { meta: META, name: b"x" };
    let top = || Frame::Directory { meta: META, name: b"top" };
    let frames = [top(), link(), dir(), file(), Frame::Bytes(b"bad"), Frame::End, Frame::End, Frame::End];
    let trouble = sent(&frames, target.path()).unwrap_err();
    assert!(trouble.told().text.contains("a symbolic link is in its place"), "{:?}", trouble.told());
    // The same where the link has been there before.
    symlink(outside.path(), target.path().join("a")).unwrap();
    sent(&[dir(), file(), Frame::End, Frame::End, Frame::Done], target.path()).unwrap_err();
    // A file takes the place of a link, and not of what it leads to.
    let to_file = outside.path().join("kept");
    fs::write(&to_file, "kept").unwrap();
    symlink(&to_file, target.path().join("x")).unwrap();
    sent(&[file(), Frame::Bytes(b"new"), Frame::End, Frame::Done], target.path()).unwrap();
    assert_eq!(fs::read_to_string(&to_file).unwrap(), "kept");
    assert_eq!(fs::read_to_string(target.path().join("x")).unwrap(), "new");
    assert_eq!(names(outside.path()), ["kept"]);
}

#[test]
fn nonsense_is_no_frame() {
    let target = tempfile::tempdir().unwrap();
    for bytes in [
        &b"f\xff\xff\xff\xff"[..],
        b"?\0\0\0\0",
        b"l\x0d\0\0\0aaaaaaaaaaaa\xff",
        b"h\x01\0\0\0x",
        b"e\x01\0\0\0x",
        b"f\x02\0\0\0xx",
    ] {
        let write = |output: OwnedFd| drop(File::from(output).write_all(bytes));
        let outcome = through(write, |input| unpack(input, &base(target.path()), MINE, &mut |_| {}));
        assert!(outcome.is_err(), "{}", bytes.escape_ascii());
    }
    assert_eq!(names(target.path()), [""; 0]);
    let (input, output) = std::io::pipe().unwrap();
    drop(output);
    let error = Reader::new(input.into()).next().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

/// What the process in the guest's tree tells of a job whose input is `frames`.
fn served(job: &FileJob, root: &Path, frames: &[Frame<'_>]) -> FileReport {
    let (input, sent) = std::io::pipe().unwrap();
    let mut writer = Writer::new(sent.into());
    frames.iter().for_each(|frame| writer.send(frame).unwrap());
    drop(writer);
    let output = File::create("/dev/null").unwrap();
    let report = tempfile::NamedTempFile::new().unwrap();
    let writes: OwnedFd = report.reopen().unwrap().into();
    let root = opened(root);
    serve(job, root.as_fd(), input.into(), output.into(), &writes);
    let text = fs::read_to_string(report.path()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn push(path: &str) -> Push {
    let (uid, gid) = (Some(nix::unistd::getuid().as_raw()), Some(nix::unistd::getgid().as_raw()));
    Push { path: path.into(), into: false, parents: false, uid, gid, mode: None, keep: false }
}

#[test]
fn paths_stay_within_the_tree() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(outside.path().join("file"), "of the host").unwrap();
    symlink(outside.path(), root.path().join("out")).unwrap();
    symlink(outside.path().join("file"), root.path().join("etc/out")).unwrap();
    symlink("../etc/real", root.path().join("etc/alias")).unwrap();
    let file = || [Frame::File { meta: META, name: b"x" }, Frame::Bytes(b"new"), Frame::End, Frame::Done];
    let done = |job: Push| served(&FileJob::Push(job), root.path(), &file());
    let is_done = |report: &FileReport| matches!(report, FileReport::Done(_));
    assert!(is_done(&done(push("/etc"))), "into a directory");
    assert!(root.path().join("etc/x").exists());
    assert!(is_done(&done(push("/etc/../../../../y"))));
    assert!(root.path().join("y").exists());
    assert!(is_done(&done(push("/etc/alias"))), "a link at the end is followed");
    assert_eq!(fs::read_to_string(root.path().join("etc/real")).unwrap(), "new");
    for path in ["/out/x", "/etc/out", "/etc/missing/x", "/etc/missing/"] {
        let FileReport::Failed(failed) = done(push(path)) else { panic!("{path}") };
        assert_eq!(failed.kind, FailedKind::NoParent, "{path}: {}", failed.text);
    }
    assert!(is_done(&done(Push { parents: true, ..push("/etc/missing/deep/x") })));
    assert!(root.path().join("etc/missing/deep/x").is_file());
    let pull = |path: &str| {
        let pull = Pull { path: path.into(), recursive: false, root_name: "c".into() };
        served(&FileJob::Pull(pull), root.path(), &[])
    };
    assert!(is_done(&pull("/etc/alias")));
    assert!(!is_done(&pull("/out/file")) && !is_done(&pull("/etc")));
    let delete = |path: &str, recursive: bool| {
        let delete = Delete { path: path.into(), recursive, if_exists: false };
        served(&FileJob::Delete(delete), root.path(), &[])
    };
    assert!(
        is_done(&delete("/out", true)) && !is_done(&delete("/", true)) && !is_done(&delete("/etc/..", true))
    );
    assert!(!is_done(&delete("/etc", false)) && is_done(&delete("/etc", true)));
    assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "of the host");
    assert_eq!(names(outside.path()), ["file"]);
}

#[test]
fn ids_that_no_container_has_are_told_of() {
    let root = tempfile::tempdir().unwrap();
    let frames = [
        Frame::File { meta: Meta { uid: 65_536, ..META }, name: b"x" },
        Frame::Bytes(b"x"),
        Frame::End,
        Frame::Done,
    ];
    let report = served(&FileJob::Push(Push { uid: None, ..push("/x") }), root.path(), &frames);
    let FileReport::Failed(failed) = report else { panic!("{report:?}") };
    assert_eq!(failed.kind, FailedKind::NoSuchId);
    assert_eq!(names(root.path()), [""; 0]);
}
