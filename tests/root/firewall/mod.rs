//! The firewall with real packets between guests, their host and a machine outside, on hosts whose
//! network is their own: judged by connections, and by what nft lists.

use std::process::Command;

use serde_json::Value;

use super::host::{Host, Running};
use super::lab::{self, Netns};

mod behind;
mod blocks;
mod confirm;
mod daemonless;
mod forwards;
mod rules;
mod slips;
mod upkeep;
mod users;

/// A host with two guests, `web` and `db`, on one network, and a machine outside that knows the way
/// to them.
struct Site {
    host: Host,
    world: Netns,
}

const WORLD: &str = "198.51.100.2";
const WORLD6: &str = "2001:db8:5::2";
/// The host's addresses on the side of the world.
const HOST: &str = "198.51.100.1";
const HOST6: &str = "2001:db8:5::1";
const WEB: &str = "10.20.0.10";
const WEB6: &str = "fd00:20::a";
const DB: &str = "10.20.0.11";
const DB6: &str = "fd00:20::b";

impl Site {
    fn new() -> Self {
        let host = Host::alone();
        let world = world_beside(host.net());
        let site = Self { host, world };
        site.ok(
            "network create dmz ipv4.address=10.20.0.1/24 ipv6.address=fd00:20::1/64 ipv4.nat=false ipv6.nat=false",
        );
        for (name, ip) in [("web", WEB), ("db", DB)] {
            site.ok(&format!("launch tiny {name} --network dmz --ip {ip}"));
        }
        site
    }

    fn ok(&self, words: &str) -> String {
        self.host.ok(&words.split_whitespace().collect::<Vec<_>>())
    }

    fn fails(&self, words: &str) -> String {
        self.host.fails(1, &words.split_whitespace().collect::<Vec<_>>())
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{words} --format json"))).expect("JSON")
    }

    /// The kernel's whole ruleset.
    fn ruleset(&self) -> String {
        self.host.net().run("nft", &["list", "ruleset"])
    }

    /// A program of the host's in a guest's network.
    fn inside(&self, name: &str, program: &str, args: &[&str]) -> Command {
        lab::within(self.host.init(name), program, args)
    }

    /// Answers each who connects to one of these ports of the guest with that one's address.
    fn serve(&self, name: &str, ports: &[u16]) -> Running {
        lab::serve(self.host.init(name), ports)
    }

    /// Whom the server at this address sees, asked from the world.
    fn asked(&self, address: &str, port: u16) -> Option<String> {
        self.world.asks(address, port)
    }

    /// The same, asked from a guest.
    fn asked_by(&self, name: &str, address: &str, port: u16) -> Option<String> {
        lab::asks_from(self.host.init(name), address, port)
    }

    fn pinged_by(&self, name: &str, address: &str) -> bool {
        let output = Running::start(self.inside(name, "ping", &["-n", "-c1", "-W1", address]), b"").wait();
        output.status.success()
    }
}

/// A machine outside, by a link to a host that it has its default route over.
fn world_beside(host: &Netns) -> Netns {
    let world = Netns::new();
    host.join("up0", &world, "up1");
    host.sh("ip address add 198.51.100.1/24 dev up0; ip address add 2001:db8:5::1/64 dev up0 nodad");
    world.sh("ip address add 198.51.100.2/24 dev up1; ip address add 2001:db8:5::2/64 dev up1 nodad
        ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:5::1");
    world
}

/// Writes a policy, or a list of addresses, to a file that is there as long as the test.
fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().expect("make a file");
    std::fs::write(file.path(), text).expect("write the file");
    let path = file.path().to_str().expect("a path in UTF-8").to_owned();
    (file, path)
}

/// A policy by which nothing new comes to `web`.
const CLOSED: &str = "[containers.web]\ndefault-in = \"deny\"\n";
