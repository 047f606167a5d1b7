//! Storage pools on file systems of their own: all that containers do works there as it does in the pool that is always
//! there. Judged by the files on the disk.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::daemonless_user::{DaemonlessUser, Otherwise};
use super::errors::{LACKING, REFUSED};
use super::host::{Host, run_tool};
use super::hostd_users::HostdUsers;
use super::leftovers;

/// A file system of its own, mounted where everybody may pass through.
struct Volume {
    _image: tempfile::NamedTempFile,
    dir: PathBuf,
}

impl Volume {
    fn new(host: &Host, kind: &str, mebibytes: u64) -> Self {
        let image = tempfile::NamedTempFile::new().expect("make a file");
        image.as_file().set_len(mebibytes << 20).expect("make it long");
        let dir = PathBuf::from(format!("/srv/{}-{kind}", host.name()));
        let file = image.path().to_string_lossy().into_owned();
        run_tool(&format!("mkfs.{kind}"), &[if kind == "ext4" { "-F" } else { "-f" }, "-q", &file]);
        fs::create_dir(&dir).expect("make a directory");
        let volume = Self { _image: image, dir };
        volume.mount();
        volume
    }

    fn mount(&self) {
        run_tool("mount", &["-o", "loop", &self._image.path().to_string_lossy(), &self.path()]);
    }

    fn unmount(&self) {
        run_tool("umount", &["-l", &self.path()]);
    }

    fn path(&self) -> String {
        self.dir.to_string_lossy().into_owned()
    }

    /// The pool of an owner on it.
    fn pool(&self, owner: &str) -> PathBuf {
        self.dir.join(owner).join("pool")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-q", "-l"]).arg(&self.dir).status();
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Names below a directory.
fn names(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<String> = all.map(|entry| entry.file_name().into_string().expect("a name")).collect();
    all.sort();
    all
}

fn id(host: &Host, name: &str) -> String {
    host.info(name)["id"].as_str().expect("an id").to_owned()
}

fn shown(host: &Host, pool: &str) -> Value {
    serde_json::from_str(&host.ok(&["storage", "show", pool, "--format", "json"])).expect("JSON")
}

/// Whatever a container can do, in a pool on a file system of this kind.
fn a_life(kind: &str) {
    let host = Host::new();
    let volume = Volume::new(&host, kind, 512);
    // What is made at the first start and the first repair, and kept.
    host.launch("first");
    host.ok(&["delete", "--force", "first"]);
    host.ok(&["repair"]);
    host.list();
    let before = leftovers::of(&host);
    host.ok(&["storage", "create", "fast", &volume.path(), "--description", "two disks"]);
    let pool = volume.pool(host.name());
    let (first, _) = host.ids().expect("ids");
    let stat = fs::metadata(&pool).expect("the pool");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (first, first, 0o711));
    let stat = fs::metadata(volume.dir.join(host.name())).expect("the directory around it");
    assert_eq!(
        (stat.uid(), stat.mode() & 0o7777),
        (host.uid().expect("a user"), 0o700),
        "others do not get in"
    );
    let shown = shown(&host, "fast");
    assert_eq!(shown["disk"]["filesystem"], kind);
    assert_eq!(shown["disk"]["reflink"], kind != "ext4");

    host.ok(&["launch", "tiny", "c", "--storage", "fast"]);
    assert_eq!(names(&pool.join("containers")), [id(&host, "c")]);
    assert!(names(&host.state_dir().join("pool/containers")).is_empty());
    host.sh("c", "echo one >/root/a; rm /etc/os-release; ln /root/a /root/b");
    host.ok(&["snapshot", "create", "c", "s0"]);
    assert_eq!(names(&pool.join("layers")).len(), 1, "copied while it ran");
    host.sh("c", "echo two >/root/a");
    host.ok(&["stop", "--force", "c"]);
    host.ok(&["snapshot", "create", "c", "s1"]);
    assert_eq!(names(&pool.join("layers")).len(), 2, "sealed");
    assert!(host.ok(&["diff", "c"]).contains("/etc/os-release"));
    let tar = tempfile::NamedTempFile::new().expect("make a file");
    let tar = tar.path().to_string_lossy().into_owned();
    host.ok(&["diff", "c", "--tar", &tar]);
    assert!(run_tool("tar", &["-tf", &tar]).contains("etc/.wh.os-release"));

    // A copy shares the layers; one in another pool has all that is not the template's.
    host.ok(&["copy", "c", "d"]);
    host.ok(&["copy", "c", "e", "--storage", "default"]);
    host.ok(&["copy", "c/s0", "f", "--storage", "default"]);
    assert_eq!(names(&pool.join("containers")).len(), 2);
    for (name, wanted) in [("c", "two\ntwo"), ("d", "two\ntwo"), ("e", "two\ntwo"), ("f", "one\none")] {
        host.ok(&["start", name]);
        assert_eq!(host.sh(name, "cat /root/a /root/b; ls /etc/os-release 2>/dev/null || true"), wanted);
        host.sh(name, "test $(stat -c %h /root/a) = 2");
    }
    // A running one as well, and back.
    host.ok(&["copy", "e", "g", "--storage", "fast"]);
    host.ok(&["start", "g"]);
    assert_eq!(host.sh("g", "cat /root/a"), "two");
    assert!(names(&host.state_dir().join("pool/tmp")).is_empty() && names(&pool.join("tmp")).is_empty());
    host.ok(&["delete", "--force", "d", "e", "f", "g"]);

    // Templates are made of what is there, running or not.
    host.ok(&["publish", "c", "--as", "running"]);
    host.ok(&["publish", "c/s0", "--as", "first"]);
    host.ok(&["launch", "first", "h", "--storage", "fast"]);
    assert_eq!(host.sh("h", "cat /root/a"), "one");
    host.ok(&["delete", "--force", "h"]);
    host.ok(&["template", "delete", "running"]);
    host.ok(&["template", "delete", "first"]);

    host.ok(&["snapshot", "restore", "c", "s0", "--stop", "--force"]);
    assert_eq!(host.sh("c", "cat /root/a"), "one");
    host.ok(&["stop", "--force", "c"]);
    assert_eq!(host.ok(&["file", "pull", "c/root/a", "-"]), "one\n");
    host.ok(&["storage", "optimize", "c"]);
    // The database is lost, and found again from what stands beside the containers.
    let list = host.ok(&["list", "--format", "json"]);
    fs::remove_file(host.state_dir().join("nagaya.db")).expect("lose the database");
    host.ok(&["repair"]);
    assert_eq!(host.ok(&["list", "--format", "json"]), list);
    host.ok(&["start", "c"]);
    assert_eq!(host.sh("c", "cat /root/a"), "one");

    let refused = host.fails(REFUSED, &["storage", "delete", "fast"]);
    assert!(refused.contains("used by c"), "{refused}");
    host.ok(&["delete", "--force", "c"]);
    host.ok(&["storage", "delete", "fast"]);
    assert!(!volume.dir.join(host.name()).exists(), "{:?}", names(&pool));
    leftovers::gone(&host, &before, "the pool and all in it were deleted");
}

#[test]
fn containers_live_on_ext4() {
    a_life("ext4");
}

#[test]
fn containers_live_on_btrfs() {
    a_life("btrfs");
}

#[test]
fn containers_live_on_xfs() {
    a_life("xfs");
}

#[test]
fn a_pool_whose_disk_is_not_mounted_harms_no_other() {
    let host = Host::new();
    let volume = Volume::new(&host, "ext4", 64);
    host.ok(&["storage", "create", "fast", &volume.path()]);
    host.ok(&["create", "tiny", "c", "--storage", "fast"]);
    host.ok(&["snapshot", "create", "c"]);
    volume.unmount();
    host.launch("other");
    let error = host.fails(LACKING, &["start", "c"]);
    assert!(error.contains("storage pool 'fast' cannot be used") && error.contains("mounted"), "{error}");
    host.fails(LACKING, &["launch", "tiny", "d", "--storage", "fast"]);
    assert_eq!(host.list().len(), 2, "nothing half-made stays");
    assert!(host.ok(&["storage", "list"]).contains("not there"));
    host.ok(&["snapshot", "create", "other"]);
    host.ok(&["delete", "--force", "other"]);
    host.ok(&["repair"]);
    volume.mount();
    host.ok(&["start", "c"]);
    host.ok(&["snapshot", "restore", "c", "snap0", "--stop", "--force"]);
    host.ok(&["delete", "--force", "c"]);
    host.ok(&["storage", "delete", "fast"]);
    assert_eq!(names(&volume.dir), ["lost+found"]);
}

#[test]
fn a_lost_disk_is_given_up_with_its_containers() {
    let host = Host::new();
    let volume = Volume::new(&host, "ext4", 64);
    let seen = || leftovers::of(&host).into_iter().filter(|line| !line.starts_with("mount")).collect();
    let before = seen();
    host.ok(&["storage", "create", "fast", &volume.path()]);
    host.ok(&["create", "tiny", "c", "--storage", "fast"]);
    host.ok(&["file", "push", "-", "c/root/a"]);
    host.ok(&["snapshot", "create", "c"]);
    assert!(host.fails(REFUSED, &["storage", "delete", "fast", "--lost"]).contains("not lost"));
    volume.unmount();
    assert!(host.fails(REFUSED, &["storage", "delete", "fast"]).contains("used by c"));
    for args in [
        &["delete", "c"][..],
        &["snapshot", "create", "c"],
        &["copy", "c", "d"],
        &["publish", "c", "--as", "t"],
    ] {
        host.fails(LACKING, args);
    }
    assert_eq!(host.list().len(), 1);
    host.ok(&["storage", "delete", "fast", "--lost"]);
    leftovers::is_again(seen, &before, "a lost pool was given up");
}

#[test]
fn a_pool_is_made_where_nobody_can_put_something_else() {
    let host = Host::new();
    let volume = Volume::new(&host, "ext4", 64);
    let create = |path: &str| host.fails(REFUSED, &["storage", "create", "fast", path]);
    assert!(create("/srv/not-there").contains("mkdir /srv/not-there"));
    assert!(create("/etc/passwd").contains("no directory /etc/passwd"));
    fs::set_permissions(&volume.dir, fs::Permissions::from_mode(0o777)).expect("open it to all");
    assert!(create(&volume.path()).contains("chmod go-w"));
    fs::set_permissions(&volume.dir, fs::Permissions::from_mode(0o755)).expect("close it");
    let link = volume.dir.join("link");
    std::os::unix::fs::symlink("/srv", &link).expect("make a link");
    assert!(create(&link.to_string_lossy()).contains("symbolic link"));
    std::os::unix::fs::chown(&volume.dir, Some(12345), None).expect("give it away");
    assert!(create(&volume.path()).contains("somebody else"));
    std::os::unix::fs::chown(&volume.dir, Some(0), None).expect("take it back");
    // What is there and belongs to others is left alone.
    let closed = volume.dir.join(host.name());
    fs::create_dir(&closed).expect("make a directory");
    assert!(create(&volume.path()).contains("belongs to 0:0"));
    fs::remove_dir(&closed).expect("remove it");
    // Nor does what an earlier installation has left become this one's.
    host.ok(&["storage", "create", "old", &volume.path()]);
    host.ok(&["create", "tiny", "c", "--storage", "old"]);
    let aside = volume.dir.join("aside");
    fs::rename(&closed, &aside).expect("move the pool away");
    host.ok(&["storage", "delete", "old", "--lost"]);
    fs::rename(&aside, &closed).expect("put it back");
    assert!(create(&volume.path()).contains("no container here is known"));
    run_tool("rm", &["-r", &closed.to_string_lossy()]);
    assert_eq!(
        host.ok(&["storage", "list", "--format", "csv"]).lines().count(),
        2,
        "the title and 'default'"
    );

    host.ok(&["storage", "create", "fast", &volume.path()]);
    assert!(create(&volume.path()).contains("already"));
    let error = host.fails(REFUSED, &["launch", "tiny", "c", "--storage", "fats"]);
    assert!(error.contains("did you mean 'fast'"), "{error}");
    host.fails(REFUSED, &["storage", "delete", "default"]);
    host.ok(&["storage", "set", "fast", "--description", "slow"]);
    assert_eq!(shown(&host, "fast")["description"], "slow");
    host.ok(&["storage", "delete", "fast"]);
}

#[test]
fn an_ordinary_user_has_pools_where_the_administrator_says() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    let volume = Volume::new(&users.host, "ext4", 64);
    let refused = ann.fails(REFUSED, &["storage", "create", "fast", &volume.path()]);
    assert!(refused.contains("granted"), "{refused}");
    users.host.ok(&["grant", &ann.name, &format!("pools={}", volume.path())]);
    ann.ok(&["storage", "create", "fast", &volume.path()]);
    ann.ok(&["launch", "tiny", "c", "--storage", "fast"]);
    let pool = volume.pool(&format!("{}-{}", users.host.name(), ann.uid));
    assert_eq!(names(&pool.join("containers")).len(), 1);
    assert_eq!(fs::metadata(&pool).expect("the pool").uid(), ann.range().0);
    bob.fails(REFUSED, &["storage", "create", "fast", &volume.path()]);
    // What was made can be removed when it is no longer granted.
    users.host.ok(&["grant", &ann.name, "pools="]);
    ann.ok(&["delete", "--force", "c"]);
    ann.ok(&["storage", "delete", "fast"]);
    assert!(!pool.exists());
}

#[test]
fn a_daemonless_user_has_pools_in_directories_of_the_users_own() {
    let user = DaemonlessUser::with_template();
    let dir = tempfile::Builder::new().tempdir_in("/srv").expect("make a directory");
    let path = dir.path().to_string_lossy().into_owned();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open it");
    let refused = user.fails(REFUSED, &["storage", "create", "fast", &path], &Otherwise::default());
    assert!(refused.contains("somebody else"), "{refused}");
    std::os::unix::fs::chown(dir.path(), Some(user.uid), None).expect("give it away");
    user.ok(&["storage", "create", "fast", &path]);
    user.ok(&["launch", "tiny", "c", "--storage", "fast"]);
    user.ok(&["snapshot", "create", "c"]);
    user.ok(&["snapshot", "restore", "c", "snap0", "--stop", "--force"]);
    user.ok(&["delete", "--force", "c"]);
    user.ok(&["storage", "delete", "fast"]);
    assert!(names(dir.path()).is_empty());
}
