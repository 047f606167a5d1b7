//! With the host's own iptables and nft, in a network namespace of the test's own that routes between
//! a guest's and one beyond it.

use std::os::fd::{AsFd, AsRawFd};

use super::*;
use crate::sys::net::netns_fixture::{Netns, in_new_netns, json, pings, run};

/// As Docker 24 leaves the table behind.
const DOCKER: &str = "-P FORWARD DROP
-N DOCKER
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-USER -j RETURN";

const UFW: &str = "-P INPUT DROP
-P FORWARD DROP
-N ufw-before-forward
-N ufw-before-input
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 3 -j ACCEPT";

struct Host {
    instance: Instance,
    guest: Netns,
    beyond: Netns,
}

impl Host {
    /// Guest 10.9.0.2 and fd00:9::2 behind `lan0`, a machine 192.0.2.2 and fd00:8::2 behind `up0`.
    fn new() -> Self {
        run("ip", "link set lo up");
        let host =
            Self { instance: Instance::new("ngfw").unwrap(), guest: Netns::new(), beyond: Netns::new() };
        run("ip", "link add lan0 type bridge");
        run("ip", "link set lan0 up");
        link("port0", &host.guest, "10.9.0", "fd00:9::");
        link("up0", &host.beyond, "192.0.2", "fd00:8::");
        run("ip", "link set port0 master lan0");
        run("ip", "addr add 10.9.0.1/24 dev lan0");
        run("ip", "addr add fd00:9::1/64 dev lan0 nodad");
        run("ip", "addr add 192.0.2.1/24 dev up0");
        run("ip", "addr add fd00:8::1/64 dev up0 nodad");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        host
    }

    fn ensure(&self) -> Vec<Finding> {
        wait(ensure_with(no_bus(), &self.instance, &[Link { name: "lan0".into(), is_answered: true }]))
            .unwrap()
    }

    fn remove(&self) {
        wait(remove_with(no_bus(), &self.instance, &["lan0".to_owned()])).unwrap();
    }

    fn passes(&self) -> (bool, bool) {
        (self.guest.run(|| pings("192.0.2.2")), self.beyond.run(|| pings("10.9.0.2")))
    }

    fn passes6(&self) -> bool {
        self.guest.run(|| pings("fd00:8::2"))
    }
}

fn link(name: &str, netns: &Netns, net4: &str, net6: &str) {
    let (pid, fd) = (std::process::id(), netns.as_fd().as_raw_fd());
    run("ip", &format!("link add {name} type veth peer name eth0"));
    run("ip", &format!("link set eth0 netns /proc/{pid}/fd/{fd}"));
    run("ip", &format!("link set {name} up"));
    netns.run(|| {
        run("ip", &format!("addr add {net4}.2/24 dev eth0"));
        run("ip", &format!("addr add {net6}2/64 dev eth0 nodad"));
        run("ip", "link set eth0 up");
        run("ip", &format!("route add default via {net4}.1"));
        run("ip", &format!("-6 route add default via {net6}1"));
    });
}

/// The host's own firewalld, where one runs, is not to be touched.
fn no_bus() -> &'static Path {
    Path::new("/nonexistent")
}

fn load(program: &str, rules: &str) {
    rules.lines().for_each(|rule| drop(run(program, rule)));
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn finding(who: Who, place: &str, is_handled: bool) -> Finding {
    Finding { who, place: place.into(), is_handled }
}

#[test]
fn nothing_is_done_where_nothing_drops() {
    in_new_netns(|| {
        let host = Host::new();
        assert_eq!(host.ensure(), []);
        assert!(json("nft", "-j list tables")["nftables"].as_array().unwrap().len() == 1);
        // A table that is there and lets everything pass.
        run("iptables-nft", "-A FORWARD -s 203.0.113.0/24 -j DROP");
        let before = run("iptables-nft", "-S");
        assert_eq!(host.ensure(), []);
        assert_eq!(run("iptables-nft", "-S"), before);
        assert_eq!(host.passes(), (true, true));
    });
}

#[test]
fn guests_get_through_dockers_drop_and_back_out_again() {
    in_new_netns(|| {
        let host = Host::new();
        load("iptables-nft", DOCKER);
        run("ip6tables-nft", "-P FORWARD DROP");
        let before = run("iptables-nft", "-S");
        assert_eq!((host.passes(), host.passes6()), ((false, false), false));
        let found = [
            finding(Who::Docker, "ip filter FORWARD", true),
            finding(Who::Iptables, "ip6 filter FORWARD", true),
        ];
        assert_eq!(host.ensure(), found);
        assert_eq!((host.passes(), host.passes6()), ((true, true), true));
        let once = run("iptables-nft", "-S");
        assert_eq!(host.ensure(), found);
        assert_eq!(run("iptables-nft", "-S"), once);
        assert_eq!(wait(look_with(no_bus(), &host.instance, &[])).unwrap(), found);
        // What Docker does at each start.
        for chain in ["DOCKER-ISOLATION-STAGE-1", "DOCKER-USER"] {
            run("iptables-nft", &format!("-D FORWARD -j {chain}"));
            run("iptables-nft", &format!("-I FORWARD -j {chain}"));
        }
        assert_eq!(host.passes(), (true, true));
        // What an administrator does.
        run("iptables-nft", "-F FORWARD");
        assert_eq!(host.passes(), (false, false));
        assert!(!wait(look_with(no_bus(), &host.instance, &[])).unwrap()[0].is_handled);
        host.ensure();
        assert_eq!(host.passes(), (true, true));
        host.remove();
        assert_eq!(host.passes(), (false, false));
        let left = run("iptables-nft", "-S");
        assert!(!left.contains("ngfw"), "{left}");
        assert!(before.contains("DOCKER-USER") && left.contains("DOCKER-USER"));
    });
}

/// Docker keeps its containers' ports from those who come in by other ways than it has opened.
#[test]
fn what_goes_to_docker_is_dockers_to_decide() {
    in_new_netns(|| {
        let host = Host::new();
        load("iptables-nft", DOCKER);
        let container = Netns::new();
        run("ip", "link add docker0 type bridge");
        run("ip", "link set docker0 up");
        link("dock", &container, "172.17.0", "fd00:7::");
        run("ip", "link set dock master docker0");
        run("ip", "addr add 172.17.0.1/24 dev docker0");
        host.ensure();
        assert_eq!(host.passes(), (true, true));
        assert!(!host.guest.run(|| pings("172.17.0.2")), "a guest reaches into Docker's network");
        assert!(container.run(|| pings("10.9.0.2")), "our own tables say who reaches a guest");
    });
}

#[test]
fn ufw_lets_through_and_lets_ask() {
    in_new_netns(|| {
        let host = Host::new();
        load("iptables-nft", UFW);
        let server = std::net::UdpSocket::bind("10.9.0.1:53").unwrap();
        server.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let asks = || {
            host.guest.run(|| {
                let client = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
                client.send_to(b"?", "10.9.0.1:53").unwrap();
            });
            server.recv_from(&mut [0; 8]).is_ok()
        };
        assert_eq!((host.passes(), asks()), ((false, false), false));
        assert_eq!(host.ensure(), [finding(Who::Ufw, "ip filter FORWARD", true)]);
        assert_eq!((host.passes(), asks()), ((true, true), true));
        assert!(!host.guest.run(|| pings("10.9.0.1")), "the host's own services stay behind ufw");
        // The firewall is opened: nothing of ours is needed any more.
        run("iptables-nft", "-P FORWARD ACCEPT");
        run("iptables-nft", "-P INPUT ACCEPT");
        assert_eq!(host.ensure(), []);
        assert!(!run("iptables-nft", "-S").contains("ngfw"));
    });
}

#[test]
fn the_former_tables_are_seen_too() {
    in_new_netns(|| {
        let host = Host::new();
        run("iptables-legacy", "-A FORWARD -j REJECT --reject-with icmp-host-prohibited");
        assert_eq!(host.passes(), (false, false));
        assert_eq!(host.ensure(), [finding(Who::Iptables, "legacy ip filter FORWARD", true)]);
        assert_eq!(host.passes(), (true, true));
        host.remove();
        assert_eq!(host.passes(), (false, false));
        assert!(!run("iptables-legacy", "-S").contains("ngfw"));
    });
}

#[test]
fn a_table_of_a_stranger_is_named_and_left_alone() {
    in_new_netns(|| {
        let host = Host::new();
        run("nft", "add table inet filter");
        run("nft", "add chain inet filter forward { type filter hook forward priority 0 ; policy drop ; }");
        run("nft", "add table inet ngfw-1000");
        run("nft", "add chain inet ngfw-1000 x { type filter hook forward priority 0 ; policy drop ; }");
        let before = run("nft", "list ruleset");
        assert_eq!(host.ensure(), [finding(Who::Unknown, "inet filter forward", false)]);
        assert_eq!(run("nft", "list ruleset"), before);
    });
}

#[test]
fn of_two_owners_each_has_rules_of_its_own() {
    in_new_netns(|| {
        let host = Host::new();
        load("iptables-nft", DOCKER);
        let ann = host.instance.of_user(1000, "ann");
        let link = |name: &str| Link { name: name.into(), is_answered: false };
        wait(ensure_with(no_bus(), &ann, &[link("ann0"), link("ann1")])).unwrap();
        host.ensure();
        wait(remove_with(no_bus(), &ann, &["ann0".to_owned()])).unwrap();
        let rules = run("iptables-nft", "-S");
        assert!(rules.contains("-A ngfw-1000-fwd -o ann1 -j ACCEPT") && !rules.contains("ann0"), "{rules}");
        wait(remove_with(no_bus(), &ann, &["ann1".to_owned()])).unwrap();
        let rules = run("iptables-nft", "-S");
        assert!(!rules.contains("ngfw-1000") && rules.contains("-o lan0"), "{rules}");
        assert_eq!(host.passes(), (true, true));
        for bad in ["a b", "x\n-P INPUT ACCEPT", "", "a/b"] {
            let error = wait(ensure_with(no_bus(), &ann, &[link(bad)])).unwrap_err();
            assert!(matches!(error, CoexistError::Name(_)), "{error}");
        }
    });
}
