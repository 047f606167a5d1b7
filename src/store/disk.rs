//! Disks that are full or cannot be written: real ones, in a mount namespace of their own.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};

use super::fixture::{stocked, web};
use super::{Store, StoreError};

const DIRECTORY: &str = "NAGAYA_TEST_DIRECTORY";

/// Runs the ignored test `name` in new user and mount namespaces; all it mounts goes with them.
fn in_namespaces(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let module = module_path!().trim_start_matches("nagaya::");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--propagation", "private"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::{name}"), "--ignored", "--nocapture"])
        .env(DIRECTORY, dir.path())
        .output()
        .expect("needs unshare(1) of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

/// The test's directory, over which a file system of `size` bytes is mounted.
fn small_disk(size: &str) -> PathBuf {
    let dir = PathBuf::from(env::var_os(DIRECTORY).expect("started by the test that makes the namespaces"));
    let options = format!("size={size}");
    mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    dir
}

/// Writes zeroes to `path` until not one more fits.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

fn is_full(err: &StoreError, wanted: &Path) -> bool {
    matches!(err, StoreError::Full { path, .. } if path == wanted)
}

#[test]
fn a_full_disk_is_called_so() {
    in_namespaces("on_a_full_disk");
}

#[test]
#[ignore = "needs the namespaces of a_full_disk_is_called_so"]
fn on_a_full_disk() {
    let dir = small_disk("1m");
    let path = dir.join("nagaya.db");
    let mut store = stocked(&path);
    let mut made = Vec::new();
    let err = loop {
        // Whatever space is left goes to a neighbour.
        let _ = fs::write(dir.join(format!("filler{}", made.len())), [0; 65536]);
        match store.create_container(&web(made.len() as u32 + 1)) {
            Ok(container) => made.push(container),
            Err(err) => break err,
        }
    };
    assert!(is_full(&err, &path), "{err:?}");
    assert_eq!(store.containers().unwrap(), made, "what was committed before is still there");
    drop(store);
    fs::remove_file(dir.join("nagaya.db-shm")).unwrap();
    fill(&dir.join("last"));
    let err = Store::open_existing(&path).unwrap_err();
    assert!(is_full(&err, &path), "{err:?}");
    fs::remove_file(dir.join("last")).unwrap();
    fs::remove_file(dir.join("filler0")).unwrap();
    let mut store = Store::open_existing(&path).unwrap();
    made.push(store.create_container(&web(101)).unwrap());
    made.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(store.containers().unwrap(), made);
}

#[test]
fn room_is_kept_for_what_frees_a_full_disk() {
    in_namespaces("with_room_kept");
}

#[test]
#[ignore = "needs the namespaces of room_is_kept_for_what_frees_a_full_disk"]
fn with_room_kept() {
    let dir = small_disk("4m");
    let path = dir.join("nagaya.db");
    let kept = || fs::metadata(dir.join("nagaya.db.reserve")).map_or(0, |file| file.len());
    let mut store = stocked(&path);
    store.create_container(&web(1)).unwrap();
    drop(store);
    assert_eq!(kept(), super::reserve::SIZE);
    for number in 2..6 {
        // Guests take every byte that is to be had, again and again.
        fs::remove_file(dir.join("nagaya.db-shm")).unwrap();
        fill(&dir.join(format!("filler{number}")));
        let mut store = Store::open_existing(&path).unwrap();
        let made = store.create_container(&web(number)).unwrap();
        assert!(store.containers().unwrap().contains(&made));
        drop(store);
        assert!(kept() >= 256 << 10, "round {number}: {} bytes", kept());
    }
    for number in 2..6 {
        fs::remove_file(dir.join(format!("filler{number}"))).unwrap();
    }
    drop(Store::open_existing(&path).unwrap());
    assert_eq!(kept(), super::reserve::SIZE);
}

#[test]
fn a_read_only_disk_is_called_so() {
    in_namespaces("on_a_read_only_disk");
}

#[test]
#[ignore = "needs the namespaces of a_read_only_disk_is_called_so"]
fn on_a_read_only_disk() {
    let dir = small_disk("2m");
    let path = dir.join("nagaya.db");
    let container = stocked(&path).create_container(&web(1)).unwrap();
    // Without the files that readers share, not even reading is possible.
    let bare = dir.join("bare.db");
    fs::copy(&path, &bare).unwrap();
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &dir, None::<&str>, read_only, None::<&str>).unwrap();
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.containers().unwrap(), [container], "it can still be read");
    let err = store.create_container(&web(2)).unwrap_err();
    assert!(matches!(&err, StoreError::ReadOnly { path: named, .. } if *named == path), "{err:?}");
    let err = Store::open_existing(&bare).unwrap_err();
    assert!(matches!(&err, StoreError::ReadOnly { path: named, .. } if *named == bare), "{err:?}");
    let err = Store::open(&dir.join("other.db")).unwrap_err();
    assert!(err.to_string().contains("other.db"), "{err}");
}
