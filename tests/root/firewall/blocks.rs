//! Blocked addresses.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{DB, Site, WEB, WEB6, WORLD, file};
use crate::host::{Running, until};

#[test]
fn a_block_cuts_connections_and_counts_its_hits() {
    let site = Site::new();
    let script = "import socket
s = socket.create_server(('', 9000)); c = s.accept()[0]
while True:
    d = c.recv(10)
    if not d: break
    c.sendall(d)";
    let _echo = Running::start(site.inside("web", "python3", &["-c", script]), b"");
    let _server = site.world.serve(80);
    let talk = format!(
        "import socket, time, sys
for n in range(40):
    try: s = socket.create_connection(('{WEB}', 9000), timeout=3); break
    except OSError: time.sleep(0.2)
s.settimeout(3); s.sendall(b'x'); s.recv(1); print('talks', flush=True)
sys.stdin.readline()
s.sendall(b'y')
try: print('still', s.recv(1))
except OSError: print('cut')"
    );
    let mut command = site.world.command("python3", &["-c", &talk]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut talker = command.spawn().expect("run python3");
    let mut lines = BufReader::new(talker.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "talks");
    assert!(site.asked_by("web", WORLD, 80).is_some());

    site.ok("firewall block 198.51.100.0/24 --reason scans");
    talker.stdin.as_mut().expect("piped").write_all(b"\n").expect("go on");
    assert_eq!(lines.next().expect("a line").expect("text"), "cut");
    let _ = talker.wait();
    assert!(!site.world.pings(WEB) && !site.world.pings(DB));
    assert_eq!(site.asked_by("web", WORLD, 80), None, "nor the other way");
    assert!(site.world.pings(WEB6), "the other family is not blocked");
    let blocks = site.json("firewall blocks");
    let block = &blocks[0];
    assert_eq!((&block["address"], &block["reason"]), (&json!("198.51.100.0/24"), &json!("scans")));
    assert!(block["until"].is_null() && block["container"].is_null(), "{block}");
    assert!(block["hits"]["packets"].as_u64() >= Some(2), "{block}");
    site.ok("firewall unblock 198.51.100.0/24");
    assert!(site.world.pings(WEB));
    assert!(site.fails("firewall unblock 198.51.100.0/24").contains("was not blocked"));
}

#[test]
fn a_block_may_be_for_one_container_and_for_a_while() {
    let site = Site::new();
    let _server = site.serve("db", &[80]);
    site.ok("firewall block 198.51.100.0/25 --from web --for 3s");
    assert!(!site.world.pings(WEB));
    assert!(site.world.pings(DB));
    let blocks = site.json("firewall blocks");
    assert!(blocks[0]["until"].is_string() && blocks[0]["container"] == "web", "{blocks}");
    until(10, "the block has ended", || site.world.pings(WEB));
    assert_eq!(site.json("firewall blocks"), json!([]));
    // A narrow one within a wide one outlives it.
    site.ok("firewall block 198.51.100.0/24");
    site.ok(&format!("firewall block {WORLD}"));
    site.ok("firewall unblock 198.51.100.0/24");
    assert!(!site.world.pings(WEB));
    // Neighbours are kept from one another like everybody.
    assert!(site.asked_by("web", DB, 80).is_some());
    site.ok(&format!("firewall block {WEB} --from db"));
    assert_eq!(site.asked_by("web", DB, 80), None);
    for bad in [
        "10.0.0.0/33",
        "x",
        "web",
        "0.0.0.0/0",
        "203.0.113.1/24",
        "203.0.113.1 --for 2",
        "203.0.113.1 --from nobody",
    ] {
        let args = format!("firewall block {bad}");
        let output = site.host.nagaya(&args.split(' ').collect::<Vec<_>>());
        assert!(matches!(output.status.code(), Some(1 | 2)), "{bad}");
        let wrong = bad.split(' ').next_back().expect("a word");
        assert!(String::from_utf8_lossy(&output.stderr).contains(wrong), "{bad}");
    }
}

#[test]
fn a_list_of_blocks_is_in_the_kernel_again_when_its_rules_were_lost() {
    let site = Site::new();
    let mut list: String = (0..5000).map(|n| format!("198.18.{}.{}\n", n / 250, n % 250)).collect();
    list.push_str(&format!("{WORLD}\n"));
    let output = site.host.spawn(&["firewall", "block", "--from-file", "-", "--for", "1h"], list.as_bytes());
    assert!(output.wait().status.success());
    let count = || site.json("firewall blocks").as_array().map(Vec::len);
    assert_eq!(count(), Some(5001));
    assert!(!site.world.pings(WEB));
    site.host.net().sh("nft flush ruleset");
    assert!(site.world.pings(WEB));
    site.ok("network repair");
    assert!(!site.world.pings(WEB));
    assert!(site.ruleset().contains("198.18.19.249"));
    assert_eq!(count(), Some(5001));
}

#[test]
fn a_hundred_thousand_blocks_take_three_seconds_at_most() {
    let site = Site::new();
    let mut text = format!("# those that attack\n{WORLD}\n");
    for n in 0..100_000u32 {
        text.push_str(&format!("{}\n", std::net::Ipv4Addr::from(0x0b00_0000 + n * 7)));
    }
    let (_file, path) = file(&text);
    let start = Instant::now();
    site.ok(&format!("firewall block --from-file {path} --for 1d"));
    let took = start.elapsed();
    println!("100,001 blocks: {took:?}");
    // A build without optimisation is three to ten times slower.
    let bound = if cfg!(debug_assertions) { 20 } else { 3 };
    assert!(took < Duration::from_secs(bound), "{took:?}");
    assert!(!site.world.pings(WEB));
    let start = Instant::now();
    site.ok(&format!("firewall unblock --from-file {path}"));
    println!("and gone: {:?}", start.elapsed());
    assert!(site.world.pings(WEB));
    assert_eq!(site.json("firewall blocks"), json!([]));
}
