//! Rules, blocks and forwards, with real packets between guests, their host and a machine outside.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::host::{Host, Running, told, until};
use super::lab::{self, Netns};

/// A host with two guests on one network, and a machine outside that knows the way to them.
struct Site {
    host: Host,
    world: Netns,
}

const WORLD: &str = "198.51.100.2";
const WORLD6: &str = "2001:db8:5::2";

impl Site {
    fn new() -> Self {
        let (host, world) = (Host::alone(), Netns::new());
        host.net().join("up0", &world, "up1");
        host.net()
            .sh("ip address add 198.51.100.1/24 dev up0; ip address add 2001:db8:5::1/64 dev up0 nodad");
        world.sh("ip address add 198.51.100.2/24 dev up1; ip address add 2001:db8:5::2/64 dev up1 nodad
            ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:5::1");
        host.ok(&[
            "network",
            "create",
            "dmz",
            "ipv4.address=10.20.0.1/24",
            "ipv6.address=fd00:20::1/64",
            "ipv4.nat=false",
            "ipv6.nat=false",
        ]);
        for (name, ip) in [("web", "10.20.0.10"), ("db", "10.20.0.11")] {
            host.ok(&["launch", "tiny", name, "--network", "dmz", "--ip", ip]);
        }
        Self { host, world }
    }

    fn ok(&self, words: &str) -> String {
        self.host.ok(&words.split(' ').collect::<Vec<_>>())
    }

    fn fails(&self, words: &str) -> String {
        self.host.fails(1, &words.split(' ').collect::<Vec<_>>())
    }

    /// A program of the host's in a guest's network.
    fn inside(&self, name: &str, program: &str, args: &[&str]) -> Command {
        let init = self.host.init(name).to_string();
        self.host.net().command("nsenter", &[&["-t", &init, "-n", program], args].concat())
    }

    /// Answers each who connects to the guest with that one's address.
    fn serve(&self, name: &str, port: u16) -> Running {
        let script = format!(
            "import socket
s = socket.create_server(('::', {port}), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, a = s.accept()
    c.sendall(a[0].replace('::ffff:', '').encode()); c.close()"
        );
        let server = Running::start(self.inside(name, "python3", &["-c", &script]), b"");
        until(20, "the guest's server listens", || {
            let listed = Running::start(self.inside(name, "ss", &["-Htln"]), b"").wait();
            String::from_utf8_lossy(&listed.stdout).contains(&format!(":{port} "))
        });
        server
    }

    /// Whom the guest's or the world's server sees, asked from the world.
    fn asked(&self, address: &str, port: u16) -> Option<String> {
        lab::asks(|args| self.world.command("python3", args), address, port)
    }

    /// The same, asked from a guest.
    fn asked_by(&self, name: &str, address: &str, port: u16) -> Option<String> {
        lab::asks(|args| self.inside(name, "python3", args), address, port)
    }

    fn pinged_by(&self, name: &str, address: &str) -> bool {
        let output = Running::start(self.inside(name, "ping", &["-n", "-c1", "-W1", address]), b"").wait();
        output.status.success()
    }
}

#[test]
fn rules_decide_in_their_order_and_in_both_families() {
    let site = Site::new();
    let _servers = [site.serve("web", 8080), site.serve("web", 8081)];
    assert_eq!(site.asked("10.20.0.10", 8080).as_deref(), Some(WORLD));
    assert_eq!(site.asked("fd00:20::a", 8081).as_deref(), Some(WORLD6));

    site.ok("firewall default web in=deny");
    for address in ["10.20.0.10", "fd00:20::a"] {
        assert_eq!(site.asked(address, 8080), None, "{address}");
        assert!(!site.world.pings(address), "{address}");
        // The host itself always reaches its guests.
        assert!(site.host.net().pings(address), "{address}");
    }
    site.ok("firewall allow web tcp 8080");
    site.ok("firewall allow web icmp");
    for (address, seen) in [("10.20.0.10", WORLD), ("fd00:20::a", WORLD6)] {
        assert_eq!(site.asked(address, 8080).as_deref(), Some(seen));
        assert_eq!(site.asked(address, 8081), None, "{address}");
        assert!(site.world.pings(address), "{address}");
    }
    // What comes first counts, and what is taken away no longer.
    site.ok(&format!("firewall deny web tcp 8080 --from {WORLD} --at 1"));
    assert_eq!(site.asked("10.20.0.10", 8080), None);
    assert_eq!(site.asked("fd00:20::a", 8080).as_deref(), Some(WORLD6));
    let said = site.ok(&format!("firewall trace web --proto tcp --from {WORLD} --dport 8080"));
    assert!(said.contains("rule 1"), "{said}");
    site.ok("firewall remove web in 1");
    assert_eq!(site.asked("10.20.0.10", 8080).as_deref(), Some(WORLD));
    // What is rejected is told so, what is denied is not.
    let refusal = |port: u16| {
        let script = format!(
            "import socket, time
t = time.time()
try: socket.create_connection(('10.20.0.10', {port}), timeout=3)
except OSError as e: print(type(e).__name__, time.time() - t < 1)"
        );
        site.world.run("python3", &["-c", &script]).trim().to_owned()
    };
    assert_eq!(refusal(8081), "TimeoutError False");
    site.ok("firewall default web in=reject");
    assert_eq!(refusal(8081), "ConnectionRefusedError True");
    // Rules count what they decide, by the kernel's own word.
    let rules: Value = serde_json::from_str(&site.ok("firewall rules web --format json")).expect("JSON");
    assert!(
        rules.as_array().expect("rules").iter().any(|rule| rule["packets"].as_u64() > Some(0)),
        "{rules}"
    );
}

#[test]
fn what_guests_may_reach_is_ruled_too() {
    let site = Site::new();
    let _world = [site.world.serve(7777), site.world.serve(7778)];
    assert_eq!(site.asked_by("web", WORLD, 7777).as_deref(), Some("10.20.0.10"));
    site.ok("firewall reject web out tcp 7777");
    assert_eq!(site.asked_by("web", WORLD, 7777), None);
    assert_eq!(site.asked_by("web", WORLD6, 7777), None);
    assert_eq!(site.asked_by("web", WORLD, 7778).as_deref(), Some("10.20.0.10"));
    assert_eq!(site.asked_by("db", WORLD, 7777).as_deref(), Some("10.20.0.11"));
    site.ok("firewall default web out=deny");
    assert_eq!(site.asked_by("web", WORLD, 7778), None);
    site.ok(&format!("firewall allow web out tcp 7778 --to {WORLD}"));
    assert_eq!(site.asked_by("web", WORLD, 7778).as_deref(), Some("10.20.0.10"));
    // Rules hold over a restart of the container, and go with it.
    site.ok("restart --force web");
    assert_eq!(site.asked_by("web", WORLD, 7777), None);
    site.ok("delete --force web");
    site.ok("launch tiny web --network dmz --ip 10.20.0.10");
    assert_eq!(site.asked_by("web", WORLD, 7777).as_deref(), Some("10.20.0.10"));
}

#[test]
fn neighbours_on_one_bridge_are_ruled_as_everybody() {
    let site = Site::new();
    let _servers = [site.serve("web", 8080), site.serve("web", 8081)];
    assert_eq!(site.asked_by("db", "10.20.0.10", 8081).as_deref(), Some("10.20.0.11"));
    site.ok("firewall default web in=deny");
    site.ok("firewall allow web tcp 8080 --from 10.20.0.11");
    site.ok("firewall allow web tcp 8080 --from fd00:20::b");
    for (address, seen) in [("10.20.0.10", "10.20.0.11"), ("fd00:20::a", "fd00:20::b")] {
        assert_eq!(site.asked_by("db", address, 8080).as_deref(), Some(seen));
        assert_eq!(site.asked_by("db", address, 8081), None, "{address}");
        assert!(!site.pinged_by("db", address), "{address}");
    }
    assert_eq!(site.asked("10.20.0.10", 8080), None, "nobody else");
    assert!(site.pinged_by("web", "10.20.0.11"), "the other way nothing is denied");
}

#[test]
fn groups_and_sets_are_joined_and_changed() {
    let site = Site::new();
    let _servers = [site.serve("web", 443), site.serve("db", 443), site.serve("web", 22)];
    site.ok("firewall default network:dmz in=deny");
    site.ok("firewall group create https");
    site.ok("firewall allow group:https tcp 80,443");
    assert_eq!(site.asked("10.20.0.10", 443), None);
    site.ok("firewall group join https web");
    assert_eq!(site.asked("10.20.0.10", 443).as_deref(), Some(WORLD));
    assert_eq!(site.asked("10.20.0.11", 443), None, "db has not joined");
    site.ok("firewall set create office 192.0.2.0/24");
    site.ok("firewall allow web tcp 22 --from set:office");
    assert_eq!(site.asked("10.20.0.10", 22), None);
    site.ok(&format!("firewall set add office {WORLD}"));
    assert_eq!(site.asked("10.20.0.10", 22).as_deref(), Some(WORLD));
    assert!(site.fails("firewall set delete office").contains("office"));
    site.ok("firewall group leave https web");
    assert_eq!(site.asked("10.20.0.10", 443), None);
    // Who comes later is under the network's default.
    site.ok("launch tiny late --network dmz");
    assert!(!site.world.pings("10.20.0.2"));
}

#[test]
fn blocks_cut_connections_count_hits_and_end() {
    let site = Site::new();
    let script = "import socket
s = socket.create_server(('', 9000)); c = s.accept()[0]
while True:
    d = c.recv(10)
    if not d: break
    c.sendall(d)";
    let _echo = Running::start(site.inside("web", "python3", &["-c", script]), b"");
    let talk = "import socket, time, sys
for n in range(40):
    try: s = socket.create_connection(('10.20.0.10', 9000), timeout=3); break
    except OSError: time.sleep(0.2)
s.settimeout(3); s.sendall(b'x'); s.recv(1); print('talks', flush=True)
sys.stdin.readline()
s.sendall(b'y')
try: print('still', s.recv(1))
except OSError: print('cut')";
    let mut command = site.world.command("python3", &["-c", talk]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut talker = command.spawn().expect("run python3");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(talker.stdout.take().expect("piped")));
    assert_eq!(lines.next().expect("a line").expect("text"), "talks");

    site.ok("firewall block 198.51.100.0/24 --for 1h --reason scans");
    std::io::Write::write_all(talker.stdin.as_mut().expect("piped"), b"\n").expect("go on");
    assert_eq!(lines.next().expect("a line").expect("text"), "cut");
    let _ = talker.wait();
    assert!(!site.world.pings("10.20.0.10") && !site.world.pings("10.20.0.11"));
    assert!(site.world.pings("fd00:20::a"), "the other family is not blocked");
    let blocks: Value = serde_json::from_str(&site.ok("firewall blocks --format json")).expect("JSON");
    let block = &blocks[0];
    assert_eq!((&block["address"], &block["reason"]), (&json!("198.51.100.0/24"), &json!("scans")));
    assert!(block["hits"]["packets"].as_u64() >= Some(2), "{block}");
    site.ok("firewall unblock 198.51.100.0/24");
    assert!(site.world.pings("10.20.0.10"));

    // For one container, and for a while.
    site.ok(&format!("firewall block {WORLD} --from web --for 3s"));
    assert!(!site.world.pings("10.20.0.10"));
    assert!(site.world.pings("10.20.0.11"));
    until(8, "the block has ended", || site.world.pings("10.20.0.10"));
    assert_eq!(site.ok("firewall blocks --format json").trim(), "[]");
    // A narrow one within a wide one outlives it.
    site.ok("firewall block 198.51.100.0/24");
    site.ok(&format!("firewall block {WORLD}"));
    site.ok("firewall unblock 198.51.100.0/24");
    assert!(!site.world.pings("10.20.0.10"));
    for bad in ["10.0.0.0/33", "x", "0.0.0.0/0"] {
        assert!(site.fails(&format!("firewall block {bad}")).contains(bad), "{bad}");
    }
}

#[test]
fn a_hundred_thousand_blocks_take_three_seconds_at_most() {
    let site = Site::new();
    let file = tempfile::NamedTempFile::new().expect("make a file");
    let mut text = format!("# those that attack\n{WORLD}\n");
    for n in 0..100_000u32 {
        text.push_str(&format!("{}\n", std::net::Ipv4Addr::from(0x0b00_0000 + n * 7)));
    }
    std::fs::write(file.path(), text).expect("write the list");
    let path = file.path().to_string_lossy().into_owned();
    let start = Instant::now();
    site.ok(&format!("firewall block --from-file {path} --for 1d"));
    let took = start.elapsed();
    println!("100,001 blocks: {took:?}");
    // A build without optimisation is three to ten times slower.
    let bound = if cfg!(debug_assertions) { 20 } else { 3 };
    assert!(took < Duration::from_secs(bound), "{took:?}");
    assert!(!site.world.pings("10.20.0.10"));
    let start = Instant::now();
    site.ok(&format!("firewall unblock --from-file {path}"));
    println!("and gone: {:?}", start.elapsed());
    assert!(site.world.pings("10.20.0.10"));
    assert_eq!(site.ok("firewall blocks --format json").trim(), "[]");
}

#[test]
fn ports_of_the_host_lead_to_guests() {
    let site = Site::new();
    let _servers = [site.serve("web", 80), site.serve("db", 80)];
    site.ok("firewall default web in=deny");
    site.ok("forward add web tcp 8080:80");
    site.ok("forward add db tcp 8081:80 --address 198.51.100.1");
    assert_eq!(site.asked("198.51.100.1", 8080).as_deref(), Some(WORLD));
    assert_eq!(site.asked("2001:db8:5::1", 8080).as_deref(), Some(WORLD6));
    assert_eq!(site.asked("198.51.100.1", 8081).as_deref(), Some(WORLD));
    assert_eq!(site.asked("10.20.0.10", 80), None, "what is not forwarded stays denied");
    // Hairpin: a guest of the same network, by any of the host's addresses.
    for address in ["198.51.100.1", "10.20.0.1", "2001:db8:5::1"] {
        assert!(site.asked_by("db", address, 8080).is_some(), "{address}");
    }
    // And the host itself.
    let own = lab::asks(|args| site.host.net().command("python3", args), "198.51.100.1", 8080);
    assert!(own.is_some());
    for conflict in ["forward add db tcp 8080:80", "forward add web tcp 8081:80 --address 198.51.100.1"] {
        assert!(site.fails(conflict).contains("80"), "{conflict}");
    }
    assert!(site.fails("forward add web tcp 70000:80").contains("70000"));
    site.ok("forward remove web tcp 8080");
    assert_eq!(site.asked("198.51.100.1", 8080), None);
    site.ok("delete --force db");
    assert_eq!(site.ok("forward list --format json").trim(), "[]");
}

#[test]
fn a_policy_that_is_not_confirmed_is_rolled_back() {
    let site = Site::new();
    let _server = site.serve("web", 8080);
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().expect("make a file");
        std::fs::write(file.path(), text).expect("write the policy");
        file
    };
    let shut = file("[containers.web]\ndefault-in = \"deny\"\n");
    let shut = shut.path().to_string_lossy().into_owned();
    let reaches = || site.asked("10.20.0.10", 8080).is_some();
    let said = site.ok(&format!("firewall check {shut}"));
    assert!(said.contains("web"), "{said}");
    assert!(reaches(), "looking changes nothing");

    // Rolled back although the command, and all that its shell has started, was killed.
    let command = site.host.spawn(&["firewall", "apply", &shut, "--confirm", "4"], b"");
    until(10, "it is applied", || !reaches());
    command.kill(true);
    let _ = command.wait();
    until(15, "it is rolled back", reaches);
    assert!(!site.ok("firewall export").contains("deny"));
    // Confirmed, it stays.
    site.ok(&format!("firewall apply {shut} --confirm 3"));
    site.ok("firewall confirm");
    std::thread::sleep(Duration::from_secs(5));
    assert!(!reaches());
    assert!(site.ok("firewall export").contains("deny"));
    // What is wrong is named, all of it, and nothing changes.
    let wrong = file(
        "[containers.web]\nin = [ { action = \"allow\", proto = \"tcp\", ports = \"70000\" } ]\n\
         [containers.nobody]\ndefault-in = \"deny\"\n",
    );
    let said = site.fails(&format!("firewall apply {}", wrong.path().display()));
    assert!(said.contains("70000") && said.contains("containers.web.in"), "{said}");
    assert!(site.ok("firewall export").contains("deny"));
}

#[test]
fn an_emptied_firewall_is_put_back() {
    let site = Site::new();
    site.ok("firewall default web in=deny");
    site.ok(&format!("firewall block {WORLD} --from db"));
    let shut = || !site.world.pings("10.20.0.10") && !site.world.pings("10.20.0.11");
    assert!(shut());
    // The next start puts all of it back.
    site.host.net().sh("nft flush ruleset");
    assert!(!shut());
    site.ok("launch tiny other --network dmz");
    assert!(shut());
    // And so does the command that the watcher runs; where all is there it changes nothing.
    site.host.net().sh("nft flush ruleset");
    site.ok("network repair");
    assert!(shut());
    let listed = || site.host.net().sh("nft -a list ruleset | grep -v counter");
    let before = listed();
    site.ok("network repair");
    assert_eq!(listed(), before);
}

#[test]
fn other_firewalls_let_guests_through_and_ours_still_holds() {
    let site = Site::new();
    site.ok("firewall default db in=deny");
    let check = |when: &str| {
        assert!(site.world.pings("10.20.0.10"), "{when}: into a guest");
        assert!(site.pinged_by("web", WORLD), "{when}: out of it");
        assert!(!site.world.pings("10.20.0.11"), "{when}: our own rule");
    };
    check("alone");
    site.host.net().sh(
        "for t in iptables ip6tables; do $t -P FORWARD DROP; $t -N DOCKER-USER; $t -A DOCKER-USER -j RETURN
        $t -I FORWARD -j DOCKER-USER; done",
    );
    assert!(!site.world.pings("10.20.0.10"), "that ruleset drops");
    site.ok("network repair");
    check("after Docker's rules have come");
    let said = site.host.net().run(
        "sh",
        &[
            "-c",
            &format!("NAGAYA_INSTANCE={} {} doctor || true", site.host.name(), env!("CARGO_BIN_EXE_nagaya")),
        ],
    );
    assert!(said.contains("FORWARD"), "{said}");
    // Another host's, where they were first.
    let late = Host::alone();
    late.net().sh("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
    let world = Netns::new();
    late.net().join("up0", &world, "up1");
    late.net().sh("ip address add 198.51.100.1/24 dev up0");
    world.sh("ip address add 198.51.100.2/24 dev up1");
    late.ok(&["launch", "tiny", "web"]);
    let init = late.init("web").to_string();
    let out = late.net().command("nsenter", &["-t", &init, "-n", "ping", "-n", "-c1", "-W2", WORLD]);
    let output = Running::start(out, b"").wait();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn traffic_is_counted_over_restarts() {
    let site = Site::new();
    let counts = || -> (u64, u64) {
        let info = site.host.info("web");
        let number = |key: &str| info["traffic"][key].as_u64().unwrap_or_else(|| panic!("no {key}: {info}"));
        (number("received_packets"), number("sent_packets"))
    };
    let before = counts();
    assert!(site.world.succeeds("ping", &["-n", "-c5", "-i0.01", "10.20.0.10"]));
    let after = counts();
    assert!(after.0 >= before.0 + 5 && after.1 >= before.1 + 5, "{before:?} {after:?}");
    site.ok("restart --force web");
    let later = counts();
    assert!(later.0 >= after.0 && later.1 >= after.1, "{after:?} {later:?}");
    site.host.net().sh("nft flush ruleset");
    site.ok("network repair");
    let last = counts();
    assert!(last.0 >= after.0 && last.1 >= after.1, "{after:?} {last:?}");
}
