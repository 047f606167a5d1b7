//! Honest archives: what GNU tar makes of a tree, unpacked here and by GNU tar, must be the same.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::tests::{Place, xattrs};

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn honest_tree(root: &Path) {
    let path = |name: &str| root.join(name);
    fs::create_dir_all(path("etc/deep/er")).unwrap();
    fs::write(path("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(path("etc/deep/er").join("n".repeat(255)), "long").unwrap();
    fs::hard_link(path("etc/passwd"), path("etc/passwd-")).unwrap();
    std::os::unix::fs::symlink("../etc/deep", path("etc/link")).unwrap();
    std::os::unix::fs::symlink("x".repeat(300), path("etc/long-link")).unwrap();
    std::os::unix::fs::lchown(path("etc/link"), Some(5), Some(6)).unwrap();
    let mut sparse = File::create(path("sparse")).unwrap();
    for part in 0..12u64 {
        std::io::Seek::seek(&mut sparse, std::io::SeekFrom::Start(part * 300_000)).unwrap();
        sparse.write_all(&[7; 5000]).unwrap();
    }
    sparse.set_len(5_000_000).unwrap();
    fs::write(path("su"), "elf").unwrap();
    std::os::unix::fs::chown(path("su"), Some(0), Some(42)).unwrap();
    fs::set_permissions(path("su"), fs::Permissions::from_mode(0o2755)).unwrap();
    fs::set_permissions(path("etc/deep"), fs::Permissions::from_mode(0o3770)).unwrap();
    rustix::fs::setxattr(path("su"), "user.note", b"a\nb", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(path("etc"), "user.dir", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), rustix::fs::Mode::from_raw_mode(0o640)).unwrap();
    for (name, time) in [("etc/passwd", "@1234567890.123456789"), ("etc", "@-86400"), ("", "@1500000000")] {
        run("touch", &["-d", time, path(name).to_str().unwrap()]);
    }
}

/// Type, mode, owner, size, time, links and their targets of everything, sorted by name.
fn listing(root: &Path) -> String {
    let root = root.to_str().unwrap();
    let all = run("find", &[root, "-printf", "%P %y %m %U:%G %s %T@ %n '%l'\\n"]);
    // The size of a directory is the file system's affair.
    let mut lines: Vec<String> = all
        .lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split(' ').collect();
            if fields[1] == "d" {
                fields[4] = "-";
            }
            fields.join(" ")
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn honest_archives_unpack_as_with_gnu_tar() {
    for format in ["gnu", "posix"] {
        let work = TempDir::new().unwrap();
        let (origin, theirs) = (work.path().join("origin"), work.path().join("theirs"));
        fs::create_dir(&origin).unwrap();
        fs::create_dir(&theirs).unwrap();
        honest_tree(&origin);
        let tarball = work.path().join("a.tar");
        let tarball = tarball.to_str().unwrap();
        let format_option = format!("--format={format}");
        let mut create =
            vec!["-C", origin.to_str().unwrap(), &format_option, "--numeric-owner", "-cf", tarball];
        // GNU's own format takes sparse files, the POSIX one attributes.
        create.push(if format == "gnu" { "--sparse" } else { "--xattrs" });
        create.push(".");
        run("tar", &create);
        run("tar", &["-C", theirs.to_str().unwrap(), "--numeric-owner", "--xattrs", "-xpf", tarball]);

        let place = Place::new();
        place.extract(&fs::read(tarball).unwrap()).unwrap();
        assert_eq!(listing(&place.path("")), listing(&theirs), "{format}");
        run(
            "diff",
            &[
                "-r",
                "--no-dereference",
                "--exclude=fifo",
                theirs.to_str().unwrap(),
                place.path("").to_str().unwrap(),
            ],
        );
        for name in ["su", "etc"] {
            assert_eq!(xattrs(&place.path(name)), xattrs(&theirs.join(name)), "{format} {name}");
        }
        let blocks = |root: &Path| fs::metadata(root.join("sparse")).unwrap().blocks();
        assert_eq!(blocks(&place.path("")), blocks(&theirs), "{format}");
    }
}
