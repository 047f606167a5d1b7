//! Devices besides interfaces: directories of the host's and device nodes in guests.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::daemonless_user::{DaemonlessUser, Otherwise};
use super::errors_of_host::Disk;
use super::host::{Host, random_hex, run_tool, told, until};
use super::hostd_users::HostdUsers;

/// A directory of the host's that goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    /// Below one that is closed to all but root.
    pub fn closed() -> Self {
        let dir = Self::open();
        chmod(&dir.0, 0o700);
        dir
    }

    pub fn open() -> Self {
        let dir = PathBuf::from(format!("/var/tmp/nagaya-test-{}", random_hex(6)));
        fs::create_dir(&dir).expect("make a directory");
        chmod(&dir, 0o755);
        Self(dir)
    }

    /// A directory in it, of that owner.
    pub fn inner(&self, name: &str, uid: u32) -> String {
        let dir = self.0.join(name);
        fs::create_dir(&dir).expect("make a directory");
        chown(&dir, Some(uid), Some(uid)).expect("give it away");
        dir.to_str().expect("a path").to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("change a mode");
}

/// SIGRTMIN+5: what makes a systemd reboot.
pub fn reboot(host: &Host) {
    let before = host.init("web");
    host.nagaya(&["exec", "web", "--", "kill", "-39", "1"]);
    until(30, "another boot", || host.info("web")["pid"].as_i64().is_some_and(|pid| pid as i32 != before));
    until(30, "programs run again", || host.nagaya(&["exec", "web", "--", "true"]).status.success());
}

pub fn mounted(host: &Host, path: &str) -> bool {
    host.exec("web", &["cat", "/proc/self/mountinfo"]).contains(&format!(" {path} "))
}

pub fn source(path: &str) -> String {
    format!("source={path}")
}

#[test]
fn a_directory_of_roots_belongs_to_the_guests_root() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    fs::write(format!("{data}/here"), "x").unwrap();
    fs::write(format!("{data}/strangers"), "x").unwrap();
    chown(format!("{data}/strangers"), Some(12_345), Some(12_345)).unwrap();
    host.ok(&["create", "tiny", "web"]);
    host.ok(&["device", "add", "web", "data", "disk", &source(&data), "path=/mnt/a/b"]);
    host.ok(&["start", "web"]);
    let stat = |path: &str| host.exec("web", &["stat", "-c", "%u:%g", path]).trim().to_owned();
    assert_eq!(stat("/mnt/a/b/here"), "0:0");
    assert_eq!(stat("/mnt/a"), "0:0");
    assert_eq!(stat("/mnt/a/b/strangers"), "65534:65534");
    host.exec(
        "web",
        &["sh", "-c", "echo new > /mnt/a/b/new && chown 33:44 /mnt/a/b/new && mkdir /mnt/a/b/own"],
    );
    let (storage, _) = host.ids().expect("ids");
    let new = fs::metadata(format!("{data}/new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (storage + 33, storage + 44));
    assert_eq!(fs::metadata(format!("{data}/own")).unwrap().uid(), 0);
    // What is somebody else's gives no rights, and neither nodes nor programs get more.
    for forbidden in
        ["echo x > /mnt/a/b/strangers", "chown 0 /mnt/a/b/strangers", "mount -o remount,suid,bind /mnt/a/b"]
    {
        assert!(!host.nagaya(&["exec", "web", "--", "sh", "-c", forbidden]).status.success(), "{forbidden}");
    }
    let mounts = host.exec("web", &["cat", "/proc/self/mountinfo"]);
    let line = mounts.lines().find(|line| line.contains(" /mnt/a/b ")).expect("the mount");
    assert!(line.contains("nosuid,nodev") && line.contains("idmapped"), "{line}");
    // It is there after the guest's own reboot, and the storage ids are as in every guest.
    reboot(&host);
    assert_eq!(stat("/mnt/a/b/new"), "33:44");
}

#[test]
fn nothing_below_a_mount_point_shows_and_read_only_stays_so() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    let below = format!("{data}/below");
    fs::create_dir(&below).unwrap();
    fs::write(format!("{below}/hidden"), "x").unwrap();
    run_tool("mount", &["-t", "tmpfs", "none", &below]);
    let seen = fs::write(format!("{below}/seen"), "x");
    host.ok(&["launch", "tiny", "web", "-d", &format!("d,type=disk,source={data},path=/d,readonly=true")]);
    let listed = host.exec("web", &["ls", "/d/below"]);
    let umounted = host.nagaya(&["exec", "web", "--", "umount", "/d/below"]).status.success();
    let written: Vec<bool> = [
        "touch /d/x",
        "touch /d/below/x",
        "mount -o remount,rw,bind /d",
        "mount -o remount,rw,bind /d/below",
    ]
    .map(|script| host.nagaya(&["exec", "web", "--", "sh", "-c", script]).status.success())
    .to_vec();
    run_tool("umount", &[&below]);
    seen.unwrap();
    assert_eq!(listed.trim(), "seen");
    assert!(!umounted, "the guest has uncovered what is hidden");
    assert_eq!(written, [false; 4]);
}

#[test]
fn what_root_has_not_named_is_not_mounted() {
    let host = Host::new();
    let dir = Dir::closed();
    let (named, other) = (dir.inner("named", 0), dir.inner("other", 0));
    host.ok(&["create", "tiny", "web"]);
    host.ok(&["device", "add", "web", "data", "disk", &source(&named), "path=/data"]);
    // The service user changes what it has stored, and cannot change what root has named.
    let database = host.state_dir().join("nagaya.db");
    let script = "import sqlite3,sys\n\
                  c=sqlite3.connect(sys.argv[1]); c.execute('UPDATE device SET spec = replace(spec, ?, ?)', sys.argv[2:]); c.commit()";
    run_tool("python3", &["-c", script, database.to_str().unwrap(), &named, &other]);
    let said = host.fails(1, &["start", "web"]);
    assert!(said.contains(&format!("no command of root's has named {other}")), "{said}");
    // Nor does a program without root's rights, as the engine is.
    run_tool("python3", &["-c", script, database.to_str().unwrap(), &other, &named]);
    host.ok(&["start", "web"]);
    host.ok(&["delete", "--force", "web"]);
}

#[test]
fn a_set_user_id_program_of_roots_cannot_be_left_for_others() {
    let host = Host::new();
    let dir = Dir::open();
    let data = dir.inner("data", 0);
    host.ok(&["create", "tiny", "web"]);
    let add = |more: &[&str]| {
        let source = source(&data);
        host.nagaya(&[&["device", "add", "web", "d", "disk", &source, "path=/d"], more].concat())
    };
    let output = add(&[]);
    let said = told(&output);
    assert!(!output.status.success() && said.contains("readonly=true or shift=false"), "{said}");
    for way in ["readonly=true", "shift=false"] {
        assert!(add(&[way]).status.success(), "{way}");
        // Taken back later, it is seen at the start.
        host.ok(&["device", "unset", "web", "d", way.split('=').next().unwrap()]);
        let said = host.fails(1, &["start", "web"]);
        assert!(said.contains("root's rights"), "{said}");
        host.ok(&["device", "remove", "web", "d"]);
    }
    chmod(&dir.0, 0o700);
    assert!(add(&[]).status.success());
    host.ok(&["start", "web"]);
}

#[test]
fn a_directory_behind_a_link_or_that_is_missing_is_told() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    symlink(&data, dir.0.join("link")).unwrap();
    host.ok(&["create", "tiny", "web"]);
    let add = |path: &str, more: &[&str]| {
        host.nagaya(&[&["device", "add", "web", "d", "disk", &source(path), "path=/d"], more].concat())
    };
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let said = told(&add(&at("link"), &[]));
    assert!(said.contains(&format!("type the real path: {data}")), "{said}");
    let said = told(&add(&at("none"), &[]));
    assert!(said.contains("required=false"), "{said}");
    for path in ["/proc", "/sys/fs"] {
        assert!(add(path, &["readonly=true"]).status.success(), "{path}");
        let said = host.fails(1, &["start", "web"]);
        assert!(said.contains("map the ids of a directory"), "{said}");
        host.ok(&["device", "remove", "web", "d"]);
    }
    assert!(add(&at("none"), &["required=false"]).status.success());
    host.ok(&["start", "web"]);
    assert!(!host.exec("web", &["cat", "/proc/self/mountinfo"]).contains(" /d "));
}

#[test]
fn hostile_links_of_a_guest_lead_nowhere_else() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    fs::write(format!("{data}/mine"), "x").unwrap();
    host.launch("web");
    let outside = dir.inner("outside", 0);
    for link in ["/etc/up", "/srv"] {
        host.exec("web", &["sh", "-c", &format!("rm -rf {link}; ln -s ../../../../../..{outside} {link}")]);
    }
    host.ok(&["stop", "web", "--force"]);
    host.ok(&["device", "add", "web", "d", "disk", &source(&data), "path=/srv/x", "required=false"]);
    host.ok(&["start", "web"]);
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "something was made outside");
    assert!(!host.exec("web", &["cat", "/proc/self/mountinfo"]).contains("/srv"));
}

/// Test hosts in QEMU have file systems that can; the scenario `35_quota` is theirs.
#[test]
fn a_bound_that_nobody_keeps_is_refused() {
    let host = Host::bare();
    let _disk = Disk::under(&host, 60);
    host.import("tiny", &super::templates::tiny());
    host.ok(&["create", "tiny", "c"]);
    for args in [
        &["create", "tiny", "d", "-d", "root,size=1GiB"][..],
        &["device", "set", "c", "root", "size=1GiB"],
        &["device", "add", "c", "root", "disk", "inodes=1000"],
    ] {
        let said = told(&host.nagaya(args));
        assert!(said.contains("the ext4 file system") && said.contains("tune2fs -O project,quota"), "{said}");
    }
    assert_eq!(host.list().len(), 1);
    assert_eq!(
        host.ok(&["device", "list", "c", "--format", "csv"]).lines().count(),
        2,
        "its interface alone"
    );
    // Without a bound there is nothing to keep.
    host.ok(&["device", "add", "c", "root", "disk"]);
    host.ok(&["start", "c"]);
    host.ok(&["device", "remove", "c", "root"]);
    let path = told(&host.nagaya(&["device", "add", "c", "other", "disk", "path=/", "readonly=true"]));
    assert!(path.contains("readonly is only for"), "{path}");
}

#[test]
fn a_tmpfs_is_as_large_as_it_may_be() {
    let host = Host::new();
    host.ok(&["launch", "tiny", "web", "-d", "c,type=disk,source=tmpfs:,path=/var/cache/x,size=1MiB"]);
    let mounts = host.exec("web", &["cat", "/proc/self/mountinfo"]);
    let line = mounts.lines().find(|line| line.contains(" /var/cache/x ")).expect("the mount");
    assert!(line.contains("tmpfs") && line.contains("size=1024k"), "{line}");
}

#[test]
fn a_users_directory_is_the_guests_as_far_as_it_is_the_users() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let dir = Dir::open();
    let (own, closed) = (dir.inner("own", ann.uid), dir.inner("closed", 0));
    chmod(Path::new(&closed), 0o700);
    fs::write(format!("{own}/mine"), "x").unwrap();
    chown(format!("{own}/mine"), Some(ann.uid), Some(ann.gid)).unwrap();
    chmod(Path::new(&format!("{own}/mine")), 0o600);
    fs::write(format!("{own}/roots"), "secret").unwrap();
    chmod(Path::new(&format!("{own}/roots")), 0o600);
    ann.ok(&["create", "tiny", "web"]);
    ann.ok(&["device", "add", "web", "own", "disk", &source(&own), "path=/own"]);
    ann.ok(&["start", "web"]);
    ann.ok(&["exec", "web", "--", "sh", "-c", "cat /own/mine && echo y > /own/new && chown 5 /own/new"]);
    assert_eq!(fs::metadata(format!("{own}/new")).unwrap().gid(), ann.gid);
    let reads = ann.nagaya(&["exec", "web", "--", "cat", "/own/roots"]);
    assert!(!reads.status.success() && reads.stdout.is_empty());
    let said = ann.fails(1, &["device", "add", "web", "closed", "disk", &source(&closed), "path=/closed"]);
    assert!(said.contains(&format!("open {closed}")), "{said}");
}

#[test]
fn a_users_guest_has_more_directories_than_a_message_of_the_bus_carries_descriptors() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let device = |n: u32| format!("d{n:02},type=disk,source=/usr/share,path=/d{n:02},readonly=true");
    let devices: Vec<String> = (0..16).map(device).collect();
    let mut words = vec!["launch", "tiny", "web"];
    devices.iter().for_each(|device| words.extend(["-d", device]));
    ann.ok(&words);
    let mounts = ann.ok(&["exec", "web", "--", "cat", "/proc/self/mountinfo"]);
    assert!((0..16).all(|n| mounts.contains(&format!(" /d{n:02} "))), "{mounts}");
}

#[test]
fn without_hostd_a_directory_is_seen_as_it_is() {
    let owner = DaemonlessUser::with_template();
    owner.ok(&["create", "tiny", "web"]);
    let said = owner.fails(
        1,
        &["device", "add", "web", "d", "disk", "source=/usr/share", "path=/d"],
        &Otherwise::default(),
    );
    assert!(said.contains("shift=false"), "{said}");
    owner.ok(&[
        "device",
        "add",
        "web",
        "d",
        "disk",
        "source=/usr/share",
        "path=/d",
        "shift=false",
        "readonly=true",
    ]);
    owner.ok(&["start", "web"]);
    let listed = owner.ok(&["exec", "web", "--", "ls", "/d"]);
    assert!(listed.lines().any(|name| name == "doc"), "{listed}");
    assert_eq!(owner.ok(&["exec", "web", "--", "stat", "-c", "%u", "/d"]).trim(), "65534");
}

#[test]
fn a_node_is_the_guests_with_its_mode_and_owner() {
    let host = Host::new();
    host.ok(&[
        "launch",
        "tiny",
        "web",
        "-d",
        "t,type=unix-char,source=/dev/net/tun,path=/dev/x/tap,mode=0640,uid=5,gid=6",
    ]);
    let stat = |path: &str| host.exec("web", &["stat", "-c", "%a %u:%g %t:%T", path]).trim().to_owned();
    assert_eq!(stat("/dev/x/tap"), "640 5:6 a:c8");
    host.ok(&["device", "add", "web", "f", "unix-char", "source=/dev/fuse", "path=/dev/y", "mode=0600"]);
    assert_eq!(stat("/dev/y"), "600 0:0 a:e5");
    host.exec("web", &["sh", "-c", "exec 3<>/dev/y"]);
    host.ok(&["device", "remove", "web", "f"]);
    assert!(!mounted(&host, "/dev/y"));
    if Path::new("/dev/kvm").exists() {
        host.ok(&["device", "add", "web", "k", "unix-char", "source=/dev/kvm"]);
        assert_eq!(stat("/dev/kvm"), "660 0:0 a:e8");
    }
    for (bad, said) in
        [("source=/dev/mem", "/dev/fuse, /dev/kvm or /dev/net/tun"), ("source=/dev/kvm", "kvm")]
    {
        if bad.ends_with("kvm") && Path::new("/dev/kvm").exists() {
            continue;
        }
        let told = host.fails(1, &["device", "add", "web", "n", "unix-char", bad]);
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn a_proxy_is_a_forward_under_lxds_words() {
    let host = Host::new();
    host.launch("web");
    host.ok(&[
        "config",
        "device",
        "add",
        "web",
        "http",
        "proxy",
        "listen=tcp:0.0.0.0:18080",
        "connect=tcp:127.0.0.1:80",
    ]);
    let forwards = || host.ok(&["forward", "list", "--format", "json"]);
    assert!(forwards().contains("18080"), "{}", forwards());
    assert_eq!(host.ok(&["device", "get", "web", "http", "listen"]).trim(), "tcp:0.0.0.0:18080");
    host.ok(&["device", "set", "web", "http", "listen=tcp:0.0.0.0:18081"]);
    assert!(forwards().contains("18081") && !forwards().contains("18080"), "{}", forwards());
    assert!(
        host.fails(1, &["device", "add", "web", "http", "disk", "source=tmpfs:", "path=/x"])
            .contains("already")
    );
    let said = host
        .fails(1, &["device", "add", "web", "s", "proxy", "listen=unix:/run/x", "connect=tcp:127.0.0.1:1"]);
    assert!(said.contains("sockets of files"), "{said}");
    host.ok(&["device", "remove", "web", "http"]);
    assert!(!forwards().contains("18081"), "{}", forwards());
}
