//! Addresses, routes and the way out.

use serde_json::{Value, json};

use super::host::{Host, Running, random_hex, run_tool, tool_succeeds, until};

#[test]
fn a_launched_container_runs_and_its_address_answers() {
    let host = Host::new();
    host.launch("web");
    assert_eq!(host.list()[0]["state"], "running");
    run_tool("ping", &["-c1", "-W2", &host.address("web")]);
}

#[test]
fn guests_reach_the_host_and_one_another() {
    let host = Host::new();
    host.launch("a");
    host.launch("b");
    let gateway = host.info("a")["gateway"].as_str().expect("a gateway").to_owned();
    host.exec("a", &["ping", "-c1", "-W2", &gateway]);
    host.exec("a", &["ping", "-c1", "-W2", &host.address("b")]);
    host.exec("b", &["ping", "-c1", "-W2", &host.address("a")]);
}

#[test]
fn a_guest_has_its_address_and_route_on_eth0_and_no_other_link() {
    let host = Host::new();
    host.launch("web");
    let (address, prefix) = (host.address("web"), 20);
    let link = ip_in(&host, "web", &["address", "show", "eth0"])[0].clone();
    let addresses = link["addr_info"].as_array().expect("addresses");
    let ipv4: Vec<_> = addresses.iter().filter(|a| a["family"] == "inet").collect();
    assert_eq!(ipv4.len(), 1, "{link}");
    assert_eq!((&ipv4[0]["local"], &ipv4[0]["prefixlen"]), (&json!(address), &json!(prefix)));
    assert_eq!(link["operstate"], "UP");
    assert_eq!(link["address"], host.info("web")["mac"]);

    let routes = ip_in(&host, "web", &["route", "show", "default"]);
    assert_eq!(routes.as_array().map(Vec::len), Some(1), "{routes}");
    assert_eq!(routes[0]["gateway"], host.info("web")["gateway"]);
    assert_eq!(routes[0]["dev"], "eth0");

    let links = ip_in(&host, "web", &["link"]);
    let up = links.as_array().expect("links").iter();
    let up = up.filter(|link| link["flags"].as_array().is_some_and(|f| f.contains(&json!("UP"))));
    let up: Vec<_> = up.filter_map(|link| link["ifname"].as_str()).collect();
    assert_eq!(up, ["lo", "eth0"]);
}

#[test]
fn the_bridge_has_the_subnet_that_was_asked_for() {
    let host = Host::with_subnet("10.211.7.1/29");
    host.launch("c0");
    let bridge: Value =
        serde_json::from_str(&run_tool("ip", &["-j", "address", "show", &host.bridge()])).unwrap();
    let address = &bridge[0]["addr_info"][0];
    assert_eq!((&address["local"], &address["prefixlen"]), (&json!("10.211.7.1"), &json!(29)));
    // A /29 has room for the bridge and five more.
    for number in 1..5 {
        host.launch(&format!("c{number}"));
    }
    let said = host.fails(3, &["launch", "tiny", "one-too-many"]);
    assert!(said.contains("address"), "{said}");
    assert_eq!(host.list().len(), 5);
    host.ok(&["delete", "--force", "c2"]);
    host.launch("another");
}

#[test]
fn what_leaves_the_subnet_is_masqueraded() {
    let host = Host::new();
    host.launch("web");
    let info = host.info("web");
    let subnet = info["gateway"].as_str().and_then(|g| g.strip_suffix(".1")).map(|net| format!("{net}.0"));
    let subnet = json!({"prefix": {"addr": subnet, "len": 20}});
    let table: Value =
        serde_json::from_str(&run_tool("nft", &["-j", "list", "table", "inet", host.name()])).unwrap();
    let rules =
        table["nftables"].as_array().unwrap().iter().filter_map(|object| object["rule"]["expr"].as_array());
    let masquerades = |rule: &Vec<Value>| {
        rule.iter()
            .any(|e| e["match"]["left"]["payload"]["field"] == "saddr" && e["match"]["right"] == subnet)
            && rule
                .iter()
                .any(|e| e["match"]["left"]["payload"]["field"] == "daddr" && e["match"]["op"] == "!=")
            && rule.iter().any(|e| e.get("masquerade").is_some())
    };
    assert_eq!(rules.filter(|rule| masquerades(rule)).count(), 1, "{table:#}");

    let world = World::new();
    let server = world.tell_who_connects();
    until(10, "the guest reaches the world", || {
        host.nagaya(&["exec", "web", "--", "sh", "-c", &format!("nc -w 2 {} 7777 < /dev/null", world.far)])
            .status
            .success()
    });
    assert_eq!(String::from_utf8_lossy(&server.wait().stdout).trim(), world.near);
}

#[test]
fn instances_that_are_set_up_at_once_get_subnets_of_their_own() {
    let hosts: Vec<_> = (0..4).map(|_| Host::bare()).collect();
    let setups: Vec<_> = hosts.iter().map(|host| host.spawn(&["setup"], b"")).collect();
    for setup in setups {
        let done = setup.wait();
        assert!(done.status.success(), "{}", super::host::told(&done));
    }
    for host in &hosts {
        host.import("tiny", &super::templates::tiny());
        host.launch("web");
    }
    let routes: Value = serde_json::from_str(&run_tool("ip", &["-j", "route"])).unwrap();
    let mut subnets: Vec<_> = routes
        .as_array()
        .unwrap()
        .iter()
        .filter(|route| hosts.iter().any(|host| route["dev"] == host.bridge()))
        .map(|route| route["dst"].as_str().unwrap().to_owned())
        .collect();
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), hosts.len(), "{subnets:?}");
}

fn ip_in(host: &Host, name: &str, args: &[&str]) -> Value {
    let init = host.init(name).to_string();
    let text = run_tool("nsenter", &[&["-t", &init, "-n", "ip", "-j"], args].concat());
    serde_json::from_str(&text).expect("ip prints JSON")
}

/// A machine outside: a network namespace behind a veth, which knows no way to any guest.
struct World {
    name: String,
    /// The host's address towards it.
    near: String,
    far: String,
    /// Whether ip(8) has yet to make the directory, and the mount, that it keeps namespaces in.
    first: bool,
}

impl World {
    fn new() -> Self {
        let hex = random_hex(3);
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        // 198.18.0.0/15 is for tests of networks (RFC 2544).
        let net = format!("198.{}.{}.{}", 18 + (byte(0) & 1), byte(2), byte(4) & 0xfc);
        let (start, last) = net.rsplit_once('.').unwrap();
        let last: u8 = last.parse().unwrap();
        let world = Self {
            name: format!("ngtw{hex}"),
            near: format!("{start}.{}", last + 1),
            far: format!("{start}.{}", last + 2),
            first: !tool_succeeds("findmnt", &["/run/netns"]),
        };
        let (name, peer) = (&world.name, format!("{}p", world.name));
        run_tool("ip", &["netns", "add", name]);
        run_tool("ip", &["link", "add", name, "type", "veth", "peer", "name", &peer, "netns", name]);
        run_tool("ip", &["address", "add", &format!("{}/30", world.near), "dev", name]);
        run_tool("ip", &["link", "set", name, "up"]);
        run_tool("ip", &["-n", name, "address", "add", &format!("{}/30", world.far), "dev", &peer]);
        run_tool("ip", &["-n", name, "link", "set", &peer, "up"]);
        world
    }

    /// Prints the address of the first who connects to port 7777.
    fn tell_who_connects(&self) -> Running {
        const SERVER: &str = "import socket
s = socket.create_server(('0.0.0.0', 7777)); s.settimeout(30); print(s.accept()[1][0])";
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &self.name, "/usr/bin/python3", "-c", SERVER]);
        let server = Running::start(command, b"");
        let listening = ["netns", "exec", &self.name, "sh", "-c", "ss -Htln | grep -q :7777"];
        until(10, "the server listens", || tool_succeeds("ip", &listening));
        server
    }
}

impl Drop for World {
    fn drop(&mut self) {
        tool_succeeds("ip", &["link", "delete", &self.name]);
        tool_succeeds("ip", &["netns", "delete", &self.name]);
        if self.first {
            tool_succeeds("umount", &["/run/netns"]);
            tool_succeeds("rmdir", &["/run/netns"]);
        }
    }
}
