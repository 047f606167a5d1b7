//! A monitor whose clients and whose guest do what they can to hold it up, spoken to over its socket as
//! the commands do it.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::archive::Archive;
use super::host::{Host, lives, status, told, until, waits_in};
use super::templates::program;

/// What a command takes on a busy machine, at most.
const SOON: Duration = Duration::from_secs(10);

/// A connection to a container's monitor.
pub struct Connection(OwnedFd);

impl Connection {
    fn open(host: &Host, name: &str) -> Self {
        let id = host.info(name)["id"].as_str().expect("an id").to_owned();
        Self::at(&SocketAddrUnix::new(host.run_dir().join("containers").join(id).join("control")).unwrap())
    }

    pub fn at(address: &SocketAddrUnix) -> Self {
        let socket =
            net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        net::connect(&socket, address).unwrap();
        let timeout = net::sockopt::Timeout::Recv;
        net::sockopt::set_socket_timeout(&socket, timeout, Some(SOON)).unwrap();
        Self(socket)
    }

    pub fn send(&self, request: &Value, fds: &[BorrowedFd<'_>]) {
        let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
        let mut control = net::SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(net::SendAncillaryMessage::ScmRights(fds)));
        }
        let text = serde_json::to_vec(request).unwrap();
        let text = [std::io::IoSlice::new(&text)];
        net::sendmsg(&self.0, &text, &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next reply; none at the end of the connection.
    pub fn hear(&self) -> Option<Value> {
        let mut text = [0u8; 4096];
        let (length, _) =
            net::recv(&self.0, &mut text[..], net::RecvFlags::empty()).expect("a reply in time");
        (length > 0).then(|| serde_json::from_slice(&text[..length]).unwrap())
    }
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

/// A command's standard output; it must succeed, and soon.
fn soon(host: &Host, args: &[&str]) -> String {
    let output = host.spawn(args, b"").wait_for(SOON);
    assert!(output.status.success(), "{}: {}", args.join(" "), told(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Processes of the guest with this command line, as the guest numbers them.
fn found(host: &Host, words: &str) -> Vec<String> {
    let listed = soon(host, &["exec", "a", "--", "ps", "-o", "pid,args"]);
    let lines = listed.lines().filter_map(|line| line.trim().split_once(' '));
    lines.filter(|(_, args)| *args == words).map(|(pid, _)| pid.to_owned()).collect()
}

#[test]
fn what_is_typed_at_a_console_that_nobody_reads_holds_up_nobody() {
    let host = Host::new();
    host.launch("a");
    host.sh("a", "kill -STOP $(pidof init | tr ' ' '\\n' | grep -vx 1); stty -F /dev/console raw -echo");
    let console = Connection::open(&host, "a");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (typist, theirs) =
        net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket pair");
    console.send(&json!("console"), &[theirs.as_fd()]);
    assert_eq!(console.hear(), Some(json!("done")));
    drop(theirs);
    // What the kernel keeps for the guest, and more, pasted at once.
    let mut typed = 0;
    let begun = Instant::now();
    while typed < 80_000 || begun.elapsed() < Duration::from_millis(300) {
        match rustix::io::write(&typist, &[b'x'; 4096]) {
            Ok(n) => typed += n,
            Err(e) if typed < 80_000 => assert!(begun.elapsed() < SOON, "only {typed} bytes were taken: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    assert_eq!(soon(&host, &["exec", "a", "--", "echo", "here"]), "here");
    assert_eq!(soon(&host, &["exec", "-t", "a", "--", "echo", "here"]), "here");
    // Others see what the guest prints, and the one who typed can leave.
    host.sh("a", "echo still printing > /dev/console");
    until(10, "it is printed", || host.ok(&["logs", "a"]).contains("still printing"));
    drop((typist, console));
    soon(&host, &["pause", "a"]);
    soon(&host, &["resume", "a"]);
    soon(&host, &["stop", "a"]);
}

#[test]
fn clients_that_say_nothing_nonsense_or_too_much_hold_up_nobody() {
    let host = Host::new();
    host.launch("a");
    let monitor = host.monitor("a");
    let open = || fs::read_dir(format!("/proc/{monitor}/fd")).expect("list descriptors").count();
    let before = open();
    let id = host.info("a")["id"].as_str().expect("an id").to_owned();
    let address = SocketAddrUnix::new(host.run_dir().join("containers").join(id).join("control")).unwrap();
    let silent: Vec<_> = (0..100).map(|_| Connection::at(&address)).collect();
    let (nothing, fds) = (null(), 250);
    for request in [json!("console"), json!({"exec": {"argv": []}}), json!("no such thing"), json!(null)] {
        for _ in 0..20 {
            Connection::at(&address).send(&request, &vec![nothing.as_fd(); fds]);
        }
    }
    // What could not be read without waiting is no console.
    let (read, _write) = rustix::pipe::pipe().unwrap();
    let odd = Connection::at(&address);
    odd.send(&json!("console"), &[read.as_fd()]);
    assert!(odd.hear().expect("a reply")["failed"]["reason"].as_str().unwrap().contains("stream"));
    // One that asks and does not listen.
    let deaf = Connection::at(&address);
    net::sockopt::set_socket_send_buffer_size(&deaf.0, 4096).unwrap();
    rustix::io::ioctl_fionbio(&deaf.0, true).unwrap();
    for _ in 0..20_000 {
        if net::send(&deaf.0, b"\"thaw\"", SendFlags::NOSIGNAL).is_err() {
            break;
        }
    }
    assert_eq!(soon(&host, &["exec", "a", "--", "echo", "here"]), "here");
    drop((silent, deaf, odd));
    until(10, "all that was taken in is gone", || open() <= before);
    soon(&host, &["stop", "a"]);
}

#[test]
fn a_program_ends_with_its_client_unless_it_is_to_stay() {
    let host = Host::new();
    host.launch("a");
    // Whose output is not the client's, which the daemon would hold open.
    let script = "exec > /dev/null 2>&1; sleep 7001 & setsid sleep 7002 & sleep 7003";
    let client = host.spawn(&["exec", "a", "--", "sh", "-c", script], b"");
    let all = |words: &[&str]| words.iter().all(|words| !found(&host, words).is_empty());
    until(10, "the programs run", || all(&["sleep 7001", "sleep 7002", "sleep 7003"]));
    client.kill(true);
    drop(client.wait());
    until(10, "they end", || found(&host, "sleep 7003").is_empty() && found(&host, "sleep 7001").is_empty());
    assert!(all(&["sleep 7002"]), "a daemon is left alone");

    let exec = |argv: &[&str]| json!({"exec": {"argv": argv, "env": [], "cwd": null, "user": "0", "tty": null, "detach": true}});
    let starter = Connection::open(&host, "a");
    starter.send(&exec(&["sleep", "7004"]), &[]);
    assert_eq!(starter.hear(), Some(json!("done")), "it is told that the program runs");
    drop(starter);
    let starter = Connection::open(&host, "a");
    starter.send(&exec(&["no-such-program"]), &[]);
    assert_eq!(starter.hear().expect("a reply")["not-started"]["code"], 127);
    drop(starter);
    std::thread::sleep(Duration::from_millis(200));
    assert!(all(&["sleep 7004"]));
    // One that does not care about being hung up is killed after a while.
    let client =
        host.spawn(&["exec", "a", "--", "sh", "-c", "exec > /dev/null 2>&1; trap '' HUP; sleep 7005"], b"");
    until(10, "it runs", || all(&["sleep 7005"]));
    client.kill(true);
    drop(client.wait());
    until(15, "it is killed", || found(&host, "sleep 7005").is_empty());
}

/// A file system of the guest's that never answers, over what is read of it for each program.
#[test]
fn a_guest_that_lets_nobody_in_holds_up_those_who_wish_to_enter_only() {
    let host = Host::new();
    let armed = Archive::tiny().program("bin/deaf", &program(include_str!("deaf.c")));
    let output = host.spawn(&["template", "import", "-", "--name", "armed"], &armed.finish()).wait();
    assert!(output.status.success(), "{}", told(&output));
    host.ok(&["launch", "armed", "a"]);
    host.see_links();
    host.sh("a", "setsid deaf /etc < /dev/null > /dev/null 2>&1 &");
    let enter = json!({"exec": {"argv": ["true"], "env": [], "cwd": null, "user": "root", "tty": null}});
    let null = null();
    let (entering, other) = (Connection::open(&host, "a"), Connection::open(&host, "a"));
    until(10, "nobody gets in", || {
        let connection = Connection::open(&host, "a");
        connection.send(&enter, &[null.as_fd(), null.as_fd(), null.as_fd()]);
        connection.hear().expect("a reply") != json!({"exited": 0})
    });
    entering.send(&enter, &[null.as_fd(), null.as_fd(), null.as_fd()]);
    other.send(&json!("wait-ready"), &[]);
    assert_eq!(other.hear(), Some(json!("done")));
    let mut text = [0u8; 64];
    let early = net::recv(&entering.0, &mut text[..], net::RecvFlags::DONTWAIT);
    assert_eq!(early.err(), Some(rustix::io::Errno::AGAIN), "others are answered before it is given up");
    let reply = entering.hear().expect("a reply");
    assert!(reply["not-started"]["reason"].as_str().unwrap().contains("do not answer"), "{reply}");
    soon(&host, &["stop", "--force", "a"]);
}

/// A process that has ended is nobody's to collect while another traces it.
#[test]
fn a_program_that_the_guest_traces_holds_up_its_own_client_only() {
    let host = Host::new();
    let armed = Archive::tiny().program("bin/trace", &program(include_str!("trace.c")));
    let output = host.spawn(&["template", "import", "-", "--name", "armed"], &armed.finish()).wait();
    assert!(output.status.success(), "{}", told(&output));
    host.ok(&["launch", "armed", "a"]);
    host.see_links();
    let traced = host.spawn(&["exec", "a", "--", "sleep", "3"], b"");
    until(10, "it runs", || !found(&host, "sleep 3").is_empty());
    let pid = &found(&host, "sleep 3")[0];
    let tracer = host.spawn(&["exec", "a", "--", "trace", pid], b"");
    until(10, "it has ended and is not collected", || {
        soon(&host, &["exec", "a", "--", "grep", "State", &format!("/proc/{pid}/status")]).contains("zombie")
    });
    for args in [&["pause", "a"][..], &["resume", "a"], &["exec", "-t", "a", "--", "true"]] {
        soon(&host, args);
    }
    let tracing = &found(&host, &format!("trace {pid}"))[0];
    soon(&host, &["exec", "a", "--", "kill", "-9", tracing]);
    assert_eq!(traced.wait_for(SOON).status.code(), Some(0));
    drop(tracer.wait_for(SOON));
}

#[test]
fn a_guest_that_is_stopped_before_its_init_listens_is_asked_again() {
    let host = Host::new();
    host.launch("a");
    host.sh("a", "echo late > /etc/behave");
    host.ok(&["stop", "a"]);
    for _ in 0..2 {
        host.ok(&["start", "a"]);
        host.ok(&["stop", "a", "--timeout", "20"]);
    }
    assert_eq!(host.info("a")["ended"]["reason"], "shut down");
}

#[test]
fn a_stop_that_the_guest_ignores_shows() {
    let host = Host::new();
    host.launch("a");
    assert_eq!(host.info("a")["stopping"], false);
    host.sh("a", "echo stubborn > /etc/behave");
    host.fails(1, &["stop", "a", "--timeout", "1"]);
    assert_eq!(host.info("a")["stopping"], true);
    assert!(host.ok(&["info", "a"]).contains("running, asked to stop"));
    host.sh("a", "rm /etc/behave");
    until(30, "it is asked again", || host.list()[0]["state"] == "stopped");
    assert_eq!(host.info("a")["stopping"], false);
}

/// An init that nagaya does not know: a script, in a tree without a `poweroff` where one is looked for.
#[test]
fn an_unknown_init_is_asked_by_what_the_guest_has() {
    const INIT: &str = r#"#!/bin/sh
        case $(cat /etc/kind 2>/dev/null) in
        systemd) mkdir -p /run/systemd/system; exec /sbin/listens ;;
        nixos) d=/run/current-system/sw/bin; mkdir -p $d
            printf '#!/bin/sh\nkill -TERM 1\n' > $d/poweroff; chmod 755 $d/poweroff ;;
        broken) d=/usr/local/bin; mkdir -p $d
            printf '#!/bin/sh\nexit 4\n' > $d/poweroff; chmod 755 $d/poweroff ;;
        esac
        trap 'echo asked > /asked; exit 0' PWR TERM
        while :; do sleep 1 & wait; done"#;
    let host = Host::new();
    let known = super::templates::tiny_init();
    let tree = Archive::tiny_without(&["bin/poweroff", "sbin/init"]);
    let tree = tree.program("sbin/listens", &known).program("sbin/init", INIT.as_bytes());
    let output = host.spawn(&["template", "import", "-", "--name", "odd"], &tree.finish()).wait();
    assert!(output.status.success(), "{}", told(&output));
    host.ok(&["launch", "odd", "a"]);
    host.see_links();
    let stop = || {
        let output = host.spawn(&["stop", "a", "--timeout", "20"], b"").wait_for(SOON);
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = stop();
    assert!(said.contains("'poweroff' is not in the guest") && said.contains("SIGPWR"), "{said}");
    for (kind, expected) in [("systemd", ""), ("nixos", ""), ("broken", "'poweroff' fails with code 4")] {
        host.ok(&["start", "a"]);
        host.sh("a", &format!("echo {kind} > /etc/kind"));
        host.ok(&["restart", "--force", "a"]);
        let init = host.init("a");
        // A script takes a moment to get where it listens: it traps SIGPWR then, which is 30.
        let traps = || u64::from_str_radix(&status(init, "SigCgt"), 16).is_ok_and(|set| set >> 29 & 1 == 1);
        until(10, "it listens", || traps() || waits_in(init, libc::SYS_rt_sigtimedwait));
        let said = stop();
        assert!(said.contains(expected) && (!expected.is_empty() || said.is_empty()), "{kind}: {said}");
        until(5, "it is gone", || !lives(init));
    }
}
