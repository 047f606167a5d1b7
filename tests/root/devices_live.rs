//! Devices that come to a running guest, and go.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::daemonless_user::DaemonlessUser;
use super::devices::{Dir, mounted, reboot, source};
use super::host::{Host, Running, lives, run_tool, told, until};
use super::hostd_users::HostdUsers;

#[test]
fn a_directory_comes_to_a_running_guest_and_goes() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    host.launch("web");
    let said = host.nagaya(&[
        "device",
        "add",
        "web",
        "data",
        "disk",
        &source(&data),
        "path=/mnt/data",
        "readonly=true",
    ]);
    assert!(said.status.success() && said.stderr.is_empty(), "{}", told(&said));
    assert!(mounted(&host, "/mnt/data"));
    // What is locked at a start is locked here too.
    for script in
        ["touch /mnt/data/x", "mount -o remount,rw,bind /mnt/data", "mount -o remount,suid,bind,ro /mnt/data"]
    {
        assert!(!host.nagaya(&["exec", "web", "--", "sh", "-c", script]).status.success(), "{script}");
    }
    reboot(&host);
    assert!(mounted(&host, "/mnt/data"));
    // In use, it stays.
    host.ok(&["exec", "web", "--detach", "--", "sh", "-c", "cd /mnt/data && exec sleep 1000"]);
    let said = host.fails(1, &["device", "remove", "web", "data"]);
    assert!(said.contains("something in 'web' uses /mnt/data") && said.contains("--force"), "{said}");
    assert!(mounted(&host, "/mnt/data"));
    host.ok(&["device", "remove", "web", "data", "--force"]);
    assert!(!mounted(&host, "/mnt/data"));
    assert_eq!(host.ok(&["device", "list", "web", "--format", "json"]).matches("\"disk\"").count(), 0);
    // What may be missing, and is, comes with a later start.
    let later = format!("{data}/later");
    host.ok(&["device", "add", "web", "later", "disk", &source(&later), "path=/mnt/later", "required=false"]);
    assert!(!mounted(&host, "/mnt/later"));
    host.ok(&["device", "remove", "web", "later"]);
    host.ok(&["device", "add", "web", "memory", "disk", "source=tmpfs:", "path=/mnt/data"]);
    assert!(mounted(&host, "/mnt/data"));
    host.ok(&["device", "remove", "web", "memory"]);
    assert!(!mounted(&host, "/mnt/data"));
    reboot(&host);
    assert!(!mounted(&host, "/mnt/data"));
}

#[test]
fn a_change_that_waits_is_told_and_can_be_taken_back() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    host.ok(&["launch", "tiny", "web", "-d", &format!("data,type=disk,source={data},path=/data")]);
    let set = |pair: &str| told(&host.nagaya(&["device", "set", "web", "data", pair]));
    let waits = || host.ok(&["info", "web"]).contains("device 'data' changes");
    assert!(set("readonly=true").contains("takes effect at the next start"));
    assert!(waits());
    host.ok(&["device", "unset", "web", "data", "readonly"]);
    assert!(!waits());
    host.exec("web", &["touch", "/data/x"]);
    assert!(set("path=/other").contains("takes effect at the next start") && waits());
    // What it was given, and nothing else, is taken away.
    host.ok(&["device", "remove", "web", "data"]);
    assert!(!mounted(&host, "/data") && !mounted(&host, "/other"));
}

#[test]
fn a_guest_that_swaps_the_place_for_links_gets_nothing_mounted_elsewhere() {
    let host = Host::new();
    let dir = Dir::closed();
    let (data, outside) = (dir.inner("data", 0), dir.inner("outside", 0));
    host.launch("web");
    let swap = format!(
        "mkdir -p /a /real/c; ln -s ../../../../../..{outside} /l; ln -s /proc /p; \
         while :; do mv /a /b; mv /l /a; mv /a /l; mv /p /a; mv /a /p; mv /b /a; done"
    );
    host.ok(&["exec", "web", "--detach", "--", "sh", "-c", &swap]);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for round in 0..40 {
        let name = format!("d{round}");
        let added = host.nagaya(&["device", "add", "web", &name, "disk", &source(&data), "path=/a/x/y"]);
        if added.status.success() {
            let _ = host.nagaya(&["device", "remove", "web", &name, "--force"]);
        }
        let listed = host.ok(&["device", "list", "web", "--format", "json"]);
        if listed.contains("\"disk\"") {
            let restarted = host.nagaya(&["restart", "--force", "web"]);
            host.ok(&["device", "remove", "web", &name, "--force"]);
            if !restarted.status.success() {
                // A link that leads to nothing in the guest was left in its place.
                let said = told(&restarted);
                assert!(said.contains("cannot make the guest's /a/x/y"), "{said}");
                host.ok(&["start", "web"]);
            }
            host.ok(&["exec", "web", "--detach", "--", "sh", "-c", &swap]);
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
    let mine = |text: &str| text.lines().filter(|line| line.contains(dir.0.to_str().unwrap())).count();
    assert_eq!(mine(&fs::read_to_string("/proc/self/mountinfo").unwrap()), mine(&before));
    let monitor = host.info("web")["monitor_pid"].as_i64().expect("a monitor");
    let seen = fs::read_to_string(format!("/proc/{monitor}/mountinfo")).unwrap();
    let elsewhere: Vec<&str> = seen
        .lines()
        .filter(|line| {
            line.contains(dir.0.to_str().unwrap())
                && !line.contains(" /plugged/")
                && !line.contains(" /mounts/")
        })
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

#[test]
fn a_guest_whose_file_systems_do_not_answer_holds_nobody_up() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    host.launch("web");
    // A FUSE file system that nobody serves: whoever looks at it waits.
    let init = host.init("web").to_string();
    let script = "import os,sys,ctypes\n\
        libc=ctypes.CDLL(None,use_errno=True)\n\
        ns=os.open('/proc/'+sys.argv[1]+'/ns/mnt',os.O_RDONLY)\n\
        assert libc.setns(ns,0)==0\n\
        fd=os.open('/dev/fuse',os.O_RDWR)\n\
        os.makedirs('/stuck')\n\
        data=('fd=%d,rootmode=40000,user_id=0,group_id=0'%fd).encode()\n\
        assert libc.mount(b'x',b'/stuck',b'fuse',0,data)==0,ctypes.get_errno()\n\
        print('mounted',flush=True)\n\
        sys.stdin.read()\n";
    let mut command = Command::new("nsenter");
    command.args(["-t", &init, "-U", "-S", "0", "-G", "0", "python3", "-c", script, &init]);
    let (fuse, typed) = Running::typed_at(command);
    until(10, "the file system is mounted", || fuse.printed().contains("mounted"));
    let begun = std::time::Instant::now();
    let said = host.fails(1, &["device", "add", "web", "d", "disk", &source(&data), "path=/stuck/deep/d"]);
    assert!(said.contains("do not answer"), "{said}");
    assert!(begun.elapsed().as_secs() < 20);
    assert_eq!(host.exec("web", &["echo", "here"]).trim(), "here");
    assert_eq!(host.ok(&["device", "list", "web", "--format", "json"]).matches("\"disk\"").count(), 0);
    drop(typed);
    fuse.wait();
}

#[test]
fn a_guest_keeps_its_directories_when_its_monitor_is_killed() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    host.launch("web");
    host.ok(&["device", "add", "web", "data", "disk", &source(&data), "path=/data"]);
    let monitor = host.info("web")["monitor_pid"].as_i64().expect("a monitor") as i32;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(monitor).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    until(10, "the monitor ends", || !lives(monitor));
    assert!(mounted(&host, "/data"));
    reboot(&host);
    assert!(mounted(&host, "/data"));
    host.ok(&["device", "remove", "web", "data"]);
    assert!(!mounted(&host, "/data"));
}

#[test]
fn an_interface_comes_to_a_running_guest_and_goes() {
    let host = Host::new();
    host.launch("web");
    host.launch("other");
    host.ok(&["network", "create", "dmz", "ipv4.address=10.213.9.1/24"]);
    let added =
        host.nagaya(&["device", "add", "web", "eth1", "nic", "network=dmz", "ipv4.address=10.213.9.7"]);
    assert!(added.status.success() && added.stderr.is_empty(), "{}", told(&added));
    run_tool("ping", &["-c1", "-W2", "10.213.9.7"]);
    let address = host.exec("web", &["ip", "addr", "show", "eth1"]);
    assert!(address.contains("10.213.9.7/24") && address.contains("UP"), "{address}");
    // Filtered as every interface.
    host.exec("web", &["ip", "addr", "add", "10.213.9.99/24", "dev", "eth1"]);
    let spoofed =
        host.nagaya(&["exec", "web", "--", "ping", "-c1", "-W1", "-I", "10.213.9.99", "10.213.9.1"]);
    assert!(!spoofed.status.success(), "a packet of another address has passed");
    reboot(&host);
    run_tool("ping", &["-c1", "-W5", "10.213.9.7"]);
    assert!(!host.ok(&["info", "web"]).contains("at the next start"), "nothing waits");
    host.ok(&["device", "remove", "web", "eth1"]);
    assert!(!host.exec("web", &["ip", "link"]).contains("eth1"));
    // The address is free at once.
    host.ok(&["device", "add", "other", "eth1", "nic", "network=dmz", "ipv4.address=10.213.9.7"]);
    run_tool("ping", &["-c1", "-W2", "10.213.9.7"]);
    host.ok(&["stop", "--force", "web"]);
    host.ok(&["start", "web"]);
    assert!(!host.exec("web", &["ip", "link"]).contains("eth1"));
}

/// Whether everybody on this host may use a node.
fn everybodys(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|found| found.mode() & 0o006 == 0o006)
}

#[test]
fn an_ordinary_users_guest_gets_directories_and_interfaces_while_it_runs() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let dir = Dir::open();
    let own = dir.inner("own", ann.uid);
    ann.ok(&["launch", "tiny", "web"]);
    ann.ok(&["device", "add", "web", "own", "disk", &source(&own), "path=/own"]);
    ann.ok(&["exec", "web", "--", "sh", "-c", "echo x > /own/new && chown 7 /own/new"]);
    assert_eq!(ann.ok(&["exec", "web", "--", "stat", "-c", "%u:%g", "/own/new"]).trim(), "7:0");
    ann.ok(&["device", "remove", "web", "own"]);
    assert!(!ann.ok(&["exec", "web", "--", "cat", "/proc/self/mountinfo"]).contains(" /own "));
    // A node only as far as the user may use it.
    let added = ann.nagaya(&[
        "device",
        "add",
        "web",
        "f",
        "unix-char",
        "source=/dev/fuse",
        "path=/dev/f",
        "mode=0600",
    ]);
    assert_eq!(added.status.success(), everybodys("/dev/fuse"), "{}", told(&added));
    let seen = ann.nagaya(&["exec", "web", "--", "stat", "-c", "%a %t:%T", "/dev/f"]).stdout;
    assert_eq!(String::from_utf8_lossy(&seen).trim() == "600 a:e5", everybodys("/dev/fuse"));
    ann.ok(&["device", "add", "web", "eth1", "nic"]);
    assert!(ann.ok(&["exec", "web", "--", "ip", "addr", "show", "eth1"]).contains("inet "));
    ann.ok(&["device", "remove", "web", "eth1"]);
    assert!(!ann.ok(&["exec", "web", "--", "ip", "link"]).contains("eth1"));
}

#[test]
fn without_hostd_a_running_guest_gets_what_can_be() {
    let owner = DaemonlessUser::with_template();
    owner.ok(&["launch", "tiny", "web"]);
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
    let listed = owner.ok(&["exec", "web", "--", "ls", "/d"]);
    assert!(listed.lines().any(|name| name == "doc"), "{listed}");
    assert!(
        !owner.nagaya(&["exec", "web", "--", "mount", "-o", "remount,bind,suid,ro", "/d"]).status.success()
    );
    owner.ok(&["device", "remove", "web", "d"]);
    let added = owner.nagaya(&["device", "add", "web", "f", "unix-char", "source=/dev/fuse", "path=/dev/f"]);
    assert_eq!(added.status.success(), everybodys("/dev/fuse"), "{}", told(&added));
    owner.ok(&["device", "add", "web", "eth1", "nic"]);
    assert!(owner.ok(&["exec", "web", "--", "ip", "addr", "show", "eth1"]).contains("inet "));
    owner.ok(&["device", "remove", "web", "eth1"]);
    assert!(!owner.ok(&["exec", "web", "--", "ip", "link"]).contains("eth1"));
}
