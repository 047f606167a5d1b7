//! With the distribution's dnsmasq, on a bridge in a network namespace of the test's own, and a guest
//! in another.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use super::*;
use crate::model::mac::Mac;
use crate::model::name::Name;
use crate::sys::net::netns_fixture::{Netns, in_new_netns, run};
use crate::sys::process;

const MAC: &str = "02:00:00:00:00:05";

/// An instance whose directory is gone when the test ends, also a failed one, and so is its dnsmasq.
struct Host {
    instance: Instance,
    network: Network,
}

impl Host {
    fn new(name: &str) -> Self {
        run("ip", "link set lo up");
        run("ip", "link add lan0 type bridge");
        run("ip", "addr add 10.77.16.1/24 dev lan0");
        run("ip", "addr add fd00:77::1/64 dev lan0 nodad");
        run("ip", "link set lan0 up");
        let (ipv4, ipv6) = ("10.77.16.1/24".parse().unwrap(), "fd00:77::1/64".parse().unwrap());
        let mut network = Network::new("lan", "lan0", Some(ipv4), Some(ipv6));
        (network.dhcp4, network.dhcp6) = (true, true);
        network.domain = Some("lan.example".to_owned());
        Self { instance: Instance::new(name).unwrap(), network }
    }

    /// A namespace whose eth0 is on the bridge.
    fn guest(&self) -> Netns {
        let guest = Netns::new();
        let (pid, fd) = (std::process::id(), guest.as_fd().as_raw_fd());
        run("ip", "link add port0 type veth peer name eth0");
        run("ip", &format!("link set eth0 address {MAC}"));
        run("ip", &format!("link set eth0 netns /proc/{pid}/fd/{fd}"));
        run("ip", "link set port0 master lan0 up");
        guest.run(|| {
            run("ip", "link set eth0 up");
            // Its link-local address must not be on trial any more.
            for _ in 0..100 {
                let ready = !run("ip", "-6 addr show dev eth0").is_empty();
                if ready && run("ip", "-6 addr show dev eth0 tentative").is_empty() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        guest
    }

    fn ensure(&self, leases: &[DnsLease]) -> Result<bool, DnsError> {
        wait(ensure(&self.instance, &self.network, leases))
    }

    fn pid(&self) -> Option<i32> {
        let pid = std::fs::read_to_string(self.dir().join("pid")).ok()?;
        pid.trim().parse().ok()
    }

    fn dir(&self) -> PathBuf {
        self.instance.hostd_run_dir().join("dns/lan0")
    }

    fn kill(&self) {
        if let Some(pid) = self.pid() {
            let process = child::pidfd_open(pid).unwrap();
            child::signal(&process, libc::SIGKILL).unwrap();
            while child::signal(&process, 0).is_ok() && !process::is_zombie(pid) {
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = wait(stop(&self.instance, &self.network));
        let _ = std::fs::remove_dir_all(self.instance.hostd_run_dir());
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn lease(name: &str, last: u8) -> DnsLease {
    DnsLease {
        name: Name::new(name).unwrap(),
        mac: Mac([2, 0, 0, 0, 0, last]),
        ipv4: Some(std::net::Ipv4Addr::new(10, 77, 16, last)),
        ipv6: Some(format!("fd00:77::{last:x}").parse().unwrap()),
    }
}

/// What a guest hears.
fn ask(words: &str) -> String {
    let output =
        Command::new("python3").arg("-c").arg(include_str!("ask.py")).args(words.split(' ')).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The same, until dnsmasq has read what has changed.
fn ask_until(words: &str, wanted: &str) {
    let mut heard = String::new();
    for _ in 0..40 {
        heard = ask(words);
        if heard == wanted {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{words}: {heard}, not {wanted}");
}

#[test]
fn guests_get_their_addresses_and_find_each_other() {
    in_new_netns(|| {
        let host = Host::new("ngdns-serve");
        let guest = host.guest();
        assert!(host.ensure(&[lease("web01", 5), lease("db01", 6)]).unwrap());
        assert!(!host.ensure(&[lease("web01", 5), lease("db01", 6)]).unwrap(), "nothing has changed");
        guest.run(|| {
            let ack = ask(&format!("dhcp {MAC}"));
            assert_eq!(ack, "ack 10.77.16.5 255.255.255.0 10.77.16.1 10.77.16.1 lan.example web01");
            assert_eq!(ask("dhcp 02:00:00:00:00:99"), "nothing", "a stranger");
            assert_eq!(ask("ra"), "managed router\nfd00:77::/64 not autonomous");
            assert_eq!(ask(&format!("dhcp6 {MAC}")), "address fd00:77::5\nresolver fd00:77::1");
            run("ip", "addr add 10.77.16.5/24 dev eth0");
            run("ip", "addr add fd00:77::5/64 dev eth0 nodad");
            for (words, answer) in [
                ("dns 10.77.16.1 db01.lan.example", "ok 10.77.16.6"),
                ("dns fd00:77::1 db01.lan.example 6", "ok fd00:77::6"),
                ("dns 10.77.16.1 db01", "ok 10.77.16.6"),
                ("ptr 10.77.16.1 10.77.16.6", "ok db01.lan.example"),
                ("ptr 10.77.16.1 fd00:77::6", "ok db01.lan.example"),
                ("dns 10.77.16.1 nobody.lan.example", "nxdomain"),
                ("ptr 10.77.16.1 10.77.16.77", "nxdomain"),
                ("dns 10.77.16.1 stolen.lan.example", "nxdomain"),
                ("dns 10.77.16.1 stolen", "nxdomain"),
            ] {
                assert_eq!(ask(words), answer, "{words}");
            }
        });
        let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid().unwrap())).unwrap();
        let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(!uid.contains("\t0"), "{uid}");
    });
}

#[test]
fn it_has_no_right_that_it_does_not_need() {
    in_new_netns(|| {
        let mut host = Host::new("ngdns-rights");
        let rights = |host: &Host| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid().unwrap())).unwrap();
            let of = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
            };
            let set = |name: &str| u64::from_str_radix(&of(name), 16).unwrap();
            assert_eq!(of("NoNewPrivs:"), "1");
            assert_eq!(set("CapEff:") & !set("CapBnd:"), 0);
            set("CapBnd:")
        };
        host.ensure(&[lease("web01", 5)]).unwrap();
        assert_eq!(rights(&host), CAPABILITIES | CAPABILITIES_OF_DHCP);
        (host.network.dhcp4, host.network.dhcp6) = (false, false);
        host.ensure(&[lease("web01", 5)]).unwrap();
        assert_eq!(rights(&host), CAPABILITIES);
        let guest = host.guest();
        guest.run(|| run("ip", "addr add 10.77.16.5/24 dev eth0"));
        guest.run(|| ask_until("dns 10.77.16.1 web01.lan.example", "ok 10.77.16.5"));
    });
}

#[test]
fn guests_come_and_go_without_a_restart() {
    in_new_netns(|| {
        let host = Host::new("ngdns-change");
        let guest = host.guest();
        guest.run(|| run("ip", "addr add 10.77.16.5/24 dev eth0"));
        host.ensure(&[lease("web01", 5)]).unwrap();
        let pid = host.pid();
        host.ensure(&[lease("web01", 5), lease("db01", 6)]).unwrap();
        guest.run(|| ask_until("dns 10.77.16.1 db01.lan.example", "ok 10.77.16.6"));
        // Another name for the same interface.
        host.ensure(&[lease("web01", 5), lease("db02", 6)]).unwrap();
        guest.run(|| {
            ask_until("dns 10.77.16.1 db02.lan.example", "ok 10.77.16.6");
            ask_until("dns 10.77.16.1 db01.lan.example", "nxdomain");
        });
        host.ensure(&[lease("web01", 5)]).unwrap();
        guest.run(|| ask_until("dns 10.77.16.1 db02.lan.example", "nxdomain"));
        assert!(!host.ensure(&[lease("web02", 5)]).unwrap());
        guest.run(|| ask_until("ptr 10.77.16.1 10.77.16.5", "ok web02.lan.example"));
        assert_eq!(host.pid(), pid);

        // One that has taken its address by DHCP gives it to the next.
        guest.run(|| assert!(ask(&format!("dhcp {MAC}")).starts_with("ack 10.77.16.5")));
        let next = DnsLease { mac: Mac([2, 0, 0, 0, 0, 9]), ..lease("web03", 5) };
        host.ensure(&[next]).unwrap();
        guest.run(|| {
            assert_eq!(ask(&format!("dhcp {MAC}")), "nothing");
            assert!(ask("dhcp 02:00:00:00:00:09").starts_with("ack 10.77.16.5"));
        });
    });
}

#[test]
fn one_that_has_crashed_or_changed_is_started_again() {
    in_new_netns(|| {
        let mut host = Host::new("ngdns-crash");
        let leases = [lease("web01", 5)];
        host.ensure(&leases).unwrap();
        assert!(is_running(&host.instance, &host.network));
        host.kill();
        assert!(!is_running(&host.instance, &host.network));
        assert!(host.ensure(&leases).unwrap() && is_running(&host.instance, &host.network));
        let before = host.pid();
        host.network.domain = Some("other.example".to_owned());
        assert!(host.ensure(&leases).unwrap());
        assert_ne!(host.pid(), before);
        // A bridge that is another one by the same name.
        run("ip", "link del lan0");
        run("ip", "link add lan0 index 77 type bridge");
        run("ip", "addr add 10.77.16.1/24 dev lan0");
        run("ip", "link set lan0 up");
        assert!(host.ensure(&leases).unwrap());
        // Another process that has taken over the number.
        let (pid, mut other) = (host.pid().unwrap(), Command::new("sleep").arg("60").spawn().unwrap());
        std::fs::write(host.dir().join("pid"), format!("{}\n", other.id())).unwrap();
        assert!(!is_running(&host.instance, &host.network));
        std::fs::write(host.dir().join("pid"), format!("{pid}\n")).unwrap();
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        wait(stop(&host.instance, &host.network)).unwrap();
        assert!(!process::all().any(|process| process == pid && !process::is_zombie(pid)));
        assert!(!host.dir().exists() && !host.dir().parent().unwrap().exists());
        wait(stop(&host.instance, &host.network)).unwrap();
    });
}

#[test]
fn who_has_the_port_is_named() {
    in_new_netns(|| {
        let host = Host::new("ngdns-taken");
        let _other = std::net::TcpListener::bind("0.0.0.0:53").unwrap();
        let error = host.ensure(&[]).unwrap_err();
        let DnsError::Taken(listener) = &error else { panic!("{error:?}") };
        assert_eq!((listener.transport, listener.port), (Transport::Tcp, 53));
        assert_eq!(listener.process.as_ref().unwrap().0, std::process::id() as i32);
        let text = error.to_string();
        assert!(text.contains("TCP port 53 of 0.0.0.0") && text.contains("dns.domain"), "{text}");
    });
}

#[test]
fn what_would_be_read_otherwise_is_refused() {
    in_new_netns(|| {
        let host = Host::new("ngdns-bad");
        let refused = |network: Network, leases: &[DnsLease]| {
            let error = wait(ensure(&host.instance, &network, leases)).unwrap_err();
            assert!(!host.dir().exists() || !host.dir().join("conf").exists(), "{error}");
        };
        for bad in ["x\nserver=192.0.2.1", "x/#192.0.2.1", "a,b", "A"] {
            refused(Network { domain: Some(bad.to_owned()), ..host.network.clone() }, &[]);
        }
        refused(Network { bridge: "../lan0".to_owned(), ..host.network.clone() }, &[]);
        refused(Network { bridge: "gone0".to_owned(), ..host.network.clone() }, &[]);
        for (ipv4, ipv6) in
            [("10.77.17.5", "fd00:77::5"), ("10.77.16.1", "fd00:77::5"), ("10.77.16.5", "fd00:78::5")]
        {
            let lease = DnsLease { ipv4: ipv4.parse().ok(), ipv6: ipv6.parse().ok(), ..lease("web01", 5) };
            refused(host.network.clone(), &[lease]);
        }
        let none = DnsLease { ipv4: None, ipv6: None, ..lease("web01", 5) };
        let same = DnsLease { mac: Mac([2, 0, 0, 0, 0, 9]), ..lease("web02", 5) };
        for leases in [vec![none], vec![lease("web01", 5), same], vec![lease("web01", 5), lease("web02", 5)]]
        {
            refused(host.network.clone(), &leases);
        }
    });
}
