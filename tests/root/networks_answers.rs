//! DHCP, router advertisements and names, from the distribution's dnsmasq.

use super::host::{Host, until};

/// What a query to the network's own server is answered with: addresses or names.
fn asks(host: &Host, server: &str, name: &str, kind: &str) -> String {
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
    host.net().run("python3", &["-c", &script]).trim().to_owned()
}

fn servers(host: &Host) -> Vec<i32> {
    let wanted = format!("{}-hostd", host.name());
    super::host::pids()
        .filter(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("dnsmasq") && line.contains(&wanted) && super::host::lives(*pid)
        })
        .collect()
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
    let init = host.init("web").to_string();
    let ask = "printf '#!/bin/sh\\n[ \"$1\" = bound ] && echo got $ip $router\\n' > /tmp/ask.$$; chmod +x /tmp/ask.$$; \
               busybox udhcpc -i eth0 -f -q -n -t 5 -s /tmp/ask.$$; rm -f /tmp/ask.$$";
    let said = host.net().run("nsenter", &["-t", &init, "-n", "sh", "-c", ask]);
    assert!(said.contains("got 10.20.0.77 10.20.0.1"), "{said}");
}

#[test]
fn a_port_that_somebody_has_is_named_with_its_holder() {
    let host = Host::alone();
    host.ok(&["network", "create", "lan", "ipv4.address=10.20.0.1/24", "ipv6.address=none"]);
    let holder = "import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 53)); print('ready', flush=True); time.sleep(60)";
    let _holder = super::host::Running::start(host.net().command("python3", &["-c", holder]), b"");
    until(10, "the port is taken", || host.net().sh("ss -Hluan").contains(":53 "));
    let said = host.fails(3, &["network", "set", "lan", "dns.domain=lan.example"]);
    assert!(said.contains("python3") && said.contains("port 53"), "{said}");
    // Nothing has changed, and containers run without.
    assert!(!host.ok(&["network", "show", "lan"]).contains("lan.example"));
    host.ok(&["launch", "tiny", "web", "--network", "lan"]);
    assert!(host.net().pings("10.20.0.2"));
}
