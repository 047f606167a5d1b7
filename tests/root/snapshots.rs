//! Snapshots, copies, and what else changes what a container stands on: judged by the files on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::crash::{Random, group_has_ended};
use super::daemonless_user::DaemonlessUser;
use super::errors_of_host::Disk;
use super::host::{Host, run_tool, until};
use super::hostd_users::{HostdUser, HostdUsers};
use super::leftovers;

/// The container's directory that its overlay writes to.
fn upper(host: &Host, name: &str) -> PathBuf {
    let id = host.info(name)["id"].as_str().expect("an id").to_owned();
    host.state_dir().join("pool/containers").join(id).join("upper")
}

/// The names of layers on the disk.
fn layers(host: &Host) -> Vec<String> {
    let all = fs::read_dir(host.state_dir().join("pool/layers")).into_iter().flatten().flatten();
    let mut all: Vec<String> = all.map(|entry| entry.file_name().into_string().expect("a name")).collect();
    all.sort();
    all
}

/// What stat(1) and getfattr(1) tell of each entry of a tree, and the digest of its content.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let script = r#"
find . -mindepth 1 -printf '%P\0%y %m %U %G %n %s %T@ %l\0' | python3 -c '
import os, sys, hashlib
parts = sys.stdin.buffer.read().split(b"\0")[:-1]
for path, what in zip(parts[::2], parts[1::2]):
    kind = what[:1]
    if kind in b"dc": what = b" ".join(what.split(b" ")[:4])
    names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if not n.startswith("user.overlay."))
    attrs = [(n, os.getxattr(path, n, follow_symlinks=False)) for n in names]
    digest = hashlib.sha256(open(path, "rb").read()).hexdigest()[:16] if kind == b"f" else ""
    print(path, what.decode(), attrs, digest)
'"#;
    let text = run_tool("sh", &["-c", &format!("cd {} && {script}", root.display())]);
    text.lines()
        .map(|line| line.split_at(line.find("' ").expect("a path") + 1))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

fn assert_same(found: &Path, wanted: &Path) {
    let (found, wanted) = (tree(found), tree(wanted));
    assert!(wanted.len() > 10);
    for (path, what) in &wanted {
        assert_eq!(found.get(path), Some(what), "{path}");
    }
    assert_eq!(found.len(), wanted.len());
}

#[test]
fn a_running_container_goes_back_to_its_snapshot() {
    let host = Host::new();
    host.launch("web01");
    host.sh("web01", "echo one >/root/a; rm /etc/os-release; mkdir /root/gone; echo x >/root/gone/x");
    assert_eq!(host.ok(&["snapshot", "create", "web01"]), "snap0\n");
    host.ok(&["config", "set", "web01", "user.note=later"]);
    host.sh("web01", "echo two >/root/a; echo new >/root/b; rm -r /root/gone; echo back >/etc/os-release");
    let init = host.init("web01");
    assert!(host.fails(1, &["snapshot", "restore", "web01", "snap0"]).contains("--stop"));
    assert_eq!(host.init("web01"), init, "a refusal does not stop it");
    let address = host.address("web01");
    host.ok(&["snapshot", "restore", "web01", "snap0", "--stop", "--force"]);
    assert_eq!(
        host.sh("web01", "cat /root/a; ls /root /root/gone; ls /etc/os-release || true"),
        "one\n/root:\na\ngone\n\n/root/gone:\nx"
    );
    assert_eq!(host.address("web01"), address);
    assert_eq!(host.ok(&["config", "show", "web01"]), "");
    // Twice, and it is still there.
    host.sh("web01", "echo three >/root/a");
    host.ok(&["snapshot", "restore", "web01", "snap0", "--stop", "--force"]);
    assert_eq!(host.sh("web01", "cat /root/a"), "one");
    host.ok(&["snapshot", "rename", "web01", "snap0", "golden"]);
    let list = host.ok(&["snapshot", "list", "web01", "--format", "json"]);
    assert!(list.contains("\"golden\"") && list.contains("\"was_running\": true"), "{list}");
    let refused = host.fails(1, &["snapshot", "delete", "web01", "goldem"]);
    assert!(refused.contains("did you mean 'web01/golden'?"), "{refused}");
    assert!(
        host.fails(1, &["snapshot", "create", "web01", "golden"]).contains("has a snapshot 'golden' already")
    );
}

#[test]
fn a_stopped_container_is_sealed_and_its_copies_share_that() {
    let host = Host::new();
    let before = leftovers::of(&host);
    host.launch("web01");
    host.sh("web01", "mkdir /root/d; echo x >/root/d/f; ln /root/d/f /root/g; dd if=/dev/urandom of=/root/big bs=1M count=8");
    host.ok(&["stop", "--force", "web01"]);
    let big = fs::metadata(upper(&host, "web01").join("root/big")).expect("a file").ino();
    host.ok(&["snapshot", "create", "web01", "s0"]);
    let layer = host.state_dir().join("pool/layers").join(&layers(&host)[0]);
    assert_eq!(fs::metadata(layer.join("root/big")).expect("a file").ino(), big, "nothing is copied");
    assert!(!upper(&host, "web01").join("root/big").exists());
    // Nothing was written since: no layer more.
    host.ok(&["snapshot", "create", "web01", "s1"]);
    host.ok(&["copy", "web01", "web02"]);
    host.ok(&["copy", "web01/s0", "web03", "-c", "user.note=x", "--start"]);
    let used = |name: &str| run_tool("du", &["-s", &upper(&host, name).to_string_lossy()]);
    assert!(used("web02").split('\t').next().unwrap().parse::<u32>().unwrap() < 100, "{}", used("web02"));
    host.ok(&["start", "web01"]);
    host.ok(&["start", "web02"]);
    for name in ["web01", "web02", "web03"] {
        assert_eq!(host.sh(name, "cat /root/d/f; stat -c %h /root/g"), "x\n2", "{name}");
        // Both names of a file stay one file.
        host.sh(name, &format!("echo {name} >>/root/g"));
        assert_eq!(host.sh(name, "cat /root/d/f"), format!("x\n{name}"));
    }
    let addresses: Vec<String> = ["web01", "web02", "web03"].map(|name| host.address(name)).into();
    assert!(addresses[0] != addresses[1] && addresses[1] != addresses[2], "{addresses:?}");
    let ids = ["web01", "web02"].map(|name| host.sh(name, "cat /etc/machine-id || true"));
    assert!(ids[0].is_empty() || ids[0] != ids[1], "{ids:?}");
    // What others stand on stays when its first owner goes.
    host.ok(&["delete", "--force", "web01"]);
    assert_eq!(host.sh("web02", "sha256sum /root/big | wc -c; cat /root/g"), "76\nx\nweb02");
    host.ok(&["delete", "--force", "web02", "web03"]);
    assert!(layers(&host).is_empty());
    leftovers::gone(&host, &before, "everything was deleted");
}

/// Something of everything, made on the disk as a guest with such files would leave it.
fn furnish(root: &Path, base: u32) {
    // Of posix_acl(5): the owner, user 7, the group, the mask, others.
    let user7 = (base + 7).swap_bytes();
    let acl = format!(
        "0x0200000001000600ffffffff02000600{user7:08x}04000400ffffffff10000600ffffffff20000400ffffffff"
    );
    let script = format!(
        "mkdir -p a/b deep/er '{long}'; echo text >a/file; ln a/file a/b/link; ln -s ../nowhere a/symlink; mkfifo a/pipe
         echo s >a/suid; chown {u33}:{u44} a/suid; chmod 4750 a/suid; chmod 1777 deep
         truncate -s 20M a/holes; printf end >>a/holes; setfattr -n user.mine -v value a/file
         setfattr -n system.posix_acl_access -v {acl} a/file; touch -d 2200-01-02T03:04:05.678901234Z a/file
         touch \"$(printf 'new\\nline')\" \"$(printf '\\377\\376')\"; chown -h {nobody}:{nobody} a/symlink a/pipe
         for n in 0 1 33 999 65534; do echo $n >owner$n; chown $(({base} + n)):$(({base} + n)) owner$n; done",
        long = "x".repeat(255),
        u33 = base + 33,
        u44 = base + 44,
        nobody = base + 65534,
    );
    run_tool("sh", &["-ec", &format!("cd {} && {script}", root.display())]);
    // Whose ids the rest has.
    let script = format!(
        "cd {} && find . -user 0 -exec chown -h {base}:{base} {{}} + ; chmod 4750 a/suid",
        root.display()
    );
    run_tool("sh", &["-ec", &script]);
}

#[test]
fn a_whole_tree_survives_snapshot_copy_restore_and_publish() {
    let host = Host::new();
    host.ok(&["create", "tiny", "c"]);
    let base = host.ids().expect("the instance's ids").0;
    let place = upper(&host, "c").join("srv");
    fs::create_dir(&place).expect("make a directory");
    furnish(&place, base);
    let wanted = tempfile::tempdir().expect("make a directory");
    run_tool("cp", &["-a", &place.to_string_lossy(), &wanted.path().to_string_lossy()]);
    let wanted = wanted.path().join("srv");
    let pool = host.state_dir().join("pool");
    // Sealed.
    host.ok(&["snapshot", "create", "c", "sealed"]);
    let sealed = pool.join("layers").join(&layers(&host)[0]).join("srv");
    assert_same(&sealed, &wanted);
    // Copied while it runs.
    host.ok(&["storage", "optimize", "c"]);
    assert_same(&upper(&host, "c").join("srv"), &wanted);
    host.ok(&["start", "c"]);
    let before = layers(&host);
    host.ok(&["snapshot", "create", "c", "running"]);
    let new = layers(&host).into_iter().find(|layer| !before.contains(layer)).expect("a new layer");
    assert_same(&pool.join("layers").join(new).join("srv"), &wanted);
    // Made one tree with the template.
    host.ok(&["publish", "c/running", "--as", "golden"]);
    let golden: serde_json::Value =
        serde_json::from_str(&host.ok(&["template", "show", "golden", "--format", "json"])).expect("JSON");
    let template = pool.join("templates").join(golden["id"].as_str().expect("an id"));
    assert_same(&template.join("srv"), &wanted);
    assert!(template.join("sbin/init").exists());
    // The same content is the same template.
    host.ok(&["publish", "c/running", "--as", "again"]);
    let again = host.ok(&["template", "show", "again", "--format", "json"]);
    assert!(again.contains(golden["id"].as_str().expect("an id")), "{again}");
    // As its guest sees it.
    host.ok(&["snapshot", "restore", "c", "sealed", "--force"]);
    assert_eq!(
        host.sh("c", "cat /srv/owner33; stat -c '%u %a' /srv/owner33 /srv/a/suid"),
        "33\n33 644\n33 4750"
    );
    host.launch_from("golden", "g");
    assert_eq!(
        host.sh("g", "stat -c '%u %a %h' /srv/owner65534 /srv/a/suid /srv/a/b/link"),
        "65534 644 1\n33 4750 1\n0 664 2"
    );
}

/// A guest that writes all the time, through a descriptor and by a mapping: what is copied is of one moment.
#[test]
fn a_snapshot_of_a_busy_guest_is_of_one_moment() {
    let host = Host::new();
    host.launch("web01");
    // The two files are written in turn, so they differ by one at any moment.
    let script = "i=0; while true; do i=$((i+1)); echo $i >/root/a.new; mv /root/a.new /root/a; echo $i >/root/b.new; mv /root/b.new /root/b; done";
    host.ok(&["exec", "-d", "web01", "--", "sh", "-c", script]);
    until(10, "the guest writes", || {
        host.run(&["exec", "web01", "--", "test", "-s", "/root/b"]).status.success()
    });
    for n in 0..5 {
        let name = format!("s{n}");
        host.ok(&["snapshot", "create", "web01", &name]);
        host.ok(&["copy", &format!("web01/{name}"), &format!("copy{n}")]);
        let layer = layers(&host).into_iter().find(|id| {
            let uses = host.state_dir().join("pool/layers").join(id);
            uses.join("root/a").exists() && !uses.join("seen").exists()
        });
        let dir = host.state_dir().join("pool/layers").join(layer.expect("the layer"));
        let read = |file: &str| {
            fs::read_to_string(dir.join("root").join(file))
                .expect("a number")
                .trim()
                .parse::<u64>()
                .expect("a number")
        };
        let (a, b) = (read("a"), read("b"));
        assert!(a == b || a == b + 1, "{a} and {b}");
        fs::write(dir.join("seen"), "").expect("mark a layer");
    }
    assert_eq!(host.list().iter().filter(|row| row["state"] == "running").count(), 1, "it goes on");
    let was = host.sh("web01", "cat /root/a");
    until(10, "the guest writes on", || host.sh("web01", "cat /root/a") != was);
}

#[test]
fn a_container_is_rebuilt_and_its_old_root_is_kept() {
    let host = Host::new();
    host.launch("web01");
    host.ok(&["config", "set", "web01", "user.note=kept"]);
    host.sh("web01", "echo precious >/root/file; rm /etc/group");
    let address = host.address("web01");
    assert!(host.fails(1, &["rebuild", "web01"]).contains("is running"));
    assert_eq!(host.ok(&["rebuild", "web01", "--force"]), "rebuild0\n");
    assert_eq!(host.sh("web01", "ls /root; ls /etc/group"), "/etc/group");
    assert_eq!(host.address("web01"), address);
    assert_eq!(host.ok(&["config", "get", "web01", "user.note"]), "kept\n");
    // The template cannot go while a snapshot stands on it.
    host.ok(&["publish", "web01", "--as", "other"]);
    host.ok(&["rebuild", "web01", "other", "--force"]);
    assert!(host.fails(1, &["template", "delete", "tiny"]).contains("is used by web01"));
    host.ok(&["snapshot", "restore", "web01", "rebuild0", "--force"]);
    assert_eq!(host.sh("web01", "cat /root/file; ls /etc/group || true"), "precious");
    host.ok(&["snapshot", "delete", "web01", "rebuild0", "rebuild1"]);
    host.ok(&["template", "delete", "other"]);
    until(10, "the other template's tree goes", || {
        fs::read_dir(host.state_dir().join("pool/templates")).expect("templates").count() == 1
    });
}

#[test]
fn differences_are_told() {
    let host = Host::new();
    host.launch("web01");
    host.sh("web01", "echo new >/root/new; echo x >/etc/group; rm /etc/os-release; mkdir -p /root/dir/in; rm -r /home/alice; mkdir /home/alice");
    host.ok(&["stop", "--force", "web01"]);
    let lines = host.ok(&["diff", "web01"]);
    for line in ["A /root/new", "C /etc/group", "D /etc/os-release", "A /root/dir", "A /root/dir/in"] {
        assert!(lines.lines().any(|found| found == line), "{line}: {lines}");
    }
    host.ok(&["snapshot", "create", "web01", "s0"]);
    assert_eq!(host.ok(&["diff", "web01/s0"]), lines);
    assert_eq!(host.ok(&["diff", "web01", "--from", "s0"]), "");
    host.ok(&["start", "web01"]);
    host.sh("web01", "rm /root/new");
    let since = host.ok(&["diff", "web01", "--from", "s0"]);
    assert!(since.contains("D /root/new\n") && !since.contains("/root/dir"), "{since}");
}

/// What GNU tar lists of an archive: path, and type with mode, owner, size.
fn listed(archive: &Path) -> BTreeMap<String, String> {
    let text = run_tool("tar", &["--numeric-owner", "-tvf", archive.to_str().expect("a path")]);
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[5].to_owned(), format!("{} {} {} {}", words[0], words[1], words[2], words[6..].join(" ")))
    };
    text.lines().map(line).collect()
}

#[test]
fn what_differs_is_an_archive_that_tells_what_was_deleted() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("make a directory");
    let (first, second) = (dir.path().join("first.tar"), dir.path().join("second.tar"));
    host.launch("web");
    host.sh(
        "web",
        "mkdir -p /data/d /srv; echo one >/data/a; ln /data/a /data/d/b; ln -s a /data/l; chown 7:8 /data/a; \
         chmod 4750 /data/a; mkfifo /data/fifo; rm /etc/os-release; echo x >/data/.wh.a; \
         dd if=/dev/zero of=/data/holes bs=1 count=1 seek=3145727 2>/dev/null",
    );
    let a = upper(&host, "web").join("data/a");
    rustix::fs::setxattr(&a, "user.note", b"mine", rustix::fs::XattrFlags::empty())
        .expect("set an attribute");
    host.ok(&["stop", "--force", "web"]);
    host.ok(&["snapshot", "create", "web", "one"]);
    host.ok(&["start", "web"]);
    let told = host.nagaya(&["diff", "web/one", "--tar", first.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.status.success() && said.contains("left out /data/.wh.a: names that begin with '.wh.'"),
        "{said}"
    );
    assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o600);
    let all = listed(&first);
    assert_eq!(all["data/a"], "-rwsr-x--- 7/8 4 ");
    assert_eq!(all["data/d/b"].replace("hrwsr-x---", "h"), "h 7/8 0 link to data/a");
    assert_eq!((all["data/l"].ends_with("-> a"), all["data/fifo"].as_bytes()[0]), (true, b'p'));
    assert!(all.contains_key("etc/.wh.os-release") && all.contains_key("etc/"), "{all:?}");
    assert!(all["data/holes"].contains(" 3145728 ") && !all.contains_key("data/.wh.a"), "{all:?}");
    assert!(!all.contains_key("bin/"), "what is as it was is not in it: {all:?}");
    assert!(fs::metadata(&first).unwrap().len() < 1 << 20, "a hole takes no space");
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let unpack = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", first.to_str().unwrap(), "-C"];
    run_tool("tar", &[&unpack[..], &[tree.to_str().unwrap()]].concat());
    let attributes =
        run_tool("getfattr", &["-d", "-R", "-m", "-", "--absolute-names", tree.to_str().unwrap()]);
    assert!(attributes.contains("user.note=\"mine\"") && !attributes.contains("overlay"), "{attributes}");
    let stat = fs::metadata(tree.join("data/holes")).unwrap();
    assert!(stat.size() == 3 << 20 && stat.blocks() < 100, "{} blocks", stat.blocks());
    // From a snapshot on, to standard output.
    host.sh("web", "rm -r /data/d; echo two >/data/a; mkdir /data/l2");
    let out = host.nagaya(&["diff", "web", "--from", "one", "--tar", "-"]);
    assert!(out.status.success(), "{out:?}");
    fs::write(&second, out.stdout).unwrap();
    let names: Vec<String> = listed(&second).into_keys().filter(|name| name.starts_with("data/")).collect();
    assert!(names.contains(&"data/.wh.d".to_owned()) && names.contains(&"data/l2/".to_owned()), "{names:?}");
    // Where it cannot go.
    let said = host.fails(3, &["diff", "web", "--tar", "/dev/full"]);
    assert!(said.contains("cannot write the archive") && said.contains("No space left"), "{said}");
    let typed = format!("{} diff web --tar -", env!("CARGO_BIN_EXE_nagaya"));
    let done = host.program("script", &["-qec", &typed, "/dev/null"]).output().expect("run script");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!done.status.success() && said.contains("is not written to a terminal"), "{said}");
    host.ok(&["stop", "--force", "web"]);
    host.ok(&["diff", "web", "--tar", second.to_str().unwrap()]);
    let all = listed(&second);
    assert!(all.contains_key("data/l2/") && !all.contains_key("data/d/"), "{all:?}");
}

#[test]
fn ordinary_users_write_archives_of_differences() {
    let script = "echo mine >/root/mine; chown 9:9 /root/mine; rm /etc/os-release";
    let alone = DaemonlessUser::with_template();
    alone.ok(&["launch", "tiny", "c"]);
    alone.sh("c", script);
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    ann.ok(&["launch", "tiny", "c"]);
    sh(&ann, script);
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("a.tar");
    for out in [alone.nagaya(&["diff", "c", "--tar", "-"]), ann.nagaya(&["diff", "c", "--tar", "-"])] {
        assert!(out.status.success(), "{out:?}");
        fs::write(&file, out.stdout).unwrap();
        let all = listed(&file);
        assert!(all["root/mine"].contains(" 9/9 5 "), "{all:?}");
        assert!(all.contains_key("etc/.wh.os-release"), "{all:?}");
    }
}

fn sh(user: &HostdUser<'_>, script: &str) -> String {
    user.ok(&["exec", "c", "--", "sh", "-c", script]).trim_end().to_owned()
}

/// More layers than a message on the bus has descriptors, and as many as there can be.
#[test]
fn an_ordinary_users_container_stands_on_many_layers_and_they_are_merged() {
    let users = HostdUsers::new(1);
    let user = users.granted(0);
    user.ok(&["create", "tiny", "c"]);
    let step = |n: u32| {
        user.ok(&["start", "c"]);
        sh(&user, &format!("echo {n} >/root/f{n}; echo {n} >/root/last"));
        user.ok(&["stop", "--force", "c"]);
        user.nagaya(&["snapshot", "create", "c"])
    };
    for n in 0..20 {
        assert!(step(n).status.success(), "snapshot {n}");
    }
    user.ok(&["start", "c"]);
    assert_eq!(sh(&user, "ls /root | wc -l; cat /root/f0 /root/f19 /root/last"), "21\n0\n19\n19");
    user.ok(&["stop", "--force", "c"]);
    let told = user.nagaya(&["storage", "optimize", "c"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("c: 20 layers were merged"), "{told:?}");
    user.ok(&["start", "c"]);
    assert_eq!(sh(&user, "ls /root | wc -l; cat /root/f0 /root/f19 /root/last"), "21\n0\n19\n19");
    // A directory of the guest's own is renamed in one step again.
    assert_eq!(sh(&user, "mkdir -p /root/d/e && mv /root/d /root/d2 && ls /root/d2"), "e");
}

#[test]
fn as_many_layers_as_can_be_and_no_more() {
    let host = Host::new();
    host.ok(&["create", "tiny", "c"]);
    let write = |n: u32| fs::write(upper(&host, "c").join(format!("f{n}")), "x").expect("write a file");
    for n in 0..63 {
        write(n);
        host.ok(&["snapshot", "create", "c"]);
    }
    write(63);
    let refused = host.fails(1, &["snapshot", "create", "c"]);
    assert!(
        refused.contains("stands on 64 layers") && refused.contains("nagaya storage optimize c"),
        "{refused}"
    );
    host.ok(&["start", "c"]);
    assert_eq!(host.sh("c", "ls / | grep -c '^f[0-9]'"), "64");
    host.ok(&["stop", "--force", "c"]);
    host.ok(&["storage", "optimize", "c"]);
    host.ok(&["snapshot", "create", "c"]);
}

#[test]
fn a_deleted_container_is_erased_in_the_background_also_by_a_later_command() {
    let host = Host::new();
    host.ok(&["create", "tiny", "c"]);
    let base = host.ids().expect("the instance's ids").0;
    let place = upper(&host, "c").join("many");
    run_tool(
        "sh",
        &[
            "-c",
            &format!(
                "mkdir {0}; cd {0}; seq 1 20000 | xargs touch; chown -R {base}:{base} .",
                place.display()
            ),
        ],
    );
    let begun = Instant::now();
    host.ok(&["delete", "c"]);
    let took = begun.elapsed();
    let trash = host.state_dir().join("pool/trash");
    // Whoever erases is killed; the next command goes on.
    for (pid, _) in Host::processes(host.ids(), None) {
        run_tool("sh", &["-c", &format!("kill -9 {pid} || true")]);
    }
    assert!(took < Duration::from_secs(2), "{took:?}");
    until(20, "the trash is emptied", || {
        host.ok(&["list"]);
        !trash.exists()
    });
    assert!(fs::read_dir(host.state_dir().join("pool/containers")).expect("the pool").next().is_none());
}

#[test]
fn a_database_made_anew_has_the_snapshots() {
    let host = Host::new();
    host.ok(&["create", "tiny", "c"]);
    fs::write(upper(&host, "c").join("one"), "1").expect("write a file");
    host.ok(&["snapshot", "create", "c", "s0", "--comment", "it's \"here\"", "--expires", "30d"]);
    fs::write(upper(&host, "c").join("two"), "2").expect("write a file");
    host.ok(&["snapshot", "create", "c", "s1"]);
    let list = host.ok(&["snapshot", "list", "c", "--format", "json"]);
    fs::remove_file(host.state_dir().join("nagaya.db")).expect("lose the database");
    host.ok(&["repair"]);
    assert_eq!(host.ok(&["snapshot", "list", "c", "--format", "json"]), list);
    host.ok(&["start", "c"]);
    assert_eq!(host.sh("c", "cat /one /two"), "12");
    host.ok(&["snapshot", "restore", "c", "s0", "--force"]);
    assert_eq!(host.sh("c", "cat /one; ls /two || true"), "1");
}

/// Each round kills a snapshot somewhere in its work, and makes the database anew, from the one that there is or from
/// none.
#[test]
fn a_database_made_anew_after_a_killed_snapshot_loses_no_file() {
    let mut random = Random::seeded();
    let host = Host::new();
    host.ok(&["create", "tiny", "c"]);
    for round in 0..24 {
        let file = format!("f{round}");
        fs::write(upper(&host, "c").join(&file), "kept").expect("write a file");
        let delay = Duration::from_micros(10_000 + random.below(50_000));
        let is_lost = random.below(2) == 0;
        println!("round {round}: killed after {delay:?}, the database lost: {is_lost}");
        let running = host.spawn(&["snapshot", "create", "c"], b"");
        let group = running.pid();
        std::thread::sleep(delay);
        running.kill(true);
        drop(running.wait());
        group_has_ended(group);
        if is_lost {
            for name in ["nagaya.db", "nagaya.db-wal", "nagaya.db-shm"] {
                let _ = fs::remove_file(host.state_dir().join(name));
            }
        }
        host.ok(&["repair"]);
        assert_eq!(host.list().len(), 1, "the container is there");
        host.ok(&["start", "c"]);
        for kept in 0..=round {
            assert_eq!(host.sh("c", &format!("cat /f{kept}")), "kept", "of round {kept}, in round {round}");
        }
        host.ok(&["stop", "--force", "c"]);
    }
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let host = Host::bare();
    let disk = Disk::under(&host, 40);
    on_a_full_disk(&host, || disk.fill(), || fs::remove_file(disk.dir.join("filler")).expect("make room"));
}

#[test]
fn a_disk_on_which_no_file_can_be_made_leaves_everything_as_it_was() {
    let host = Host::bare();
    let disk = Disk::with(&host, 40, &["-N", "1024"]);
    let filler = disk.dir.join("filler");
    let fill = || {
        fs::create_dir(&filler).expect("make a directory");
        while fs::File::create(filler.join(super::host::random_hex(8))).is_ok() {}
    };
    on_a_full_disk(&host, fill, || fs::remove_dir_all(&filler).expect("make room"));
}

fn on_a_full_disk(host: &Host, fill: impl Fn(), make_room: impl Fn()) {
    host.import("tiny", &super::templates::tiny());
    host.launch("c");
    host.sh("c", "dd if=/dev/urandom of=/root/big bs=1M count=9; sha256sum /root/big >/root/sum");
    let check = || assert!(host.sh("c", "sha256sum -c /root/sum").contains("OK"));
    fill();
    let before = leftovers::of(host);
    for args in [&["snapshot", "create", "c", "s0"][..], &["copy", "c", "d"], &["publish", "c", "--as", "t"]]
    {
        let output = host.nagaya(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).to_lowercase().contains("no space"), "{output:?}");
        leftovers::gone(host, &before, &format!("{args:?} on a full disk"));
        check();
    }
    host.ok(&["stop", "--force", "c"]);
    // What takes next to no room may succeed.
    for args in [
        &["snapshot", "create", "c", "s0"][..],
        &["copy", "c", "d"],
        &["storage", "optimize", "c"],
        &["rebuild", "c"],
    ] {
        let before = leftovers::of(host);
        let output = host.nagaya(args);
        match (output.status.success(), args[0]) {
            (true, "snapshot") => drop(host.ok(&["snapshot", "delete", "c", "s0"])),
            (true, "copy") => drop(host.ok(&["delete", "d"])),
            (true, "rebuild") => drop(host.ok(&["snapshot", "restore", "c", "rebuild0"])),
            // No snapshot could be made before.
            (true, _) if String::from_utf8_lossy(&output.stderr).contains("template alone") => {}
            (true, _) => panic!("there was no room to merge layers: {output:?}"),
            (false, _) => {
                assert_eq!(output.status.code(), Some(3), "{args:?}: {output:?}");
                leftovers::gone(host, &before, &format!("{args:?} on a full disk"));
            }
        }
    }
    make_room();
    host.ok(&["start", "c"]);
    check();
    host.ok(&["snapshot", "create", "c", "after"]);
}

/// Changes the database as its owner would.
fn sql(host: &Host, statement: &str) {
    let uid = host.uid().expect("a service user").to_string();
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
    let path = host.state_dir().join("nagaya.db");
    let user = ["--reuid", &uid, "--regid", &uid, "--clear-groups"];
    let python = ["python3", "-c", script, &path.to_string_lossy(), statement];
    run_tool("setpriv", &[&user[..], &python[..]].concat());
}

fn names(host: &Host, container: &str) -> Vec<String> {
    let list = host.ok(&["snapshot", "list", container, "--format", "json"]);
    let list: Vec<serde_json::Value> = serde_json::from_str(&list).expect("JSON");
    list.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn snapshots_are_made_by_themselves_and_expire() {
    let host = Host::new();
    host.launch("web01");
    host.ok(&["create", "tiny", "off"]);
    for name in ["web01", "off"] {
        host.ok(&[
            "config",
            "set",
            name,
            "snapshots.schedule=0 * * * *; @daily",
            "snapshots.pattern=auto-%d",
        ]);
    }
    assert!(host.fails(1, &["config", "set", "off", "snapshots.schedule=sometimes"]).contains("crontab"));
    host.ok(&["config", "set", "web01", "snapshots.retention=2 hourly"]);
    // Seen first: from now on it counts.
    host.ok(&["schedule", "run"]);
    assert!(names(&host, "web01").is_empty());
    let list = host.ok(&["schedule", "list"]);
    assert!(list.contains("0 * * * *; @daily"), "{list}");
    // The host was down for a day: that is made up for once.
    let a_day_ago = "UPDATE schedule_look SET looked_at = looked_at - 86400";
    sql(&host, a_day_ago);
    host.ok(&["schedule", "run"]);
    host.ok(&["schedule", "run"]);
    assert_eq!(names(&host, "web01"), ["auto-0"]);
    assert!(names(&host, "off").is_empty(), "it is stopped");
    host.ok(&["config", "set", "off", "snapshots.schedule.stopped=true", "snapshots.expiry=1d"]);
    sql(&host, a_day_ago);
    host.ok(&["schedule", "run"]);
    assert_eq!(names(&host, "off"), ["auto-0"]);
    let shown = host.ok(&["snapshot", "show", "off", "auto-0"]);
    assert!(shown.contains("expires:"), "{shown}");
    // Two of the last hours are kept, and what was made by hand is nobody else's to delete.
    host.ok(&["snapshot", "create", "web01", "by-hand"]);
    for hours in [9, 7, 5, 3] {
        sql(&host, "UPDATE schedule_look SET looked_at = looked_at - 86400");
        host.ok(&["schedule", "run"]);
        let newest = names(&host, "web01").pop().expect("a snapshot");
        sql(
            &host,
            &format!("UPDATE snapshot SET created_at = created_at - 3600 * {hours} WHERE name = '{newest}'"),
        );
    }
    host.ok(&["schedule", "run"]);
    let left = names(&host, "web01");
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&"by-hand".to_owned()), "{left:?}");
    // What has expired goes, however it was made.
    sql(
        &host,
        "UPDATE snapshot SET expires_at = 1 WHERE name = 'by-hand' OR container = (SELECT id FROM container WHERE name = 'off')",
    );
    host.ok(&["schedule", "run"]);
    assert_eq!((names(&host, "web01").len(), names(&host, "off").len()), (2, 0));
}

/// A guest that moves directories and links about while it is copied gets nothing of what they point at copied.
#[test]
fn a_guest_that_swaps_directories_for_links_gains_nothing() {
    let host = Host::new();
    host.launch("web01");
    let script = "cd /root; mkdir -p d/e; echo own >d/e/passwd; while true; do \
                  mv d x; ln -s /etc d; rm d; ln -s ../../../../../../etc d; rm d; mkfifo d; rm d; mv x d; done";
    host.ok(&["exec", "-d", "web01", "--", "sh", "-c", script]);
    for n in 0..8 {
        let before = layers(&host);
        host.ok(&["snapshot", "create", "web01"]);
        let new = layers(&host).into_iter().find(|layer| !before.contains(layer)).expect("a new layer");
        let root = host.state_dir().join("pool/layers").join(new).join("root");
        let text =
            run_tool("sh", &["-c", &format!("cd {} && find . -type f -exec cat {{}} +", root.display())]);
        assert!(text.lines().all(|line| line == "own"), "{n}: {text}");
    }
    assert_eq!(host.list()[0]["state"], "running");
}

/// A program in the guest that says what it was told, and does what is to be seen of it.
fn put_hook(host: &Host, body: &str) {
    let script = format!("#!/bin/sh\necho \"$1 $(id -u) $PLAN\" >>/log\n{body}\n");
    let quoted = script.replace('\'', "'\\''");
    host.sh("db", &format!("printf '%s' '{quoted}' >/hook; chmod +x /hook; rm -f /log"));
}

#[test]
fn a_guests_own_program_is_run_around_the_moment_of_a_snapshot() {
    let host = Host::new();
    host.launch("db");
    host.ok(&["config", "set", "db", "snapshots.hook=/hook", "environment.PLAN=gold"]);
    let log = || host.sh("db", "cat /log 2>/dev/null; rm -f /log; true");
    let snapshots = || names(&host, "db");
    put_hook(&host, "[ \"$1\" = freeze ] && echo whole >/state || echo busy >/state");
    host.ok(&["snapshot", "create", "db", "one"]);
    assert_eq!(log(), "freeze 0 gold\nthaw 0 gold");
    let state = host.state_dir().join("pool/layers").join(&layers(&host)[0]).join("state");
    assert_eq!(fs::read_to_string(state).expect("read what was snapshot"), "whole\n");
    assert_eq!(host.sh("db", "cat /state"), "busy");
    // What else is of a moment of the running guest.
    host.ok(&["copy", "db", "twin"]);
    host.ok(&["publish", "db", "--as", "dbs"]);
    assert_eq!(log(), ["freeze 0 gold\nthaw 0 gold"; 2].join("\n"));
    // One that fails: nothing is made, and the guest goes on.
    put_hook(&host, "[ $1 = thaw ] || { echo first; printf '\\033[2Jno room\\n'; exit 3; }");
    let said = host.fails(1, &["snapshot", "create", "db", "two"]);
    assert!(
        said.contains("'/hook freeze' in container 'db' has failed with exit code 3: first | "),
        "{said}"
    );
    assert!(
        said.contains("no room") && !said.contains('\x1b') && said.contains("config unset db"),
        "{said:?}"
    );
    assert_eq!((log(), snapshots()), ("freeze 0 gold\nthaw 0 gold".into(), vec!["one".to_owned()]));
    put_hook(&host, "yes | head -c 3000000; exit 1");
    let said = host.fails(1, &["snapshot", "create", "db", "two"]);
    assert!(said.contains("y | y") && said.len() < 2000, "{said}");
    host.ok(&["config", "set", "db", "snapshots.hook=/none"]);
    let said = host.fails(1, &["snapshot", "create", "db", "two"]);
    assert!(said.contains("'/none freeze' in container 'db'"), "{said}");
    host.ok(&["config", "set", "db", "snapshots.hook=/hook"]);
    put_hook(&host, "[ $1 = freeze ] || exit 4");
    let done = host.nagaya(&["snapshot", "create", "db", "two"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.contains("'/hook thaw' in container 'db' has failed"), "{said}");
    assert_eq!(snapshots().len(), 2);
    host.ok(&["pause", "db"]);
    assert!(host.fails(1, &["snapshot", "create", "db", "three"]).contains("nagaya resume db"));
    host.ok(&["resume", "db"]);
    assert!(host.fails(1, &["config", "set", "db", "snapshots.hook=hook"]).contains("absolute path"));
    host.ok(&["stop", "--force", "db"]);
    host.ok(&["snapshot", "create", "db", "three"]);
    assert_eq!(snapshots().len(), 3);
}

#[test]
fn a_program_that_hangs_is_told_that_it_is_over() {
    let host = Host::new();
    host.launch("db");
    host.ok(&["config", "set", "db", "snapshots.hook=/hook"]);
    let log = || host.sh("db", "cat /log 2>/dev/null; true");
    // Who gives up, and who is killed: then the next command tells it.
    for signal in ["-INT", "-KILL"] {
        put_hook(&host, "[ $1 = thaw ] || exec sleep 1000");
        let making = host.spawn(&["snapshot", "create", "db", "one"], b"");
        until(20, "the program runs", || log() == "freeze 0");
        run_tool("kill", &[signal, "--", &format!("-{}", making.pid())]);
        drop(making.wait());
        host.ok(&["list"]);
        host.ok(&["operation", "list"]);
        until(20, "it is told", || log() == "freeze 0 \nthaw 0");
        assert!(names(&host, "db").is_empty());
        until(20, "it has ended", || host.sh("db", "pgrep -f 'sleep 1000' || true").is_empty());
    }
}

#[test]
fn programs_of_ordinary_users_guests_are_run_too() {
    let script = "printf '#!/bin/sh\\necho $1 >>/log\\n' >/hook; chmod +x /hook";
    let alone = DaemonlessUser::with_template();
    alone.ok(&["launch", "tiny", "c", "-c", "snapshots.hook=/hook"]);
    alone.sh("c", script);
    alone.ok(&["snapshot", "create", "c"]);
    assert_eq!(alone.sh("c", "cat /log"), "freeze\nthaw");
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    ann.ok(&["launch", "tiny", "c", "-c", "snapshots.hook=/hook"]);
    sh(&ann, script);
    ann.ok(&["snapshot", "create", "c"]);
    assert_eq!(sh(&ann, "cat /log").trim(), "freeze\nthaw");
}
