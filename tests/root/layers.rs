//! A container that stands on several layers.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, chown};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::hostd_users::HostdUsers;
use super::hostile_callers::{Caller, Kit, order, sealed, with};

/// A directory with these files, all of the id `owner`.
fn tree(path: &Path, owner: u32, files: &[(&str, &str)]) -> OwnedFd {
    fs::create_dir(path).expect("make a directory");
    for (name, text) in files {
        fs::write(path.join(name), text).expect("write a file");
        chown(path.join(name), Some(owner), Some(owner)).expect("give a file away");
    }
    chown(path, Some(owner), Some(owner)).expect("give a directory away");
    fs::File::open(path).expect("open a directory").into()
}

#[test]
fn the_highest_layer_hides_those_below_and_changes_go_to_none() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let storage = ann.range().0;
    let templates = fs::read_dir(ann.state_dir().join("pool/templates")).expect("list templates");
    let template = templates.flatten().next().expect("a template").path();
    let dir = tempfile::tempdir_in("/var/lib").expect("make a directory");
    let at = |name: &str| dir.path().join(name);
    let data = tree(&at("data"), storage, &[]);
    drop((tree(&at("data/upper"), storage, &[]), tree(&at("data/work"), storage, &[])));
    let layers = || {
        let open = |path: &Path| fs::File::open(path).expect("open a layer").into();
        [("lower", open(&at("lower"))), ("higher", open(&at("higher")))]
    };
    drop(tree(&at("lower"), storage, &[("mark", "lower"), ("of-lower", "lower")]));
    drop(tree(&at("higher"), storage, &[("mark", "higher")]));
    let config = json!({"name": "web01", "uuid": "0".repeat(32), "init": ["/sbin/init"], "init_kind": "unknown",
        "env": [], "seccomp": "", "guest": {"hostname": null, "resolvers": [], "domain": null}, "adopt": null});
    let devices = json!([{"name": "null"}, {"name": "zero"}, {"name": "tty"}]);
    let order = with(
        &with(&order(&ann), "devices", devices),
        "layers",
        json!([{"descriptor": "template"}, {"descriptor": "lower"}, {"descriptor": "higher"}]),
    );
    let template: OwnedFd = fs::File::open(template).expect("open the template").into();
    let mut fds: Vec<(&str, OwnedFd)> = layers().into();
    fds.extend([("template", template), ("data", data), ("config", sealed(config.to_string().as_bytes()))]);
    let bus = users.address();
    let init = ann.does(|| {
        let caller = Caller::new(&bus);
        let rest = ["control", "state", "log", "other-log"];
        let kit = Kit::new(&ann);
        fds.extend(kit.fds().into_iter().filter(|(name, _)| rest.contains(name)));
        caller.started(&order, fds).expect("a container")
    });
    let root = PathBuf::from(format!("/proc/{init}/root"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("read the guest's file");
    assert_eq!((read("mark").as_str(), read("of-lower").as_str()), ("higher", "lower"));
    assert!(read("etc/os-release").contains("Tiny"));
    let is_device = |name: &str| {
        fs::symlink_metadata(root.join("dev").join(name)).is_ok_and(|node| node.file_type().is_char_device())
    };
    assert!(is_device("null") && is_device("tty") && !is_device("fuse") && !is_device("random"));
    // What nagaya writes for the guest at its boot is a change.
    assert!(fs::read_dir(at("data/upper")).expect("list changes").next().is_some());
    for layer in ["lower", "higher"] {
        let files = fs::read_dir(at(layer)).expect("list a layer").count();
        assert_eq!(files, if layer == "lower" { 2 } else { 1 });
    }
    let container = order["container"].as_str().expect("an id");
    assert_eq!(ann.does(|| Caller::new(&bus).clear(container)), Ok(vec![]));
    assert!(!root.exists());
}
