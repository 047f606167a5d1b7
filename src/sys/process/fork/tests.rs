use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use super::*;
use crate::model::ids::IdRange;
use crate::sys::error_text;
use crate::sys::process::child::Exit;
use crate::sys::process::program::Program;
use crate::sys::process::userns;

#[test]
fn a_failure_comes_back_with_operation_object_and_cause() {
    let error = Fork::new("try")
        .attempt(|subject| {
            subject.set(b"some\nfile");
            Err(Errno::BUSY).doing("delete")
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot delete 'some\\nfile'");
    assert_eq!(error.errno(), Some(libc::EBUSY));
    Fork::new("try").attempt(|_| Ok(())).unwrap();
}

#[test]
fn a_result_of_any_length_comes_back() {
    for length in [0, 1, 8 << 10, 100_000, 3 << 20] {
        let told: String = Fork::new("tell much").run(|| "x".repeat(length)).unwrap();
        assert_eq!(told.len(), length);
    }
    let error = Fork::new("tell too much").run(|| "x".repeat(17 << 20)).unwrap_err();
    assert!(error_text(&error).contains("too long"), "{error}");
}

#[test]
fn a_child_that_dies_or_does_not_end_is_noticed() {
    let error = Fork::new("end").run::<()>(|| exit_now(3)).unwrap_err();
    assert_eq!(error_text(&error), "cannot end: its process has died: it ended with code 3");
    let start = Instant::now();
    let slow = Fork::new("sleep").deadline(Duration::from_millis(50));
    let error = slow.run(|| std::thread::sleep(Duration::from_secs(20))).unwrap_err();
    assert!(error_text(&error).contains("timed out"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_a_child_cannot_become_is_told() {
    let file = OwnedFd::from(File::open("/dev/null").unwrap());
    let error = Fork::new("work").in_dir(&file).run(|| ()).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOTDIR));
    assert_eq!(error.to_string(), "cannot enter the working directory");
    let child = Fork::new("work").in_dir(&file).start(|| 0).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Code(NOT_BEGUN));
    let sh = Program::at(Path::new("/bin/sh"), ["-c", "exit 0"]).unwrap();
    assert_eq!(Fork::new("work").in_dir(&file).exec(&sh).unwrap_err().errno(), Some(libc::ENOTDIR));
}

#[test]
fn root_of_a_namespace_is_the_first_id_of_the_range_outside() {
    let id_range = IdRange::at(1_990_000_640).unwrap();
    let namespace = userns::over(id_range).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let top = File::open(dir.path()).unwrap();
    Fork::new("make a directory")
        .keep([&top])
        .root_of(&namespace)
        .attempt(|_| rustix::fs::mkdirat(&top, c"made", 0o700.into()).doing("make a directory"))
        .unwrap();
    let made = fs::metadata(dir.path().join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (id_range.base(), id_range.base()));
}

/// The descriptors of a process and what they are.
fn descriptors_of(pid: i32) -> BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let number = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().parse().unwrap();
    entries.map(|e| (number(&e), fs::read_link(e.path()).unwrap().display().to_string())).collect()
}

#[test]
fn a_child_has_what_it_is_given_and_nothing_else() {
    let (_read, given) = std::io::pipe().unwrap();
    let (other, _write) = std::io::pipe().unwrap();
    // Also one that exec would not close.
    let _inheritable = rustix::io::dup(&other).unwrap();
    let fork = Fork::new("wait").keep([&given]).without_terminal().dies_with_parent();
    let (child, socket) = fork
        .start_with_socket(|socket| {
            let _ = seqpacket::send(&socket, &(), &[]);
            let _ = seqpacket::recv::<()>(&socket);
            0
        })
        .unwrap();
    seqpacket::recv::<()>(&socket).unwrap();
    let mut found = descriptors_of(child.pid);
    for stream in 0..3 {
        assert_eq!(found.remove(&stream).as_deref(), Some("/dev/null"));
    }
    let mut kinds: Vec<_> = found.values().map(|what| what.split(':').next().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["pipe", "socket"], "{found:?}");
    assert!(found.contains_key(&given.as_raw_fd()));
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.pid)).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[3], fields[4]), (&*child.pid.to_string(), "0"), "session and terminal");
    drop(socket);
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
}

#[test]
fn a_program_has_its_streams_its_environment_and_nothing_else() {
    let (other, _write) = std::io::pipe().unwrap();
    let _inheritable = rustix::io::dup(&other).unwrap();
    let script =
        "cat; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=; pwd; ls /proc/$$/fd; echo no >&2; exit 3";
    let sh = Program::at(Path::new("/bin/sh"), ["-c", script]).unwrap();
    let sh = sh.env("LC_ALL", "C").unwrap().env("PATH", "/usr/bin:/bin").unwrap();
    let output = Fork::new("run a shell").deadline(Duration::from_secs(20)).output(&sh, "input\n").unwrap();
    let mut lines: Vec<&str> = output.stdout.lines().collect();
    // A shell may keep its script's file at a high number, and nothing of ours is up there.
    lines.retain(|line| line.parse::<u32>().is_ok_and(|number| number < 3) || line.parse::<u32>().is_err());
    assert_eq!(lines[0], "input");
    assert!(lines[1..3].contains(&"LC_ALL=C") && lines[1..3].contains(&"PATH=/usr/bin:/bin"), "{lines:?}");
    assert_eq!(lines[3..], ["/", "0", "1", "2"]);
    assert_eq!((output.exit, output.complaint()), (Exit::Code(3), Some("no")));
}

#[test]
fn a_program_that_is_not_there_or_does_not_end_is_told() {
    let none = Program::at(Path::new("/nonexistent/pasta"), ["x"]).unwrap();
    let error = Fork::new("run it").exec(&none).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.errno()), ("cannot run pasta", Some(libc::ENOENT)));
    let sleep = Program::at(Path::new("/bin/sleep"), ["20"]).unwrap();
    let error = Fork::new("sleep").deadline(Duration::from_millis(50)).output(&sleep, "").unwrap_err();
    assert_eq!(error_text(&error), "cannot run sleep: timed out");
}

#[test]
fn a_child_ends_with_its_parent() {
    let (child, socket) = Fork::new("be a parent")
        .start_with_socket(|socket| {
            let tied = Fork::new("sleep").keep([&socket]).dies_with_parent();
            let grandchild = tied.start(|| {
                let _ = seqpacket::send(&socket, &(), &[]);
                std::thread::sleep(Duration::from_secs(20));
                0
            });
            // Its end is the socket's, once this one has ended too.
            let _ = seqpacket::recv::<()>(&socket);
            i32::from(grandchild.is_err())
        })
        .unwrap();
    seqpacket::recv::<()>(&socket).unwrap();
    let start = Instant::now();
    seqpacket::send(&socket, &(), &[]).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    assert!(seqpacket::recv::<()>(&socket).unwrap().is_none());
    assert!(start.elapsed() < Duration::from_secs(10));
}
