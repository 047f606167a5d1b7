//! Firewalls among real machines: a host, guests on two networks and one by a link of its own, and a
//! machine beyond. Judged by connections and by what the kernel lists.

#[cfg(test)]
mod blocks;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod neighbours;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod translation;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::look::matches;
use super::*;
use crate::model::firewall::Change;
use crate::model::firewall::block::KernelBlock;
use crate::model::firewall::fixture::plan;
use crate::model::firewall::plan::{ContainerPlan, Plan};
use crate::model::name::ContainerId;
use crate::render::nft::table::TableName;
use crate::sys::net::netns_fixture::{Netns, in_new_netns, pings, run};
use crate::sys::net::nft::Batch;
use std::net::IpAddr;

/// Whoever has the networks of the fixture.
pub fn owned() -> Owned {
    let nets = |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect();
    Owned {
        owner: "test".to_owned(),
        instance: "test".to_owned(),
        bridges: BTreeMap::from([
            ("lan0".to_owned(), nets(&["10.7.0.0/24", "fd07::/64"])),
            ("old0".to_owned(), nets(&["10.8.0.0/24"])),
            ("br9".to_owned(), nets(&[])),
        ]),
        routed: nets(&["192.0.2.0/24"]),
        link: Box::new(|id, link| link.starts_with(&format!("ng{id}"))),
        ports: Ports::all(),
        nat: Some(Vec::new()),
        bounds: None,
    }
}

/// The machines; the calling thread stands in the host's namespace.
struct Lab {
    web: Netns,
    db: Netns,
    old: Netns,
    far: Netns,
    beyond: Netns,
}

/// No waiting for addresses that somebody else might have.
fn settle() {
    for scope in ["all", "default"] {
        set(&format!("ipv6/conf/{scope}/accept_dad"), "0");
    }
}

fn bridge(name: &str, mac: u8, addresses: &[&str]) {
    run("ip", &format!("link add {name} address 02:aa:00:00:00:{mac:02x} type bridge"));
    run("ip", &format!("link set {name} up"));
    for address in addresses {
        run("ip", &format!("address add {address} dev {name} nodad"));
    }
}

/// A machine at the other end of the host's link `link`.
fn machine(link: &str, addresses: &[&str], router: &[&str]) -> Netns {
    let machine = Netns::new();
    machine.run(settle);
    let path = format!("/proc/{}/fd/{}", std::process::id(), machine.as_fd().as_raw_fd());
    run("ip", &format!("link add {link} type veth peer name eth0 netns {path}"));
    run("ip", &format!("link set {link} up"));
    machine.run(|| {
        run("ip", "link set lo up");
        run("ip", "link set eth0 up");
        for address in addresses {
            run("ip", &format!("address add {address} dev eth0 nodad"));
        }
        for router in router {
            run("ip", &format!("route add default via {router} dev eth0 onlink"));
        }
    });
    machine
}

fn port(link: &str, bridge: &str, addresses: &[&str], router: &[&str]) -> Netns {
    let machine = machine(link, addresses, router);
    run("ip", &format!("link set {link} master {bridge}"));
    machine
}

fn set(key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{key}"), value).unwrap();
}

/// Whether br_netfilter has bridged packets pass the rules of the family inet, as a host with Docker
/// does.
fn pass_bridged(on: bool) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        if std::fs::exists(&path).unwrap() {
            std::fs::write(path, if on { "1" } else { "0" }).unwrap();
        }
    }
}

impl Lab {
    fn new() -> Self {
        pass_bridged(false);
        settle();
        run("ip", "link set lo up");
        bridge("lan0", 1, &["10.7.0.1/24", "fd07::1/64"]);
        bridge("old0", 2, &["10.8.0.1/24"]);
        let lan = ["10.7.0.1", "fd07::1"];
        let lab = Self {
            web: port("ng00000001", "lan0", &["10.7.0.2/24", "fd07::2/64"], &lan),
            db: port("ng00000002", "lan0", &["10.7.0.3/24", "fd07::3/64"], &lan),
            old: port("ng00000003", "old0", &["10.8.0.2/24"], &["10.8.0.1"]),
            far: machine("ng00000004", &["192.0.2.7/32"], &["169.254.0.1"]),
            beyond: machine(
                "up0",
                &["203.0.113.2/24", "203.0.113.66/24", "2001:db8::2/64"],
                &["203.0.113.1", "2001:db8::1"],
            ),
        };
        run("ip", "address add 169.254.0.1/32 dev ng00000004");
        run("ip", "route add 192.0.2.7 dev ng00000004");
        for address in ["203.0.113.1/24", "203.0.113.9/24", "2001:db8::1/64"] {
            run("ip", &format!("address add {address} dev up0 nodad"));
        }
        set("ipv4/ip_forward", "1");
        set("ipv6/conf/all/forwarding", "1");
        lab
    }

    /// Every guest, and the machine beyond, says at these ports whom it hears.
    fn serve(&self, ports: &[u16]) {
        for machine in [&self.web, &self.db, &self.old, &self.far, &self.beyond] {
            machine.run(|| serve_here(ports));
        }
    }
}

/// Answers connections for as long as the test lasts.
fn serve_here(ports: &[u16]) {
    for port in ports {
        let listener = TcpListener::bind(("::", *port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                std::thread::spawn(move || {
                    let _ = stream.write_all(format!("{peer}\n").as_bytes());
                    let mut bytes = [0; 64];
                    while let Ok(n @ 1..) = stream.read(&mut bytes) {
                        let _ = stream.write_all(&bytes[..n]);
                    }
                });
            }
        });
    }
}

/// A connection, and as whom the other end hears it.
fn connect(to: &str) -> Result<(TcpStream, String), ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(600)).map_err(|e| e.kind())?;
    stream.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != [b'\n'] {
        if stream.read(&mut byte).map_err(|e| e.kind())? == 0 {
            return Err(ErrorKind::UnexpectedEof);
        }
        line.extend(byte);
    }
    Ok((stream, String::from_utf8(line).unwrap().trim().to_owned()))
}

fn heard_as(from: &Netns, to: &str) -> Result<String, ErrorKind> {
    from.run(|| connect(to).map(|(_, name)| name))
}

fn reaches(from: &Netns, to: &str) -> bool {
    heard_as(from, to).is_ok()
}

fn still_there(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok()
}

fn apply(text: &str) -> Plan {
    let plan = plan(text);
    apply_all(&owned(), &plan).unwrap();
    assert!(is_in_place("test", "test").unwrap() && matches(&owned(), &plan).unwrap());
    plan
}

fn change(from: &Plan, text: &str) -> Plan {
    let to = plan(text);
    apply_change(&owned(), &Change::between(from, &to).unwrap()).unwrap();
    assert!(matches(&owned(), &to).unwrap(), "{}", run("nft", "list ruleset"));
    to
}

fn blocked(address: &str, container: Option<u32>, seconds: u64) -> KernelBlock {
    KernelBlock { address: address.parse().unwrap(), container, seconds }
}

fn count(chain: &str, rule: &str) -> u64 {
    let all = rule_counts("test").unwrap();
    all.iter().find(|c| c.chain == chain && c.rule == rule).map_or(0, |c| c.packets)
}
