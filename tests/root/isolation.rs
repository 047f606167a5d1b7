//! What a guest's root, and whoever takes over its monitor, cannot do.

use std::fs;

use super::host::{Host, run_tool, status, told, tool_succeeds, uids, until};

#[test]
fn a_guest_sees_and_signals_no_process_but_its_own() {
    let host = Host::new();
    host.launch("a");
    host.launch("b");
    host.sh("b", "sleep 4242 > /dev/null 2>&1 &");
    host.sh("a", "sleep 4141 > /dev/null 2>&1 &");
    let seen = host.sh("a", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(seen.contains("sleep 4141") && !seen.contains("4242"), "{seen}");
    let victim = host.init("b");
    assert!(!host.nagaya(&["exec", "a", "--", "kill", "-0", &victim.to_string()]).status.success());
    // As the guest's root without its pid namespace: from the host, with its ids.
    let id = uids(host.init("a"))[0].to_string();
    let own = host.init("a").to_string();
    let kill = |pid: &str| {
        let args = [&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups", "kill", "-0", pid];
        tool_succeeds("setpriv", &args)
    };
    assert!(kill(&own), "its own init can be signalled");
    for other in [victim, host.monitor("b"), std::process::id() as i32, 1] {
        assert!(!kill(&other.to_string()), "process {other} could be signalled");
    }
}

#[test]
fn a_guest_sees_no_path_of_the_host() {
    let host = Host::new();
    host.launch("web");
    for path in [host.state_dir(), host.run_dir()] {
        assert!(!host.nagaya(&["exec", "web", "--", "test", "-e", &path.to_string_lossy()]).status.success());
    }
    let mounts = host.sh("web", "cat /proc/self/mountinfo");
    assert!(!mounts.contains(host.name()), "{mounts}");
    // Up and out, with every right that the guest's root has.
    assert_eq!(
        host.sh("web", "cd /; cd ../../../..; ls sbin/init; ls /proc/1/root/sbin/init"),
        "sbin/init\n/proc/1/root/sbin/init"
    );
    let cgroup = host.sh("web", "ls /sys/fs/cgroup; cat /sys/fs/cgroup/../cgroup/cgroup.procs");
    assert!(!cgroup.contains("monitor"), "{cgroup}");
}

#[test]
fn device_nodes_cannot_be_made() {
    let host = Host::new();
    host.launch("web");
    for (kind, major, minor) in [("c", "1", "1"), ("b", "254", "0"), ("c", "10", "237")] {
        let script = format!("mknod /root/node {kind} {major} {minor} && probe open /root/node");
        let tried = host.nagaya(&["exec", "web", "--", "sh", "-c", &script]);
        let opened = String::from_utf8_lossy(&tried.stdout).trim() == "ok";
        assert!(!opened, "{kind} {major}:{minor}: {}", told(&tried));
    }
    for device in ["null", "zero", "full", "random", "urandom"] {
        assert_eq!(host.exec("web", &["probe", "open", &format!("/dev/{device}")]), "ok", "{device}");
    }
}

#[test]
fn what_was_passed_to_a_guest_cannot_be_remounted() {
    let host = Host::new();
    host.launch("web");
    let lent = ["/dev/null", "/dev/zero", "/dev/tun", "/dev/net/tun", "/proc/keys"];
    for target in lent {
        for option in ["rw", "suid", "exec", "dev,suid,exec,rw"] {
            let script = format!("mount -o remount,bind,{option} {target}");
            let _ = host.nagaya(&["exec", "web", "--", "sh", "-c", &script]);
        }
    }
    // The guest may change flags of what it has mounted itself; not of the file system behind it.
    for script in [
        "echo x > /dev/keys-new; mount -o remount,rw /dev/null",
        "chmod 600 /dev/null",
        "chown 1 /dev/null",
        "touch /dev/null",
        "rm /dev/null",
    ] {
        let tried = host.nagaya(&["exec", "web", "--", "sh", "-c", script]);
        assert!(!tried.status.success(), "{script}: {}", told(&tried));
    }
    assert!(!host.nagaya(&["exec", "web", "--", "cat", "/proc/keys"]).status.success());
    assert_eq!(run_tool("stat", &["-c", "%a %u", "/dev/null"]).trim(), "666 0");
    // Even where /sys and /proc/sys can be had writable, what is in them is the host's.
    let script = "mount -o remount,bind,rw /proc/sys; mount -o remount,bind,rw /sys; mount -t sysfs s /mnt; \
        echo 1 > /proc/sys/kernel/sysrq; echo x > /proc/sys/kernel/core_pattern; echo 0 > /proc/sys/vm/swappiness; \
        echo mem > /sys/power/state; echo 1 > /sys/kernel/mm/ksm/run; echo c > /proc/sysrq-trigger";
    let watched = ["/proc/sys/kernel/sysrq", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness"];
    let read = || watched.map(|path| fs::read_to_string(path).unwrap_or_default());
    let before = read();
    let _ = host.nagaya(&["exec", "web", "--", "sh", "-c", script]);
    assert_eq!(read(), before);
}

#[test]
fn neither_guest_nor_monitor_can_write_to_the_template() {
    let host = Host::new();
    host.launch("a");
    let tree = host.state_dir().join("pool/templates");
    let print = || {
        run_tool(
            "sh",
            &["-c", &format!("cd {} && find . -printf '%p %m %U %s %T@\\n' | sort", tree.display())],
        )
    };
    let before = print();
    assert!(before.contains("bin/busybox"));
    host.sh("a", "echo evil > /bin/busybox.new; cp /bin/busybox.new /bin/probe; rm /bin/ls; chmod 777 /etc/passwd; touch /sbin/init");
    for pid in [host.monitor("a"), host.init("a")] {
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-c", ATTACK, &pid.to_string()]);
        let tried = super::host::Running::start(command, b"").wait();
        assert!(tried.status.success(), "{}", told(&tried));
        let said = String::from_utf8_lossy(&tried.stdout).into_owned();
        assert!(said.contains("entered") && said.contains("its own: writable"), "{said}");
        assert!(!said.contains("SUCCEEDED"), "{said}");
    }
    assert_eq!(print(), before);
    // Another container of the same template has none of it.
    host.launch("b");
    assert_eq!(host.sh("b", "test -e /bin/busybox.new || ls /bin/ls"), "/bin/ls");
}

/// Becomes root of a monitor's (or init's) user namespace, in its mount namespace, and tries all ways
/// to write to the template that the kernel knows.
pub(super) const ATTACK: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
fds = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("user", "mnt")]
for fd in fds:
    assert libc.setns(fd, 0) == 0, os.strerror(ctypes.get_errno())
os.setgroups([]); os.setresgid(0, 0, 0); os.setresuid(0, 0, 0)
print("entered", os.listdir("/"))
REMOUNT, BIND, REC, PRIVATE = 32, 4096, 16384, 1 << 18
def mount(source, target, kind, flags, data=None):
    return libc.mount(source, target, kind, ctypes.c_ulong(flags), data) == 0
def write(where):
    try:
        os.close(os.open(where + "/written", os.O_CREAT | os.O_WRONLY))
        return True
    except OSError:
        pass
    try:
        os.close(os.open(where + "/bin/busybox", os.O_WRONLY))
        return True
    except OSError:
        return False
def mount_setattr(fd, path, flags, clear):
    attr = struct.pack("QQQQ", 0, clear, 0, 0)
    return libc.syscall(442, fd, path, flags, attr, len(attr)) == 0
def attempt(name, worked):
    print(name, "SUCCEEDED" if worked else "refused")
print("its own:", "writable" if write("/data" if os.path.exists("/data") else "/root") else "not writable")
for where in ("/template", "/proc/1/root/template"):
    path = where.encode()
    attempt("write", write(where))
    attempt("remount rw", mount(None, path, None, REMOUNT | BIND) and write(where))
    attempt("remount superblock", mount(None, path, None, REMOUNT) and write(where))
    attempt("mount_setattr", mount_setattr(-100, path, 0, 1) and write(where))
    attempt("mount_setattr recursive", mount_setattr(-100, path, 0x8000, 1) and write(where))
    clone = libc.syscall(428, -100, path, 1)
    if clone >= 0:
        attempt("clone", mount_setattr(clone, b"", 0x1000, 1) and write(f"/proc/self/fd/{clone}"))
        os.fchdir(clone)
        attempt("clone, from inside", write("."))
        try:
            attempt("openat", os.open("written", os.O_CREAT | os.O_WRONLY, dir_fd=clone) >= 0)
        except OSError:
            pass
        os.chdir("/")
    if mount(path, b"/rootfs/mnt", None, BIND) or mount(path, b"/mnt", None, BIND):
        for target in ("/rootfs/mnt", "/mnt"):
            attempt("bind", write(target))
            attempt("bind, rw", mount(None, target.encode(), None, REMOUNT | BIND) and write(target))
attempt("unlock by unshare", libc.unshare(0x20000) == 0 and mount(None, b"/template", None, REMOUNT | BIND) and write("/template"))
attempt("unlock by user namespace", libc.unshare(0x10020000) == 0 and mount(None, b"/template", None, REMOUNT | BIND) and write("/template"))
"#;

#[test]
fn a_monitor_holds_nothing_of_the_host() {
    let host = Host::new();
    host.launch("web");
    let monitor = host.monitor("web");
    let mounts = fs::read_to_string(format!("/proc/{monitor}/mountinfo")).unwrap();
    let points: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(points, ["/", "/template", "/data", "/.visible/proc", "/.visible/sys", "/rootfs"]);
    let template = mounts.lines().find(|line| line.contains(" /template ")).unwrap();
    for flag in ["ro", "nosuid", "nodev"] {
        assert!(template.split(' ').nth(5).unwrap().split(',').any(|f| f == flag), "{template}");
    }
    assert_eq!(fs::read(format!("/proc/{monitor}/environ")).unwrap(), b"");
    for entry in fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let text = target.to_string_lossy();
        let harmless = ["socket:[", "anon_inode:", "net:[", "/devices/null", "/dev/pts", "/memfd:"];
        // What was opened through a mount of its own is the root of that.
        let fine = harmless.iter().any(|start| text.starts_with(start)) || text == "/";
        assert!(fine, "descriptor {:?} is {text}", entry.file_name());
    }
}

#[test]
fn init_and_programs_have_their_own_descriptors_only() {
    let host = Host::new();
    host.launch("web");
    let init = host.init("web");
    let open = || {
        let entries = fs::read_dir(format!("/proc/{init}/fd")).unwrap().flatten();
        let mut numbers: Vec<i32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    };
    until(30, "init has 0, 1 and 2 open and nothing else", || open() == [0, 1, 2]);
    // Whatever the caller has open, directories of the host among it.
    let nagaya = env!("CARGO_BIN_EXE_nagaya");
    let script = format!(
        "exec 5< / 7< /etc/shadow 9> /dev/null; exec {nagaya} exec web -- sh -c 'echo /proc/self/fd/*'"
    );
    let mut command = std::process::Command::new("/bin/bash");
    command
        .args(["-c", &script])
        .env_clear()
        .env("NAGAYA_INSTANCE", host.name())
        .env("PATH", super::host::PATH);
    let listed = super::host::Running::start(command, b"").wait();
    let listed = String::from_utf8_lossy(&listed.stdout);
    // The shell's own descriptor for the directory that it lists is the fourth.
    assert_eq!(listed.trim(), "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3");
}

#[test]
fn a_guest_has_a_boot_id_of_its_own_and_stands_at_the_root_of_its_cgroups() {
    let host = Host::new();
    host.launch("a");
    host.launch("b");
    let id = |name: &str| host.sh(name, "cat /proc/sys/kernel/random/boot_id");
    let own = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(id("a") != own.trim() && id("a") != id("b") && id("a") == id("a"));
    assert_eq!(id("a").len(), 36);
    assert!(host.sh("a", "cat /proc/1/cgroup").lines().any(|line| line == "0::/"));
    let exec = host.sh("a", "cat /proc/self/cgroup");
    assert!(!exec.contains(host.name()) && !exec.contains(".."), "{exec}");
    let script =
        "mkdir /sys/fs/cgroup/mine && echo $$ > /sys/fs/cgroup/mine/cgroup.procs && cat /proc/self/cgroup";
    assert!(host.sh("a", script).contains("0::/mine"));
    // Of the files of its own cgroup it may write those that concern its processes alone.
    let writable =
        host.sh("a", "cd /sys/fs/cgroup; for f in *; do probe open $f | grep -q ok && echo $f; done; true");
    let own = ["cgroup.freeze", "cgroup.kill", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
    assert!(writable.lines().all(|file| own.contains(&file)), "{writable}");
}

#[test]
fn init_and_programs_lack_capabilities_and_system_calls() {
    let host = Host::new();
    host.launch("web");
    // It is looked for by what it executes.
    host.sh("web", "sleep 4343 > /dev/null 2>&1 & until grep -q ^sleep /proc/$!/cmdline; do :; done");
    let sleeper = super::host::pids()
        .find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == b"sleep\x004343\0"))
        .expect("the program runs");
    // SYS_MODULE SYS_RAWIO SYS_TIME AUDIT_WRITE AUDIT_CONTROL MAC_OVERRIDE MAC_ADMIN SYSLOG
    // WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
    let dropped =
        [16, 17, 25, 29, 30, 32, 33, 34, 35, 36, 37, 38, 39].iter().fold(0u64, |set, cap| set | 1 << cap);
    for pid in [host.init("web"), sleeper] {
        let set = |name| u64::from_str_radix(&status(pid, name), 16).expect("a capability set");
        assert_eq!(set("CapBnd") & dropped, 0);
        assert_eq!(set("CapEff") & dropped, 0);
        assert_eq!((set("CapInh"), set("CapAmb")), (0, 0));
        assert_ne!(set("CapEff") & (1 << 21), 0, "root of the guest has CAP_SYS_ADMIN there");
        assert_eq!(status(pid, "Seccomp"), "2");
    }
    assert_eq!(host.exec("web", &["probe", "kexec"]), "EPERM");
    assert_eq!(host.exec("web", &["probe", "bpf"]), "ENOSYS");
    let groups = host.exec("web", &["id", "-G"]);
    assert_eq!(groups, "0");
}
