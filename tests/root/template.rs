//! Building and importing templates.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::host::{Host, run_tool, told, until};
use super::templates;

/// Needs a Debian mirror.
const TIMEOUT: Duration = Duration::from_secs(300);

#[test]
fn a_recipe_is_built_and_a_killed_build_leaves_nothing() {
    let host = Host::bare();
    host.ok(&["setup"]);
    let killed = host.spawn(&["template", "build", "debian12"], b"");
    let tmp = host.state_dir().join("pool/tmp");
    let grows = || run_tool("sh", &["-c", &format!("ls -A {} | wc -l", tmp.display())]).trim() != "0";
    until(60, "the build has begun to unpack", || {
        let working =
            Host::processes(host.ids(), host.uid()).iter().any(|(_, what)| what.contains("mmdebstrap"));
        grows() && working
    });
    let script = format!("du -sm {} 2>/dev/null | cut -f1", tmp.display());
    let mebibytes = || run_tool("sh", &["-c", &script]).trim().parse().unwrap_or(0);
    until(60, "it is in the midst of it", || mebibytes() > 40);
    killed.kill(false);
    drop(killed.wait());
    host.ok(&["template", "list"]);
    until(10, "its processes have ended", || Host::processes(host.ids(), host.uid()).is_empty());
    host.ok(&["template", "list"]);
    assert_eq!(entries(&tmp), 0);
    assert_eq!(entries(&host.state_dir().join("pool/templates")), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(host.name()));

    let built = host.spawn(&["template", "build", "debian12"], b"").wait_for(TIMEOUT);
    assert!(built.status.success(), "{}", told(&built));
    host.ok(&["launch", "debian12", "web", "--wait=running", "--timeout", "50"]);
    assert!(host.sh("web", "cat /etc/os-release").contains("bookworm"));
    assert_eq!(host.exec("web", &["systemctl", "is-system-running", "--wait"]), "running");
}

/// How many entries a directory has; one that is not there yet has none.
fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn a_killed_import_leaves_nothing() {
    let host = Host::new();
    let archive = templates::debian("debian12");
    for delay in [5, 60, 200] {
        let killed = host.spawn(&["template", "import", &archive.to_string_lossy(), "--name", "big"], b"");
        std::thread::sleep(Duration::from_millis(delay));
        killed.kill(delay != 60);
        drop(killed.wait());
        until(10, "its processes have ended", || Host::processes(host.ids(), host.uid()).is_empty());
        let list = host.ok(&["template", "list", "--format", "json"]);
        assert!(!list.contains("big"), "{list}");
        assert_eq!(entries(&host.state_dir().join("pool/tmp")), 0);
        assert_eq!(entries(&host.state_dir().join("pool/templates")), 1);
    }
    host.launch("web");
}

#[test]
fn a_template_outlives_its_name_as_long_as_containers_stand_on_it() {
    let host = Host::new();
    host.launch("web");
    let said = host.fails(1, &["template", "delete", "tiny"]);
    assert!(said.contains("web") || said.contains("container"), "{said}");
    // A second import of the same archive is the same template; of another archive, a new one.
    host.import("again", &templates::tiny());
    assert_eq!(entries(&host.state_dir().join("pool/templates")), 1);
    host.ok(&["delete", "--force", "web"]);
    host.ok(&["template", "delete", "tiny"]);
    host.ok(&["launch", "again", "other"]);
    host.ok(&["delete", "--force", "other"]);
    host.ok(&["template", "delete", "again"]);
    assert_eq!(entries(&host.state_dir().join("pool/templates")), 0);
}

#[test]
fn hostile_archives_touch_nothing_outside() {
    let host = Host::new();
    let dir = tempfile::tempdir().unwrap();
    let marker = format!("/tmp/{}-escaped", host.name());
    const MAKE: &str = "import io, sys, tarfile
path, marker, base = sys.argv[1:]
with tarfile.open(base) as old, tarfile.open(path, 'w') as new:
    for member in old:
        new.addfile(member, old.extractfile(member) if member.isreg() else None)
    def add(name, kind=tarfile.REGTYPE, link='', mode=0o644, data=b'x', major=0, minor=0):
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data) if kind == tarfile.REGTYPE else 0
        info.devmajor, info.devminor = major, minor
        new.addfile(info, io.BytesIO(data) if kind == tarfile.REGTYPE else None)
    add('dev/sda', tarfile.BLKTYPE, mode=0o666, major=8)
    add('root/mem', tarfile.CHRTYPE, mode=0o666, major=1, minor=1)
    if 'link' in path:
        add('out', tarfile.SYMTYPE, link='/tmp'); add('out/' + marker.rsplit('/')[-1])
    if 'dots' in path:
        add('../../../../../../../../' + marker)
    if 'absolute' in path:
        add(marker)
    if 'hard' in path:
        add('hard', tarfile.LNKTYPE, link='/etc/shadow')
";
    for kind in ["link", "dots", "absolute", "hard", "devices"] {
        let archive = dir.path().join(format!("{kind}.tar"));
        let base = templates::tiny();
        run_tool(
            "/usr/bin/python3",
            &["-c", MAKE, &archive.to_string_lossy(), &marker, &base.to_string_lossy()],
        );
        let done = host.nagaya(&["template", "import", &archive.to_string_lossy(), "--name", kind]);
        assert!(matches!(done.status.code(), Some(0 | 1)), "{}", told(&done));
        assert!(!Path::new(&marker).exists(), "{kind}");
        let pool = host.state_dir().join("pool").to_string_lossy().into_owned();
        let devices = run_tool("find", &[&pool, "(", "-type", "b", "-o", "-type", "c", ")", "-print"]);
        assert_eq!(devices, "", "{kind}");
        if done.status.success() {
            host.ok(&["launch", kind, kind]);
            let shadow = host.nagaya(&["exec", kind, "--", "cat", "/hard"]);
            assert!(!String::from_utf8_lossy(&shadow.stdout).contains("root:"), "{kind}");
        }
        assert_eq!(entries(&host.state_dir().join("pool/tmp")), 0, "{kind}");
    }
    assert!(
        host.list().iter().any(|row| row["name"] == "devices"),
        "an archive with devices is taken without them"
    );
}
