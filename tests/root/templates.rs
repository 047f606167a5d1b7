//! Root filesystems to test with, made once and kept as archives in the build directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::{PATH, run_tool};

/// Where archives are kept from run to run.
fn cache(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// One process at a time makes archive `name`, by writing to the path that `make` is given.
fn cached(name: &str, sources: &[&Path], make: impl FnOnce(&Path)) -> PathBuf {
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).expect("make the cache directory");
    let lock = File::create(cache(&format!("{name}.lock"))).expect("make a lock file");
    lock.lock().expect("lock the cache");
    let (path, new) = (cache(name), cache(&format!("{name}.new")));
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let made = time(&path);
    if made.is_none() || sources.iter().any(|source| time(source) > made) {
        make(&new);
        fs::rename(&new, &path).expect("put an archive in its place");
    }
    path
}

/// The archive of a system of two programs, `tests/root/init.c` and busybox.
pub fn tiny() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/root");
    let (init, probe, own) = (dir.join("init.c"), dir.join("probe.c"), dir.join("templates.rs"));
    cached("tiny.tar", &[&init, &probe, &own], |archive| {
        let busybox = Path::new("/bin/busybox");
        assert!(busybox.exists(), "there is no /bin/busybox: apt-get install busybox-static");
        let root = tempfile::tempdir().expect("make a directory");
        let at = |path: &str| root.path().join(path);
        for directory in ["bin", "sbin", "etc", "root", "tmp", "var", "home/alice", "usr/bin"] {
            fs::create_dir_all(at(directory)).expect("make a directory");
        }
        compile(&init, &at("sbin/init"));
        compile(&probe, &at("bin/probe"));
        fs::copy(busybox, at("bin/busybox")).expect("copy busybox");
        let applets = run_tool("/bin/busybox", &["--list"]);
        for applet in applets.lines().filter(|a| !["busybox", "init", "linuxrc"].contains(a)) {
            std::os::unix::fs::symlink("busybox", at("bin").join(applet)).expect("link an applet");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n";
        fs::write(at("etc/passwd"), passwd).expect("write passwd");
        fs::write(at("etc/group"), "root:x:0:\ntty:x:5:\naudio:x:29:alice\nalice:x:1000:\n")
            .expect("write group");
        fs::write(at("etc/os-release"), "PRETTY_NAME=\"Tiny 1\"\n").expect("write os-release");
        let (root, archive) = (root.path().to_string_lossy(), archive.to_string_lossy());
        run_tool("tar", &["-C", &root, "--numeric-owner", "--owner=0", "--group=0", "-cf", &archive, "."]);
    })
}

/// The init of `tiny`, as a program.
pub fn tiny_init() -> Vec<u8> {
    program(include_str!("init.c"))
}

/// A static program of this C text.
pub fn program(source: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("make a directory");
    let (from, to) = (dir.path().join("program.c"), dir.path().join("program"));
    fs::write(&from, source).expect("write a program's text");
    compile(&from, &to);
    fs::read(to).expect("read a program")
}

fn compile(source: &Path, program: &Path) {
    let (source, program) = (source.to_string_lossy(), program.to_string_lossy());
    run_tool("gcc", &["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", &program, &source]);
}

/// The archive of a Debian made of the packages of its recipe, by mmdebstrap alone. Needs a mirror.
pub fn debian(recipe: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(format!("{recipe}.toml"));
    cached(&format!("{recipe}.tar"), &[&path], |archive| {
        let text = fs::read_to_string(&path).expect("read the recipe");
        let recipe: toml::Table = text.parse().expect("parse the recipe");
        let packages = recipe["packages"].as_array().expect("packages");
        let packages: Vec<_> = packages.iter().filter_map(|p| p.as_str()).collect();
        let suite = recipe["suite"].as_str().expect("suite");
        let enable = r#"systemctl --root="$1" enable systemd-networkd.service"#;
        let built = Command::new("mmdebstrap")
            .args(["--quiet", "--mode=root", "--format=tar", "--variant=minbase"])
            .args(["--dpkgopt=force-unsafe-io", &format!("--include={}", packages.join(","))])
            .arg(format!("--customize-hook={enable}"))
            .arg(suite)
            .arg(archive)
            .env_clear()
            .env("PATH", PATH)
            .envs(["http_proxy", "https_proxy"].iter().filter_map(|k| Some((k, std::env::var_os(k)?))))
            .output()
            .expect("run mmdebstrap: apt-get install mmdebstrap");
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "mmdebstrap cannot build {suite}: {said}");
    })
}
