//! DHCP, router advertisements and names, from the distribution's dnsmasq.

use super::daemonless_user::DaemonlessUser;
use super::host::{Host, Running, told, until};
use super::lab;

/// What a query to the network's own server is answered with: addresses or names.
fn asks(host: &Host, server: &str, name: &str, kind: &str) -> String {
    asks_from(host.net().pid(), server, name, kind)
}

/// The same from the network of a process.
fn asks_from(pid: i32, server: &str, name: &str, kind: &str) -> String {
    let script = format!(
        "import socket, struct
kind = {{'A': 1, 'AAAA': 28, 'PTR': 12}}['{kind}']
question = b''.join(bytes([len(l)]) + l.encode() for l in '{name}'.split('.')) + b'\\0' + struct.pack('!HH', kind, 1)
family = socket.AF_INET6 if ':' in '{server}' else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(3)
s.sendto(struct.pack('!HHHHHH', 7, 0x100, 1, 0, 0, 0) + question, ('{server}', 53))
data = s.recv(2000)
count, at = struct.unpack('!H', data[6:8])[0], 12 + len(question)
for _ in range(count):
    kind, _, _, size = struct.unpack('!HHIH', data[at + 2:at + 12]); rest = data[at + 12:at + 12 + size]; at += 12 + size
    if kind == 12:
        words = []
        while rest[0]: words.append(rest[1:1 + rest[0]].decode()); rest = rest[1 + rest[0]:]
        print('.'.join(words))
    else: print(socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, rest))"
    );
    let output = Running::start(lab::within(pid, "python3", &["-c", &script]), b"").wait();
    assert!(output.status.success(), "{}", told(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn servers(host: &Host) -> Vec<i32> {
    servers_at(&format!("{}-hostd", host.name()))
}

/// Those whose configuration is at a path of which that is a part.
fn servers_at(part: &str) -> Vec<i32> {
    super::host::pids()
        .filter(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("dnsmasq") && line.contains(part) && super::host::lives(*pid)
        })
        .collect()
}

/// What a guest's interface is given that asks for its address: that, and the router's.
fn asks_for_address(pid: i32) -> String {
    let script = "printf '#!/bin/sh\\n[ \"$1\" = bound ] && echo got $ip $router\\n' > /tmp/ask.$$; chmod +x /tmp/ask.$$; \
                  busybox udhcpc -i eth0 -f -q -n -t 5 -s /tmp/ask.$$; rm -f /tmp/ask.$$";
    let output = Running::start(lab::within(pid, "sh", &["-c", script]), b"").wait();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("got "));
    line.unwrap_or_else(|| panic!("{}", told(&output))).to_owned()
}

/// A program of the host's that answers every question for an address at its loopback, and at that only.
const LOCAL_RESOLVER: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 53))
print('ready', flush=True)
while True:
    q, who = s.recvfrom(2000)
    end = q.index(b'\\0', 12) + 5
    a = b'\\xc0\\x0c' + bytes([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 80])
    s.sendto(q[:2] + b'\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0' + q[12:end] + a, who)
";

#[test]
fn a_resolver_that_only_the_host_reaches_is_asked_in_guests_place() {
    let host = Host::alone();
    let resolver = Running::start(lab::within(host.net().pid(), "python3", &["-c", LOCAL_RESOLVER]), b"");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\n").expect("write the host's file");
    let script = format!(
        "mount --bind {} /etc/resolv.conf && exec {} \"$@\"",
        file.display(),
        env!("CARGO_BIN_EXE_nagaya")
    );
    let nagaya = |args: &[&str]| {
        let all = [&["-m", "sh", "-c", &script, "sh"], args].concat();
        let mut command = host.program("unshare", &all);
        command.env("NAGAYA_INSTANCE", host.name());
        let output = Running::start(command, b"").wait();
        assert!(output.status.success(), "{}", told(&output));
        told(&output)
    };
    let said = nagaya(&["launch", "tiny", "web"]);
    assert!(!said.contains("resolver"), "{said}");
    host.see_links();
    let resolv = host.sh("web", "cat /etc/resolv.conf");
    let server = resolv.lines().find_map(|line| line.strip_prefix("nameserver ")).expect("a resolver");
    until(5, "it is asked", || asks_from(host.init("web"), server, "a.name.outside", "A") == "192.0.2.80");
    // It knows no guests: nobody has asked for that.
    assert_ne!(asks_from(host.init("web"), server, "web", "A"), host.address("web"));
    assert_eq!(servers(&host).len(), 1);
    resolver.kill(false);
    drop(resolver.wait());
}

#[test]
fn names_are_answered_forward_and_reverse_as_containers_come_and_go() {
    let host = Host::alone();
    host.ok(&[
        "network",
        "create",
        "lan",
        "ipv4.address=10.20.0.1/24",
        "ipv6.address=fd00:20::1/64",
        "dns.domain=lan.example",
    ]);
    host.ok(&["launch", "tiny", "web", "--network", "lan"]);
    assert_eq!(servers(&host).len(), 1);
    for pid in servers(&host) {
        assert!(super::host::uids(pid).iter().all(|uid| *uid != 0), "dnsmasq runs as root");
    }
    until(5, "the name is known", || asks(&host, "10.20.0.1", "web.lan.example", "A") == "10.20.0.2");
    assert_eq!(asks(&host, "fd00:20::1", "web.lan.example", "AAAA"), "fd00:20::2");
    assert_eq!(asks(&host, "10.20.0.1", "2.0.20.10.in-addr.arpa", "PTR"), "web.lan.example");
    // The guest asks it, by the name alone.
    let resolv = host.sh("web", "cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 10.20.0.1") && resolv.contains("lan.example"), "{resolv}");
    host.ok(&["launch", "tiny", "mail", "--network", "lan"]);
    until(5, "the new name is known", || asks(&host, "10.20.0.1", "mail.lan.example", "A") == "10.20.0.3");
    host.ok(&["delete", "--force", "mail"]);
    until(5, "the name is forgotten", || asks(&host, "10.20.0.1", "mail.lan.example", "A").is_empty());
    // After a crash the next start gives the network its server back.
    let [server] = servers(&host)[..] else { panic!("not one server") };
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(server).expect("a process"),
        rustix::process::Signal::KILL,
    )
    .expect("kill dnsmasq");
    host.ok(&["restart", "--force", "web"]);
    until(5, "the name is known again", || asks(&host, "10.20.0.1", "web.lan.example", "A") == "10.20.0.2");
    host.ok(&["network", "unset", "lan", "dns.domain"]);
    until(5, "nobody answers", || servers(&host).is_empty());
    host.ok(&["network", "set", "lan", "dns.domain=other.example"]);
    until(5, "the other name is known", || asks(&host, "10.20.0.1", "web.other.example", "A") == "10.20.0.2");
    host.ok(&["delete", "--force", "web"]);
    host.ok(&["network", "delete", "lan"]);
    until(5, "the server ends with the network", || servers(&host).is_empty());
}

#[test]
fn a_guest_that_asks_gets_the_address_that_is_its_own() {
    let host = Host::alone();
    host.ok(&[
        "network",
        "create",
        "lan",
        "ipv4.address=10.20.0.1/24",
        "ipv6.address=none",
        "ipv4.dhcp=true",
    ]);
    host.ok(&["create", "tiny", "web", "--network", "lan", "--ip", "10.20.0.77"]);
    host.ok(&["device", "set", "web", "eth0", "dhcp=true"]);
    host.ok(&["start", "web"]);
    assert_eq!(asks_for_address(host.init("web")), "10.20.0.77 10.20.0.1");
}

#[test]
fn a_daemonless_users_guests_are_answered_in_its_own_network() {
    let user = DaemonlessUser::with_template();
    let ok = |words: &str| user.ok(&words.split(' ').collect::<Vec<_>>());
    ok(
        "network create lan ipv4.address=10.20.0.1/24 ipv6.address=fd00:20::1/64 ipv4.dhcp=true dns.domain=lan.example",
    );
    let servers = || servers_at(&user.run_dir().to_string_lossy());
    // As guests do it: the namespace itself need not have a loopback.
    let answer = |name: &str, kind: &str| {
        asks_from(user.init("web"), "10.20.0.1", &format!("{name}.lan.example"), kind)
    };
    ok("launch tiny web --network lan");
    assert_eq!(servers().len(), 1);
    assert_eq!(super::host::uids(servers()[0]), [user.uid; 4]);
    until(5, "the name is known", || answer("web", "A") == "10.20.0.2");
    assert_eq!(answer("web", "AAAA"), "fd00:20::2");
    ok("create tiny mail --network lan --ip 10.20.0.77");
    ok("device set mail eth0 dhcp=true");
    ok("start mail");
    assert_eq!(asks_for_address(user.init("mail")), "10.20.0.77 10.20.0.1");
    assert!(user.sh("web", "cat /etc/resolv.conf").contains("nameserver 10.20.0.1"));
    assert_eq!(answer("mail", "A"), "10.20.0.77");
    ok("delete --force mail");
    until(5, "the name is forgotten", || answer("mail", "A").is_empty());
    ok("network unset lan dns.domain");
    assert_eq!(servers().len(), 1, "for DHCP");
    ok("delete --force web");
    ok("network delete lan");
    until(5, "the server ends with the network", || servers().is_empty());
}

#[test]
fn a_port_that_somebody_has_is_named_with_its_holder() {
    let host = Host::alone();
    host.ok(&["network", "create", "lan", "ipv4.address=10.20.0.1/24", "ipv6.address=none"]);
    let holder = "import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 53)); print('ready', flush=True); time.sleep(60)";
    let _holder = Running::start(host.net().command("python3", &["-c", holder]), b"");
    until(10, "the port is taken", || host.net().sh("ss -Hluan").contains(":53 "));
    let said = host.fails(3, &["network", "set", "lan", "dns.domain=lan.example"]);
    assert!(said.contains("python3") && said.contains("port 53"), "{said}");
    // Nothing has changed, and containers run without.
    assert!(!host.ok(&["network", "show", "lan"]).contains("lan.example"));
    host.ok(&["launch", "tiny", "web", "--network", "lan"]);
    assert!(host.net().pings("10.20.0.2"));
}
