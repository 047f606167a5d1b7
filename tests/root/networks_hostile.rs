//! What a guest that is root in its own network may not do to others on the wire.

use super::host::{Host, Running, until};

/// A host with a guest that misbehaves and one that suffers, and an address of each.
struct Wire {
    host: Host,
    subnet: String,
}

impl Wire {
    fn new() -> Self {
        let host = Host::alone();
        host.ok(&["network", "create", "lan", "ipv4.address=10.20.0.1/24", "ipv6.address=fd00:20::1/64"]);
        for (name, ip) in [("bad", "10.20.0.66"), ("good", "10.20.0.7")] {
            host.ok(&["launch", "tiny", name, "--network", "lan", "--ip", ip]);
        }
        Self { host, subnet: "10.20.0".to_owned() }
    }

    /// A line of shell with the host's tools, as the host's root, in a guest's network: at least as
    /// much as the guest's own root can do.
    fn inside(&self, name: &str, script: &str) -> bool {
        let init = self.host.init(name).to_string();
        self.host.net().succeeds("nsenter", &["-t", &init, "-n", "sh", "-ec", script])
    }

    /// Sends one frame from the bad guest: `frame` is Python that makes it out of `own`, its MAC.
    fn sends(&self, frame: &str) {
        let script = format!(
            "import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
own = s.getsockname()[4]
ip = socket.inet_aton
ip6 = lambda a: socket.inet_pton(socket.AF_INET6, a)
def sum16(b):
    b += b'\\0' * (len(b) % 2)
    n = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    return 0xffff - n
def v4(source, to, proto, data):
    head = struct.pack('!BBHHHBBH4s4s', 69, 0, 20 + len(data), 7, 0, 64, proto, 0, ip(source), ip(to))
    return head[:10] + struct.pack('!H', sum16(head)) + head[12:] + data
def udp(a, b, data): return struct.pack('!HHHH', a, b, 8 + len(data), 0) + data
def icmp6(source, to, data):
    pseudo = ip6(source) + ip6(to) + struct.pack('!II', len(data), 58)
    data = data[:2] + struct.pack('!H', sum16(pseudo + data)) + data[4:]
    return struct.pack('!IHBB', 6 << 28, len(data), 58, 255) + ip6(source) + ip6(to) + data
def arp(kind, mac, sender, target):
    return struct.pack('!HHBBH6s4s6s4s', 1, 0x800, 6, 4, kind, mac, ip(sender), b'\\0' * 6, ip(target))
wide = b'\\xff' * 6
six = b'\\x33\\x33\\0\\0\\0\\x01'
for frame in [{frame}]: s.send(frame)"
        );
        let init = self.host.init("bad").to_string();
        let command = self.host.net().command("nsenter", &["-t", &init, "-n", "python3", "-c", &script]);
        let output = Running::start(command, b"").wait();
        assert!(output.status.success(), "{}", super::host::told(&output));
    }

    /// Whether the frame arrives on the bridge: at the good guest, or at the host.
    fn passes(&self, filter: &str, frame: &str) -> bool {
        // One that is in order follows: what has not come before it will not come.
        const NEXT: &str =
            "wide + own + b'\\x08\\0' + v4('10.20.0.66', '10.20.0.255', 17, udp(1, 4399, b'x'))";
        let filter = format!("udp dst port 4399 or ({filter})");
        let listen = |netns: &[&str], interface: &str| {
            let args = ["tcpdump", "-Zroot", "--immediate-mode", "-lqtni", interface, &filter];
            let all = [netns, &args].concat();
            Running::start(self.host.net().command(all[0], &all[1..]), b"")
        };
        let good = self.host.init("good").to_string();
        let listeners = [listen(&["nsenter", "-t", &good, "-n"], "eth0"), listen(&["env"], "lan")];
        let all = |done: &dyn Fn(&Running) -> bool| listeners.iter().all(done);
        until(10, "tcpdump listens", || all(&|listener| listener.told().contains("listening on")));
        self.sends(&format!("{frame}, {NEXT}"));
        until(10, "the frame in order arrives", || all(&|listener| listener.printed().contains(".4399:")));
        listeners.iter().any(|listener| listener.printed().lines().any(|line| !line.contains(".4399:")))
    }
}

#[test]
fn a_guest_sends_as_itself_only() {
    let wire = Wire::new();
    // What is in order passes, so that the rest of this test proves something.
    assert!(wire.passes(
        "udp port 4321",
        "wide + own + b'\\x08\\0' + v4('10.20.0.66', '10.20.0.255', 17, udp(1, 4321, b'x'))"
    ));
    assert!(wire.passes(
        "arp and arp[7] = 1 and arp[27] = 77",
        "wide + own + b'\\x08\\x06' + arp(1, own, '10.20.0.66', '10.20.0.77')"
    ));
    for (what, filter, frame) in [
        (
            "another's IPv4 address",
            "udp port 4322",
            "wide + own + b'\\x08\\0' + v4('10.20.0.7', '10.20.0.255', 17, udp(1, 4322, b'x'))",
        ),
        (
            "another's MAC address",
            "udp port 4323",
            "wide + b'\\x02\\0\\0\\0\\0\\x07' + b'\\x08\\0' + v4('10.20.0.66', '10.20.0.255', 17, udp(1, 4323, b'x'))",
        ),
        (
            "an ARP answer for the gateway",
            "arp and arp[7] = 2",
            "wide + own + b'\\x08\\x06' + arp(2, own, '10.20.0.1', '10.20.0.7')",
        ),
        (
            "an ARP answer with another's MAC",
            "arp and arp[7] = 2",
            "wide + own + b'\\x08\\x06' + arp(2, b'\\x02\\0\\0\\0\\0\\x07', '10.20.0.66', '10.20.0.7')",
        ),
        (
            "another's IPv6 address",
            "ip6 and udp port 4324",
            "six + own + b'\\x86\\xdd' + struct.pack('!IHBB', 6 << 28, 9, 17, 64) + ip6('fd00:20::7') + ip6('ff02::1') + udp(1, 4324, b'x')",
        ),
        (
            "an advertisement of another's IPv6 address",
            "icmp6 and ip6[40] = 136",
            "six + own + b'\\x86\\xdd' + icmp6('fd00:20::42', 'ff02::1', b'\\x88\\0\\0\\0\\x20\\0\\0\\0' + ip6('fd00:20::7') + b'\\x02\\x01' + own)",
        ),
        (
            "a router's advertisement",
            "icmp6 and ip6[40] = 134",
            "six + own + b'\\x86\\xdd' + icmp6('fe80::66', 'ff02::1', b'\\x86\\0\\0\\0\\x40\\0\\x07\\x08' + b'\\0' * 8)",
        ),
        (
            "a DHCP server's answer",
            "udp src port 67",
            "wide + own + b'\\x08\\0' + v4('10.20.0.66', '255.255.255.255', 17, udp(67, 68, b'x' * 240))",
        ),
        (
            "a VLAN tag",
            "vlan",
            "wide + own + b'\\x81\\0\\0\\x05' + b'\\x08\\0' + v4('10.20.0.66', '10.20.0.255', 17, udp(1, 4325, b'x'))",
        ),
        (
            "another protocol",
            "ether proto 0x88cc",
            "b'\\x01\\x80\\xc2\\0\\0\\x0e' + own + b'\\x88\\xcc' + b'\\0' * 50",
        ),
    ] {
        assert!(!wire.passes(filter, frame), "{what} has passed");
    }
    // Nobody who empties the firewall lifts it.
    wire.host.net().sh("nft flush ruleset");
    assert!(!wire.passes(
        "udp port 4322",
        "wide + own + b'\\x08\\0' + v4('10.20.0.7', '10.20.0.255', 17, udp(1, 4322, b'x'))"
    ));
    // By rights of its own, or of more, a guest takes no other address.
    assert!(wire.inside("bad", "ip address add 10.20.0.99/24 dev eth0"));
    assert!(!wire.inside("bad", "ping -n -c1 -W1 -I 10.20.0.99 10.20.0.1"));
    assert!(wire.inside("bad", "ping -n -c1 -W2 -I 10.20.0.66 10.20.0.1"));
    assert!(wire.inside(
        "bad",
        "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up"
    ));
    assert!(!wire.inside("bad", "ping -n -c1 -W1 10.20.0.1"));
}

#[test]
fn each_filter_can_be_switched_off() {
    let wire = Wire::new();
    let spoofed = "wide + own + b'\\x08\\0' + v4('10.20.0.7', '10.20.0.255', 17, udp(1, 4322, b'x'))";
    let other_mac = "wide + b'\\x02\\0\\0\\0\\0\\x07' + b'\\x08\\0' + v4('10.20.0.66', '10.20.0.255', 17, udp(1, 4323, b'x'))";
    let router = "six + own + b'\\x86\\xdd' + icmp6('fe80::66', 'ff02::1', b'\\x86\\0\\0\\0\\x40\\0\\x07\\x08' + b'\\0' * 8)";
    let again = |pairs: &[&str]| {
        wire.host.ok(&[&["device", "set", "bad", "eth0"], pairs].concat());
        wire.host.ok(&["restart", "--force", "bad"]);
    };
    again(&["security.ipv4_filtering=false"]);
    assert!(wire.passes("udp port 4322", spoofed));
    assert!(!wire.passes("udp port 4323", other_mac));
    assert!(!wire.passes("icmp6 and ip6[40] = 134", router));
    again(&["security.ipv4_filtering=true", "security.ipv6_filtering=false"]);
    assert!(!wire.passes("udp port 4322", spoofed));
    assert!(wire.passes("icmp6 and ip6[40] = 134", router));
    again(&["security.mac_filtering=false"]);
    assert!(wire.passes("udp port 4323", other_mac));
}

#[test]
fn isolated_guests_reach_the_host_and_not_one_another() {
    let wire = Wire::new();
    let neighbour = format!("{}.7", wire.subnet);
    wire.host.exec("bad", &["ping", "-c1", "-W2", &neighbour]);
    wire.host.ok(&["network", "set", "lan", "security.port_isolation=true"]);
    until(3, "they are apart", || !wire.inside("bad", "ping -n -c1 -W1 10.20.0.7"));
    wire.host.exec("bad", &["ping", "-c1", "-W2", "10.20.0.1"]);
    // Also those that start afterwards.
    wire.host.ok(&["restart", "--force", "good"]);
    assert!(!wire.inside("bad", "ping -n -c1 -W1 10.20.0.7"));
    wire.host.ok(&["network", "set", "lan", "security.port_isolation=false"]);
    until(3, "they are together again", || wire.inside("bad", "ping -n -c1 -W1 10.20.0.7"));
    // One by one: only two isolated ports are apart.
    for name in ["bad", "good"] {
        wire.host.ok(&["device", "set", name, "eth0", "security.port_isolation=true"]);
    }
    assert!(!wire.inside("bad", "ping -n -c1 -W1 10.20.0.7"));
}

#[test]
fn rates_hold_in_both_directions_and_change_at_once() {
    let wire = Wire::new();
    let rate = |sender: &str, receiver: &str, address: &str| -> f64 {
        let server = "import socket, time
s = socket.create_server(('', 7777)); print('ready', flush=True); c = s.accept()[0]
c.recv(1); start = time.time(); n = 0
while time.time() - start < 3: n += len(c.recv(1 << 16))
print(n * 8 / (time.time() - start) / 1e6)";
        let client = format!(
            "import socket
s = socket.create_connection(('{address}', 7777)); data = b'x' * (1 << 16)
try:
    while True: s.sendall(data)
except OSError: pass"
        );
        let python = |name: &str, script: &str| {
            let args: Vec<String> = match name {
                "host" => ["python3", "-c", script].map(str::to_owned).into(),
                name => {
                    let init = wire.host.init(name).to_string();
                    ["nsenter", "-t", &init, "-n", "python3", "-c", script].map(str::to_owned).into()
                }
            };
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            Running::start(wire.host.net().command(args[0], &args[1..]), b"")
        };
        let server = python(receiver, server);
        until(10, "the server listens", || server.printed().contains("ready"));
        let _client = python(sender, &client);
        let output = server.wait();
        String::from_utf8_lossy(&output.stdout)
            .trim_start_matches("ready\n")
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{}", super::host::told(&output)))
    };
    wire.host.ok(&["device", "set", "good", "eth0", "limits.ingress=40Mbit", "limits.egress=20Mbit"]);
    // Never more, and as much in one of a few tries: a busy machine may be slower.
    let near = |measure: &dyn Fn() -> f64, wanted: f64| {
        let reached = (0..4).any(|_| {
            let found = measure();
            assert!(found < wanted * 1.15, "{found} of {wanted} Mbit/s");
            found > wanted * 0.8
        });
        assert!(reached, "less than {wanted} Mbit/s");
    };
    near(&|| rate("host", "good", "10.20.0.7"), 40.0);
    near(&|| rate("good", "host", "10.20.0.1"), 20.0);
    wire.host.ok(&["device", "set", "good", "eth0", "limits.ingress=10Mbit"]);
    near(&|| rate("bad", "good", "10.20.0.7"), 10.0);
    wire.host.ok(&["device", "unset", "good", "eth0", "limits.ingress", "limits.egress"]);
    assert!(rate("host", "good", "10.20.0.7") > 60.0);
    // What holds at a start holds too.
    wire.host.ok(&["device", "set", "good", "eth0", "limits.egress=20Mbit"]);
    wire.host.ok(&["restart", "--force", "good"]);
    near(&|| rate("good", "host", "10.20.0.1"), 20.0);
}
