use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use sha2::Digest;

use rustix::fs::Mode;

use super::walk::DEPTH;
use super::*;

fn dir(path: &Path) -> OwnedFd {
    OwnedFd::from(File::open(path).unwrap())
}

fn sh(dir: &Path, script: &str) {
    let done = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

/// All that a tree is, by path: as stat(1), getfattr(1) and the content tell.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let list =
        Command::new("find").args([".", "-printf", "%P\\0"]).current_dir(root).output().unwrap().stdout;
    let mut all = BTreeMap::new();
    for path in list.split(|b| *b == 0).filter_map(|p| std::str::from_utf8(p).ok()) {
        let at = root.join(path);
        let meta = fs::symlink_metadata(&at).unwrap();
        let (links, size) = if meta.is_dir() { (0, 0) } else { (meta.nlink(), meta.len()) };
        let content = if meta.is_file() { fs::read(&at).unwrap() } else { Vec::new() };
        let content = sha2::Sha256::digest(content)[0];
        let target = fs::read_link(&at).ok();
        let attrs =
            Command::new("getfattr").args(["-hdm-", "--absolute-names"]).arg(&at).output().unwrap().stdout;
        let attrs = String::from_utf8(attrs).unwrap().lines().skip(1).collect::<Vec<_>>().join(" ");
        let is_whiteout = meta.file_type().is_char_device();
        let time = if is_whiteout { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        let owner = (meta.uid(), meta.gid());
        let what = format!(
            "{:o} {owner:?} {links} {} {size} {time:?} {target:?} {attrs} {content:?}",
            meta.mode(),
            meta.rdev()
        );
        // What overlayfs notes for itself about a directory is left behind.
        let what = what.replace("user.overlay.uuid=\"x\"", "");
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        all.insert(path.to_owned(), what);
    }
    all
}

fn assert_same(found: &Path, wanted: &Path) {
    let (found, wanted) = (tree(found), tree(wanted));
    for (path, what) in &wanted {
        assert_eq!(found.get(path), Some(what), "{path}");
    }
    assert_eq!(found.len(), wanted.len());
}

fn copied(layers: &[&Path], marks: Marks) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let layers: Vec<OwnedFd> = layers.iter().map(|path| dir(path)).collect();
    copy(&layers, &dir(target.path()), marks, &mut |_| {}).unwrap();
    target
}

/// Something of everything.
fn furnish(root: &Path) {
    // A working directory of the thread's own: the copier, which has a process to itself, changes it.
    #[allow(unsafe_code)]
    // SAFETY: nothing here relies on a working directory that threads share.
    unsafe {
        rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS).unwrap()
    };
    sh(
        root,
        "mkdir -p a/b deep/er; echo text >a/file; ln a/file a/b/link; ln -s ../nowhere a/symlink; mkfifo a/pipe
         chmod 4750 a/file; chown 33:44 a/file; chown -h 5:6 a/symlink; chmod 1777 deep; mknod -m 0 a/gone c 0 0
         truncate -s 40M a/holes; printf end >>a/holes; printf middle | dd of=a/holes bs=1 seek=20M conv=notrunc 2>/dev/null
         setfattr -n user.mine -v value a/file; setfattr -n user.overlay.opaque -v y a/b
         setfattr -n user.overlay.uuid -v x a; setfattr -n user.overlay.overlay.forged -v z a
         acl=0x0200000001000600ffffffff020006000700000004000400ffffffff10000600ffffffff20000400ffffffff; setfattr -n system.posix_acl_access -v $acl a/file a/pipe; setfattr -n system.posix_acl_default -v $acl deep
         setcap cap_net_raw+p a/file; touch -d 2200-01-02T03:04:05.678901234Z a/file
         touch \"$(printf 'new\\nline')\"; touch -d 1970-01-01 deep/er deep",
    );
    fs::write(root.join(std::ffi::OsStr::new("ä")), [0xff; 3]).unwrap();
}

#[test]
fn a_copy_is_as_its_source() {
    let source = tempfile::tempdir().unwrap();
    furnish(source.path());
    let copy = copied(&[source.path()], Marks::Kept);
    assert_same(copy.path(), source.path());
    let holes = fs::metadata(copy.path().join("a/holes")).unwrap();
    assert!(holes.blocks() * 512 < 1 << 20, "{} blocks", holes.blocks());
    let (one, two) = (copy.path().join("a/file"), copy.path().join("a/b/link"));
    assert_eq!(fs::metadata(one).unwrap().ino(), fs::metadata(two).unwrap().ino());
}

/// Three layers as the kernel's overlay leaves them.
fn layers() -> [tempfile::TempDir; 3] {
    let made = [(); 3].map(|()| tempfile::tempdir().unwrap());
    sh(
        made[0].path(),
        "mkdir -p etc/old var/log; echo 0 >etc/a; echo 0 >etc/b; echo 0 >etc/old/x; echo 0 >var/log/m; echo 0 >turned",
    );
    sh(made[1].path(), "mkdir -p etc/old var turned; echo 1 >etc/a; mknod etc/b c 0 0; mknod var/log c 0 0; echo 1 >turned/in
        setfattr -n user.overlay.opaque -v y etc/old; echo 1 >etc/old/y");
    sh(
        made[2].path(),
        "mkdir -p etc/old var/log; echo 2 >etc/b; echo 2 >etc/old/z; echo 2 >var/log/n; chmod 700 etc
        setfattr -n user.overlay.opaque -v y var/log",
    );
    made
}

fn contents(root: &Path) -> BTreeMap<String, String> {
    let files = tree(root).into_keys().filter(|path| root.join(path).is_file());
    files.map(|path| (path.clone(), fs::read_to_string(root.join(&path)).unwrap())).collect()
}

#[test]
fn layers_become_one_tree_as_an_overlay_shows_them() {
    let made = layers();
    let [zero, one, two] = [0, 1, 2].map(|n: usize| made[n].path());
    let copy = copied(&[two, one, zero], Marks::Applied);
    let wanted = [
        ("etc/a", "1\n"),
        ("etc/b", "2\n"),
        ("etc/old/y", "1\n"),
        ("etc/old/z", "2\n"),
        ("turned/in", "1\n"),
        ("var/log/n", "2\n"),
    ];
    assert_eq!(contents(copy.path()), wanted.map(|(path, text)| (path.to_owned(), text.to_owned())).into());
    assert_eq!(fs::metadata(copy.path().join("etc")).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(
        !tree(copy.path()).values().any(|what| what.contains("user.overlay.")),
        "a whole tree hides nothing"
    );
}

#[test]
fn layers_become_one_layer_that_hides_the_same() {
    let made = layers();
    let [zero, one, two] = [0, 1, 2].map(|n: usize| made[n].path());
    let merged = copied(&[two, one], Marks::Kept);
    let once = copied(&[merged.path(), zero], Marks::Applied);
    let at_once = copied(&[two, one, zero], Marks::Applied);
    let strip =
        |root: &Path| tree(root).into_iter().filter(|(path, _)| !path.is_empty()).collect::<BTreeMap<_, _>>();
    assert_eq!(strip(once.path()), strip(at_once.path()));
    // The whiteout that no layer above has replaced is there no more than it must be.
    assert!(merged.path().join("etc/b").is_file());
}

#[test]
fn the_last_round_brings_a_copy_up_to_date() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    furnish(source.path());
    sh(
        source.path(),
        "mkdir turns stays; echo 1 >stays/same; echo 1 >becomes; echo 1 >turns/x; echo 1 >changes; mkdir o; setfattr -n user.overlay.opaque -v y o",
    );
    std::thread::sleep(std::time::Duration::from_millis(80));
    let (from, to) = (dir(source.path()), dir(target.path()));
    let mut rounds = Rounds::new(&from, &to);
    rounds.ahead(&mut |_| {}).unwrap();
    sh(
        source.path(),
        "echo 2 >changes; rm -r turns; echo 2 >turns; rm becomes; mkdir -p becomes/dir; rm a/b/link; mv deep moved; touch -d 2001-01-01 stays; rmdir o; mkdir o",
    );
    // A hard link to what was copied already.
    fs::hard_link(source.path().join("stays/same"), source.path().join("stays/again")).unwrap();
    let totals = rounds.last(&mut |_| {}).unwrap();
    assert_same(target.path(), source.path());
    assert!(totals.bytes < 1 << 20, "only what has changed is copied again: {totals:?}");
}

/// The second store to a page that is dirty already changes no time of the file.
#[test]
fn the_last_round_sees_what_is_written_by_a_mapping() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = source.path().join("mapped");
    fs::write(&path, [0u8; 8192]).unwrap();
    let writer = r#"
import mmap, sys
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 8192)
for line in sys.stdin:
    m[0:1] = line[:1].encode()
    print('stored', flush=True)
"#;
    let mut child = Command::new("python3")
        .args(["-c", writer])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to_it, from_it) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(from_it));
    let mut store = |letter: &str| {
        std::io::Write::write_all(&mut to_it, format!("{letter}\n").as_bytes()).unwrap();
        lines.next().unwrap().unwrap();
    };
    store("a");
    std::thread::sleep(std::time::Duration::from_millis(80));
    let (from, to) = (dir(source.path()), dir(target.path()));
    let mut rounds = Rounds::new(&from, &to);
    rounds.ahead(&mut |_| {}).unwrap();
    store("b");
    rounds.last(&mut |_| {}).unwrap();
    let mut byte = [0u8; 1];
    File::open(target.path().join("mapped")).unwrap().read_exact_at(&mut byte, 0).unwrap();
    drop(to_it);
    child.wait().unwrap();
    assert_eq!(byte, *b"b");
}

#[test]
fn links_of_a_hostile_owner_are_not_followed() {
    let (source, secret) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(secret.path().join("secret"), "secret").unwrap();
    symlink(secret.path(), source.path().join("dir")).unwrap();
    symlink(secret.path().join("secret"), source.path().join("file")).unwrap();
    let copy = copied(&[source.path()], Marks::Kept);
    assert_eq!(fs::read_link(copy.path().join("dir")).unwrap(), secret.path());
    assert_eq!(fs::read_link(copy.path().join("file")).unwrap(), secret.path().join("secret"));
}

#[test]
fn a_tree_too_deep_is_refused() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut at = dir(source.path());
    for _ in 0..DEPTH + 2 {
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
        at = node::open_dir(&at, c"d").unwrap();
    }
    // A process's first thread has such a stack.
    let thread = std::thread::Builder::new().stack_size(8 << 20);
    let layers = [dir(source.path())];
    let to = dir(target.path());
    let copying = thread.spawn(move || copy(&layers, &to, Marks::Kept, &mut |_| {}).unwrap_err()).unwrap();
    let error = copying.join().unwrap();
    assert!(crate::sys::error_text(&error).contains("500 directories"), "{error}");
    for path in [source.path(), target.path()] {
        crate::sys::fs::erase::empty_dir(
            dir(path).as_fd(),
            &mut crate::sys::process::failed::Subject::empty(),
        )
        .unwrap();
    }
}

/// A name that becomes a link, a pipe, a file and a directory in turn, while it is copied.
#[test]
fn a_name_that_turns_into_something_else_is_left_to_the_last_round() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().to_owned();
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let over = std::sync::Arc::clone(&is_over);
    let turning = std::thread::spawn(move || {
        let dir = dir(&path);
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            let (name, mode) = (c"turns", Mode::from_raw_mode(0o700));
            rustix::fs::symlinkat(c"/etc", &dir, name).unwrap();
            rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()).unwrap();
            rustix::fs::mknodat(&dir, name, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()).unwrap();
            rustix::fs::mkdirat(&dir, name, mode).unwrap();
            rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::REMOVEDIR).unwrap();
            fs::write(path.join("turns"), "own").unwrap();
            rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()).unwrap();
        }
    });
    let target = tempfile::tempdir().unwrap();
    let (from, to) = (dir(source.path()), dir(target.path()));
    let mut rounds = Rounds::new(&from, &to);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
    let mut failed = None;
    while failed.is_none() && std::time::Instant::now() < end {
        failed = rounds.ahead(&mut |_| {}).err();
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    turning.join().unwrap();
    assert!(failed.is_none(), "{}", crate::sys::error_text(&failed.unwrap()));
    rounds.last(&mut |_| {}).unwrap();
    assert!(!target.path().join("turns").exists());
}
