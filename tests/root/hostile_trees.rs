//! Root filesystems made to lead whoever prepares them astray. Each either boots or is refused in
//! bounded time and with words, and either way the host stays as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use super::archive::Archive;
use super::errors::message;
use super::host::{Host, told};

/// No command on a hostile container may take longer.
const BOUND: Duration = Duration::from_secs(20);

/// Files of the host that links lead to, and those that a start writes in a guest. Anybody may
/// write to the former.
pub struct Canary {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let open =
            |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
        open(dir.path(), 0o777);
        fs::create_dir(dir.path().join("dir")).expect("make a directory");
        open(&dir.path().join("dir"), 0o777);
        for name in ["file", "dir/hostname", "dir/passwd", "dir/init"] {
            fs::write(dir.path().join(name), "of the host\n").expect("write a file");
            open(&dir.path().join(name), 0o777);
        }
        let mut canary = Self { dir, before: BTreeMap::new() };
        canary.before = canary.look();
        canary
    }

    /// Absolute path of one of its files.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn look(&self) -> BTreeMap<PathBuf, String> {
        let mut seen = BTreeMap::new();
        for dir in [self.dir.path().to_owned(), self.dir.path().join("dir")] {
            for path in list(&dir) {
                let stat = fs::symlink_metadata(&path).expect("look at a file");
                let text = fs::read(&path).unwrap_or_default();
                seen.insert(path, format!("{:o} {} {}", stat.mode(), stat.uid(), text.escape_ascii()));
            }
        }
        for path in ["/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/resolv.conf", "/etc/os-release"]
        {
            let text = fs::read(path).unwrap_or_default();
            seen.insert(path.into(), text.escape_ascii().to_string());
        }
        // Other tests have users of their own for a while.
        for path in ["/etc/passwd", "/etc/group"] {
            let text = fs::read_to_string(path).expect("read accounts");
            let lines = text.lines().filter(|line| !line.starts_with("ngt"));
            seen.insert(path.into(), lines.collect::<Vec<_>>().join("\n"));
        }
        for dir in ["/", "/etc/systemd/network", "/etc/network"] {
            let names = list(Path::new(dir));
            seen.insert(dir.into(), format!("{names:?}"));
        }
        let kernel = fs::read_to_string("/proc/sys/kernel/hostname").expect("read the host's name");
        seen.insert("kernel.hostname".into(), kernel);
        seen
    }

    pub fn check(&self, after_what: &str) {
        let now = self.look();
        for (path, was) in &self.before {
            assert_eq!(now.get(path), Some(was), "{} after {after_what}", path.display());
        }
        let new: Vec<_> = now.keys().filter(|path| !self.before.contains_key(*path)).collect();
        assert!(new.is_empty(), "{new:?} after {after_what}");
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// How far a template came.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Not taken as a template, for this reason.
    NotImported(String),
    /// Not started, for this reason.
    NotStarted(String),
    /// It runs.
    Boots,
}

/// A command that ends in time, and that says what is wrong if it fails.
fn bounded(host: &Host, args: &[&str], input: &[u8]) -> Output {
    let output = host.spawn(args, input).wait_for(BOUND);
    assert!(matches!(output.status.code(), Some(0..=3 | 126 | 127)), "{}: {}", args.join(" "), told(&output));
    output
}

/// Imports, launches, enters, stops and deletes; nothing of the host changes on the way.
fn fate(host: &Host, canary: &Canary, what: &str, archive: &Archive) -> Fate {
    let import = bounded(host, &["template", "import", "-", "--name", "h"], &archive.clone().finish());
    canary.check(&format!("{what}: import"));
    if !import.status.success() {
        return Fate::NotImported(message(&import).0);
    }
    let launch = bounded(host, &["launch", "h", "h"], b"");
    canary.check(&format!("{what}: launch"));
    let fate = if launch.status.success() {
        host.see_links();
        for args in [
            &["exec", "h", "--", "/bin/true"][..],
            &["exec", "-t", "h", "--", "/bin/true"],
            &["exec", "h", "--user", "alice", "--", "/bin/true"],
            &["exec", "h", "--user", "1000:1000", "--", "/bin/true"],
            &["shell", "h"],
            &["logs", "h"],
        ] {
            bounded(host, args, b"");
            canary.check(&format!("{what}: {}", args.join(" ")));
        }
        let stop = bounded(host, &["stop", "--timeout", "3", "h"], b"");
        let stopped = stop.status.success() || host.nagaya(&["stop", "--force", "h"]).status.success();
        let fate = if stopped {
            // What the first start has left in it is in the way of the second.
            let start = bounded(host, &["start", "h"], b"");
            assert!(start.status.success(), "{what}: second start: {}", told(&start));
            Fate::Boots
        } else {
            // On a busy machine an init that only fails may look alive at first.
            assert_eq!(host.list()[0]["state"], "stopped", "{what}: {}", told(&stop));
            Fate::NotStarted("it has ended by itself".to_owned())
        };
        host.ok(&["delete", "--force", "h"]);
        fate
    } else {
        Fate::NotStarted(message(&launch).0)
    };
    canary.check(&format!("{what}: deletion"));
    host.ok(&["template", "delete", "h"]);
    fate
}

/// Targets that lead out of a tree, or nowhere.
fn targets(canary: &Canary) -> Vec<String> {
    let mut targets: Vec<String> =
        ["/", "../../../../../..", ".", "/proc/1/root", "/proc/self/cwd", "loop"].map(str::to_owned).into();
    targets.push(canary.path("dir"));
    targets.push(format!("../../../../../../../..{}", canary.path("dir")));
    targets.push(format!("/proc/1/root{}", canary.path("dir")));
    targets
}

/// That the import was refused because `dir` is `kind`.
fn assert_not_imported(fate: &Fate, dir: &str, kind: &str) {
    let reason = format!("cannot unpack the template: /{dir} of the tree is {kind}: ");
    assert!(matches!(fate, Fate::NotImported(said) if said.starts_with(&reason)), "{dir}: {fate:?}");
}

#[test]
fn directories_that_lead_elsewhere() {
    let (host, canary) = (Host::new(), Canary::new());
    for target in targets(&canary) {
        for dir in ["dev", "proc", "sys", "run", "etc"] {
            let archive = Archive::tiny_without(&[dir]).symlink("loop", "loop").symlink(dir, &target);
            let what = format!("{dir} -> {target}");
            let fate = fate(&host, &canary, &what, &archive);
            match dir {
                // Nothing that a start writes there is worth the boot.
                "etc" => assert_eq!(fate, Fate::Boots, "{what}"),
                _ => assert_not_imported(&fate, dir, "a symbolic link"),
            }
        }
    }
}

#[test]
fn directories_that_are_none() {
    let (host, canary) = (Host::new(), Canary::new());
    for dir in ["dev", "proc", "sys", "run", "etc"] {
        let bare = || Archive::tiny_without(&[dir]);
        for (kind, archive) in [("file", bare().file(dir, b"x")), ("fifo", bare().fifo(dir))] {
            let what = format!("{dir} is a {kind}");
            match fate(&host, &canary, &what, &archive) {
                Fate::Boots if dir == "etc" => {}
                fate => assert_not_imported(&fate, dir, &format!("a {kind}")),
            }
        }
        let fate = fate(&host, &canary, dir, &bare());
        assert_eq!(fate, Fate::Boots, "{dir} is missing");
    }
}

/// What a start or an exec reads or writes below /etc.
const FILES: [&str; 8] =
    ["passwd", "group", "hostname", "hosts", "resolv.conf", "machine-id", "os-release", "shadow"];

#[test]
fn files_that_lead_elsewhere() {
    let (host, canary) = (Host::new(), Canary::new());
    let mut targets = targets(&canary);
    targets.extend([canary.path("file"), format!("/proc/1/root{}", canary.path("file"))]);
    targets.extend(["/proc/1/environ", "/proc/self/exe", "/dev/console", "/proc/kmsg"].map(str::to_owned));
    for target in targets {
        let spoilt: Vec<_> = FILES.iter().map(|file| format!("etc/{file}")).collect();
        let bare = Archive::tiny_without(&spoilt.iter().map(String::as_str).collect::<Vec<_>>());
        let archive = spoilt.iter().fold(bare, |archive, file| archive.symlink(file, &target));
        let what = format!("/etc/* -> {target}");
        assert_eq!(fate(&host, &canary, &what, &archive.symlink("loop", "loop")), Fate::Boots, "{what}");
    }
}

#[test]
fn files_that_are_none() {
    let (host, canary) = (Host::new(), Canary::new());
    let spoilt: Vec<_> = FILES.iter().map(|file| format!("etc/{file}")).collect();
    let bare = || Archive::tiny_without(&spoilt.iter().map(String::as_str).collect::<Vec<_>>());
    let fifos = spoilt.iter().fold(bare(), |archive, file| archive.fifo(file));
    assert_eq!(fate(&host, &canary, "fifos", &fifos), Fate::Boots);
    assert_eq!(fate(&host, &canary, "no files", &bare()), Fate::Boots);
    // What a start would write cannot be written over a directory, and is not worth the boot.
    for file in &spoilt {
        let archive = bare().dir(file).file(&format!("{file}/x"), b"x");
        assert_eq!(fate(&host, &canary, file, &archive), Fate::Boots, "{file}");
    }
}

#[test]
fn network_files_that_lead_elsewhere() {
    let (host, canary) = (Host::new(), Canary::new());
    // Enabled, or nothing would be written for it.
    let wants = "usr/lib/systemd/system/multi-user.target.wants";
    let networkd = || {
        let dirs = ["usr/lib", "usr/lib/systemd", "usr/lib/systemd/system", wants];
        let tree = dirs.iter().fold(Archive::tiny(), |tree, dir| tree.dir(dir));
        let tree = tree.program("usr/lib/systemd/systemd-networkd", b"x");
        tree.symlink(&format!("{wants}/systemd-networkd.service"), "/x")
    };
    let file = "etc/systemd/network/05-nagaya-eth0.network";
    let dirs = || networkd().dir("etc/systemd").dir("etc/systemd/network");
    let marked = b"# Written by nagaya\n";
    for (what, archive) in [
        (
            "dir to the host",
            networkd().dir("etc/systemd").symlink("etc/systemd/network", &canary.path("dir")),
        ),
        ("dir above", networkd().symlink("etc/systemd", &canary.path("dir"))),
        ("dir to /", networkd().dir("etc/systemd").symlink("etc/systemd/network", "/")),
        ("dir to a loop", networkd().symlink("etc/systemd", "systemd")),
        ("dir is a fifo", networkd().dir("etc/systemd").fifo("etc/systemd/network")),
        ("file to the host", dirs().symlink(file, &canary.path("file"))),
        ("file is a fifo", dirs().fifo(file)),
        ("file is a hole", dirs().hole(file, 10 << 30)),
        ("file is marked", dirs().file(file, marked)),
    ] {
        assert_eq!(fate(&host, &canary, what, &archive), Fate::Boots, "{what}");
    }
    let ifupdown = || {
        let there =
            Archive::tiny_without(&["sbin"]).dir("sbin").program("sbin/ifup", b"x").dir("etc/network");
        there.symlink("sbin/init", "../bin/busybox")
    };
    for (what, archive) in [
        ("interfaces is plain", ifupdown().file("etc/network/interfaces", b"source interfaces.d/*\n")),
        ("interfaces to the host", ifupdown().symlink("etc/network/interfaces", &canary.path("file"))),
        (
            "interfaces.d to the host",
            ifupdown()
                .file("etc/network/interfaces", b"x")
                .symlink("etc/network/interfaces.d", &canary.path("dir")),
        ),
        (
            "interfaces within",
            ifupdown().symlink("etc/network/interfaces", "/etc/elsewhere").file("etc/elsewhere", marked),
        ),
    ] {
        assert_eq!(fate(&host, &canary, what, &archive), Fate::Boots, "{what}");
    }
}

#[test]
fn inits_that_lead_elsewhere() {
    let (host, canary) = (Host::new(), Canary::new());
    let bare = || Archive::tiny_without(&["sbin/init"]);
    let none = Fate::NotImported(
        "cannot unpack the template: the tree has no executable file /sbin/init".to_owned(),
    );
    let out = format!("../../../../../..{}", canary.path("dir/init"));
    for target in
        [&*canary.path("dir/init"), &out, "/proc/self/exe", "/proc/1/exe", "/proc/1/root/bin/sh", "/dev/null"]
    {
        assert_eq!(fate(&host, &canary, target, &bare().symlink("sbin/init", target)), none, "{target}");
    }
    assert_eq!(fate(&host, &canary, "fifo", &bare().fifo("sbin/init")), none);
    assert_eq!(fate(&host, &canary, "directory", &bare().dir("sbin/init")), none);
    let below = Archive::tiny_without(&["sbin"]).symlink("sbin", &canary.path("dir"));
    assert_eq!(fate(&host, &canary, "sbin to the host", &below), none);
    // `..` of the root is the root: within the guest this is an init like another.
    let inside = bare().symlink("sbin/init", "../../../../../../../bin/sh");
    assert!(matches!(fate(&host, &canary, "inside", &inside), Fate::Boots | Fate::NotStarted(_)));
}

/// CVE-2019-5736: what the guest has executed in its place is our own program.
#[test]
fn an_init_that_is_our_own_program() {
    let (host, canary) = (Host::new(), Canary::new());
    let ours = || fs::read(env!("CARGO_BIN_EXE_nagaya")).expect("read nagaya");
    let before = ours();
    for script in ["#!/proc/self/exe\n", "#!/proc/self/exe setup\n", "#!/proc/self/fd/3\n"] {
        let archive = Archive::tiny_without(&["sbin/init"]).program("sbin/init", script.as_bytes());
        let fate = fate(&host, &canary, script, &archive);
        assert!(matches!(fate, Fate::NotStarted(_)), "{script}: {fate:?}");
        assert!(ours() == before, "{script} has changed the program");
    }
}

#[test]
fn a_guest_without_a_shell() {
    let (host, canary) = (Host::new(), Canary::new());
    let archive = Archive::tiny_without(&["bin/sh"]);
    assert_eq!(fate(&host, &canary, "no shell", &archive), Fate::Boots);
    host.spawn(&["template", "import", "-", "--name", "h"], &archive.finish()).wait();
    host.ok(&["launch", "h", "h"]);
    host.see_links();
    let output = host.nagaya(&["shell", "h"]);
    assert_eq!(output.status.code(), Some(127), "{}", told(&output));
    assert!(message(&output).0.contains("/bin/sh"), "{}", told(&output));
}

#[test]
fn accounts_without_end() {
    let (host, canary) = (Host::new(), Canary::new());
    let bare = || Archive::tiny_without(&["etc/passwd", "etc/group"]);
    let holes = bare().hole("etc/passwd", 10 << 30).hole("etc/group", 10 << 30);
    assert_eq!(fate(&host, &canary, "holes", &holes), Fate::Boots);
    let one_line = bare().file("etc/passwd", &vec![b'x'; 24 << 20]).file("etc/group", &vec![b':'; 24 << 20]);
    assert_eq!(fate(&host, &canary, "one line", &one_line), Fate::Boots);
    let binary = bare().file("etc/passwd", &[0xff; 4096]).file("etc/group", b"\0\0\0:\n");
    assert_eq!(fate(&host, &canary, "binary", &binary), Fate::Boots);
    let strange = "root:x:4294967295:0::/:\nalice:x:-1:99999999999:::\nalice\n::::::\n";
    let strange = bare().file("etc/passwd", strange.as_bytes());
    assert_eq!(fate(&host, &canary, "strange ids", &strange), Fate::Boots);
}

/// A machine with many accounts is no hostile one.
#[test]
fn many_accounts_are_read_to_the_last() {
    let host = Host::new();
    let many = |line: &dyn Fn(u32) -> String, last: &str| {
        let lines: String = (2000..22_000).map(line).collect();
        format!("{lines}{last}").into_bytes()
    };
    let passwd = many(
        &|n| format!("user{n}:x:{n}:{n}:A customer:/home/user{n}:/bin/sh\n"),
        "zoe:x:1999:1999::/:/bin/sh\n",
    );
    let group = many(&|n| format!("user{n}:x:{n}:\n"), "staff:x:50:zoe\n");
    let archive = Archive::tiny_without(&["etc/passwd", "etc/group"]);
    let archive = archive.file("etc/passwd", &passwd).file("etc/group", &group).finish();
    host.spawn(&["template", "import", "-", "--name", "many"], &archive).wait();
    host.ok(&["launch", "many", "a"]);
    host.see_links();
    assert_eq!(host.ok(&["exec", "a", "--user", "zoe", "--", "id", "-u"]).trim(), "1999");
    assert_eq!(host.ok(&["exec", "a", "--user", "zoe", "--", "id", "-G"]).trim(), "1999 50");
}
