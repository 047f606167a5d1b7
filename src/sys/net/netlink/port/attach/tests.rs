use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::link_messages;
use super::super::ownership::LINK_GROUP;
use super::*;
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::nic::Nic;
use crate::render::spoof::frames::{self, OWN4, OWN6};
use crate::sys::net::guest_net;
use crate::sys::net::netlink::bridge::Bridge;
use crate::sys::net::netns_fixture::{
    Netns, attachment, comes_to_ping, in_new_netns, json, names, nic, pings, run,
};
use crate::sys::net::packet_fixture::Packets;

fn bridge(netlink: &Netlink) -> Bridge {
    let (ipv4, ipv6) = ("10.9.0.1/20".parse().unwrap(), "fd00:9::1/64".parse().unwrap());
    netlink.ensure_bridge(&Network::new("lan", "test0", Some(ipv4), Some(ipv6)), "nagaya lan").unwrap()
}

/// The interface number `n` of the network, with the addresses .`4 + n` and ::`4 + n`.
fn numbered(n: u8) -> Nic {
    let mut nic = nic("eth0", n);
    nic.ipv4 = Some(format!("10.9.0.{}/20", 4 + n).parse().unwrap());
    nic.gateway4 = Some("10.9.0.1".parse().unwrap());
    nic.ipv6 = Some(format!("fd00:9::{:x}/64", 4 + n).parse().unwrap());
    nic.gateway6 = Some("fd00:9::1".parse().unwrap());
    nic
}

fn is_up(link: &str) -> bool {
    let shown = json("ip", &format!("-j link show {link}"));
    shown[0]["flags"].as_array().unwrap().iter().any(|flag| flag == "UP")
}

fn is_there(link: &str) -> bool {
    run("ip", "-br link").lines().any(|line| line.split([' ', '@']).next() == Some(link))
}

/// Links are told of their carrier a little later than it is there.
fn await_carrier(links: &[&str]) {
    let start = Instant::now();
    let has = |link: &&str| json("ip", &format!("-j link show {link}"))[0]["operstate"] == "UP";
    while !links.iter().all(has) {
        assert!(start.elapsed() < Duration::from_secs(5), "no carrier");
    }
}

fn port(link: &str) -> serde_json::Value {
    json("ip", &format!("-j -d link show {link}"))[0]["linkinfo"]["info_slave_data"].clone()
}

#[test]
fn an_attached_interface_is_whole() {
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        let (guest, nic) = (Netns::new(), numbered(1));
        let names = names(0x0123_abcd);
        let mut attachment = attachment(&nic, &names, bridge.index, &guest);
        (attachment.network_mtu, attachment.isolated) = (Some(1400), true);
        netlink.attach(&attachment).unwrap();
        let shown = json("ip", "-j -d addr show ng0123abcd");
        let host_end = &shown[0];
        assert_eq!(host_end["address"], "fe:01:02:03:04:01");
        assert_eq!((&host_end["master"], &host_end["mtu"]), (&"test0".into(), &1400.into()));
        assert_eq!(host_end["group"], LINK_GROUP.to_string());
        assert_eq!(host_end["addr_info"].as_array().unwrap().len(), 0, "{host_end}");
        assert!(is_up("ng0123abcd"));
        assert_eq!(port("ng0123abcd")["isolated"], true);
        assert_eq!(port("ng0123abcd")["hairpin"], false);
        let guest_end = guest.run(|| json("ip", "-j -d link show eth0"));
        assert_eq!(guest_end[0]["address"], "02:01:02:03:04:01");
        assert_eq!(
            (&guest_end[0]["linkinfo"]["info_kind"], &guest_end[0]["mtu"]),
            (&"veth".into(), &1400.into())
        );
        let filters = run("tc", "filter show dev ng0123abcd ingress");
        assert!(filters.contains("pref 1 bpf") && filters.contains("direct-action"), "{filters}");
        let spoof_filter = SpoofFilter::of(&nic).unwrap();
        assert!(netlink.has_exact_spoof_filter("ng0123abcd", &spoof_filter).unwrap());
        assert!(
            !netlink
                .has_exact_spoof_filter("ng0123abcd", &SpoofFilter { ipv4: None, ..spoof_filter })
                .unwrap()
        );
        let laxer = SpoofFilter { ipv6: None, ..frames::spoof_filter() };
        netlink.set_spoof_filter("ng0123abcd", Some(&laxer)).unwrap();
        assert!(netlink.has_exact_spoof_filter("ng0123abcd", &laxer).unwrap());
        let filters = run("tc", "filter show dev ng0123abcd ingress");
        assert_eq!(filters.matches("direct-action").count(), 1, "{filters}");
        netlink.set_port_isolated("ng0123abcd", false).unwrap();
        assert_eq!(port("ng0123abcd")["isolated"], false);
    });
}

#[test]
fn host_and_guest_reach_each_other_also_after_a_reboot() {
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        let (first, nic) = (Netns::new(), numbered(1));
        netlink.attach(&attachment(&nic, &names(1), bridge.index, &first)).unwrap();
        let reaches = || {
            guest_net::configure(std::slice::from_ref(&nic)).unwrap();
            assert!(comes_to_ping("10.9.0.1") && comes_to_ping("fd00:9::1"));
        };
        first.run(reaches);
        assert!(pings("10.9.0.5") && pings("fd00:9::5"));
        let second = Netns::new();
        let nics = std::slice::from_ref(&nic);
        first.run(|| guest_net::move_links_to_netns(nics, second.as_fd()).unwrap());
        assert!(!pings("10.9.0.5"));
        second.run(reaches);
        assert_eq!(json("ip", "-j link show ng00000001")[0]["master"], "test0");
    });
}

/// Every frame of the tests' list is sent by one guest; another, to which the bridge floods them,
/// sees exactly those that may pass.
#[test]
fn the_kernel_judges_frames_as_the_rules_say() {
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        // Where br_netfilter is loaded, it drops frames on a bridge that are no good as IP packets.
        for table in ["iptables", "ip6tables", "arptables"] {
            let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{table}"), "0");
        }
        let (guest, witness, own) = (Netns::new(), Netns::new(), numbered(1));
        assert_eq!(SpoofFilter::of(&own), Some(frames::spoof_filter()));
        assert_eq!((own.ipv4.unwrap().ip(), own.ipv6.unwrap().ip()), (OWN4, OWN6));
        netlink.attach(&attachment(&own, &names(1), bridge.index, &guest)).unwrap();
        netlink.attach(&attachment(&numbered(2), &names(2), bridge.index, &witness)).unwrap();
        let eyes = witness.run(|| {
            run("ip", "link set eth0 up");
            Packets::on("eth0")
        });
        let cases = frames::cases();
        let last = frames::ethernet(
            frames::MAC,
            0x0806,
            &cases.iter().find(|c| c.0 == "ARP request").unwrap().2[14..],
        );
        let last = [&last[..], b"the last frame"].concat();
        guest.run(|| run("ip", "link set eth0 up"));
        await_carrier(&["ng00000001", "ng00000002"]);
        let send = |filtered: bool| {
            guest.run(|| {
                let mouth = Packets::on("eth0");
                for (_, _, frame) in &cases {
                    mouth.send(frame);
                }
                mouth.send(&last);
            });
            let seen = eyes.receive_until(b"the last frame");
            for (what, passes, frame) in &cases {
                // The kernel takes a tag out of a frame before a witness sees it.
                let tagged = [[0x81, 0x00], [0x88, 0xa8]].contains(&[frame[12], frame[13]]);
                let came = seen.contains(frame);
                assert!(came == (*passes || !filtered) || tagged && !filtered, "{what}: {came}");
            }
            seen.len()
        };
        let few = send(true);
        // The same without the filter shows that nothing else held them back.
        netlink.set_spoof_filter("ng00000001", None).unwrap();
        assert!(send(false) > few);
        netlink.set_spoof_filter("ng00000001", SpoofFilter::of(&own).as_ref()).unwrap();
        send(true);
        assert!(netlink.has_exact_spoof_filter("ng00000001", &frames::spoof_filter()).unwrap());
    });
}

/// A guest that sends all the time while its host's end is being made: none of it gets through that
/// the filter would hold back.
#[test]
fn no_frame_passes_before_the_filter_is_there() {
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        let (guest, witness, own) = (Netns::new(), Netns::new(), numbered(1));
        netlink.attach(&attachment(&numbered(2), &names(2), bridge.index, &witness)).unwrap();
        let eyes = witness.run(|| {
            run("ip", "link set eth0 up");
            Packets::on("eth0")
        });
        let cases = frames::cases();
        let frame = |wanted: &str| cases.iter().find(|(what, ..)| *what == wanted).unwrap().2.clone();
        let (good, bad) = (frame("ARP request"), frame("ARP for another"));
        let (last, good) = ([&good[..], b"last"].concat(), [&good[..], b"good"].concat());
        for _ in 0..10 {
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| guest.run(|| chatter(&[&bad, &good], &last, &done)));
                netlink.attach(&attachment(&own, &names(1), bridge.index, &guest)).unwrap();
                for _ in 0..100 {
                    assert!(!eyes.receive_until(b"good").contains(&bad));
                }
                done.store(true, Ordering::Relaxed);
            });
            assert!(!eyes.receive_until(b"last").contains(&bad));
            netlink.detach("ng00000001", "ig00000001").unwrap();
        }
    });
}

/// Brings up eth0 as soon as it is there and sends `frames` over and over; an end that is down or
/// without carrier refuses them. When it is `done`, sends `last`.
fn chatter(frames: &[&[u8]], last: &[u8], done: &AtomicBool) {
    let start = Instant::now();
    while nix::net::if_::if_nametoindex("eth0").is_err() {
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    run("ip", "link set eth0 up");
    let mouth = Packets::on("eth0");
    while !done.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(10) {
        frames.iter().for_each(|frame| mouth.try_send(frame));
        std::thread::sleep(Duration::from_micros(100));
    }
    mouth.send(last);
}

#[test]
fn isolated_ports_reach_the_host_alone() {
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        let guests = [Netns::new(), Netns::new()];
        for (n, guest) in (1u8..).zip(&guests) {
            let (nic, names) = (numbered(n), names(n.into()));
            netlink
                .attach(&Attachment { isolated: true, ..attachment(&nic, &names, bridge.index, guest) })
                .unwrap();
            guest.run(|| guest_net::configure(&[nic]).unwrap());
        }
        guests[0].run(|| {
            assert!(comes_to_ping("10.9.0.1") && comes_to_ping("fd00:9::1") && !pings("10.9.0.6"));
        });
        netlink.set_port_isolated("ng00000001", false).unwrap();
        guests[0].run(|| {
            // Lest it wait for the answer to an earlier question.
            run("ip", "neigh flush all");
            assert!(comes_to_ping("10.9.0.6") && comes_to_ping("fd00:9::6"));
        });
    });
}

#[test]
fn only_our_links_are_deleted() {
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        let guest = Netns::new();
        let mut own = numbered(1);
        own.settings.egress = Some(1_000_000_000);
        netlink.attach(&attachment(&own, &names(0x0123_abcd), bridge.index, &guest)).unwrap();
        assert!(is_there("ng0123abcd") && is_there("ig0123abcd"));
        for others in [
            "link add ng00000001 type bridge",
            // What docker might call one of its own; a user's container has the same name for it.
            "link add veth0abcdef type veth peer name veth1",
            "link add ig00000003 type veth peer name veth3",
        ] {
            run("ip", others);
        }
        netlink.detach("ng0123abcd", "ig0123abcd").unwrap();
        netlink.detach("ng0123abcd", "ig0123abcd").unwrap();
        assert!(!is_there("ng0123abcd") && !is_there("ig0123abcd"));
        for (host, shaper) in
            [("ng00000001", "ig00000001"), ("veth0abcdef", "beth0abcdef"), ("ng00000003", "ig00000003")]
        {
            let refused = netlink.detach(host, shaper);
            assert!(matches!(refused, Err(NetlinkError::NotOurs { .. })), "{host}: {refused:?}");
        }
        for name in ["test0", "ng0123abc", "ng0123abcde", "ng0123ABCD", "ng", "ig0123abcd"] {
            let refused = netlink.detach(name, "ig0123abcd");
            assert!(matches!(refused, Err(NetlinkError::LinkName(_))), "{name}");
            assert!(matches!(netlink.detach("ng0123abcd", name), Err(NetlinkError::LinkName(_)) | Ok(())));
        }
        assert!(guest.run(|| !is_there("eth0")));
        assert!(is_there("veth0abcdef") && is_there("ng00000001") && is_there("ig00000003"));
        // As the first version made them.
        run("ip", "link add ng00000007 type veth peer name stray7");
        netlink.detach("ng00000007", "ig00000007").unwrap();
        assert!(!is_there("ng00000007"));
    });
}

#[test]
fn a_link_that_cannot_be_whole_is_not_there_at_all() {
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        let guest = Netns::new();
        let mut own = numbered(1);
        // The name that its shaper would have is another's.
        own.settings.egress = Some(1_000_000);
        run("ip", "link add ig00000001 type bridge");
        let refused = netlink.attach(&attachment(&own, &names(1), bridge.index, &guest));
        assert!(matches!(refused, Err(NetlinkError::NotOurs { .. })), "{refused:?}");
        assert!(!is_there("ng00000001") && is_there("ig00000001"));
        run("ip", "link del ig00000001");
        // An address that is routed to another already.
        let mut routed = numbered(2);
        routed.kind = NicKind::Routed;
        routed.ipv4 = Some("192.0.2.9/32".parse().unwrap());
        routed.settings.egress = Some(1_000_000);
        run("ip", "route add 192.0.2.9/32 dev test0");
        let refused = netlink.attach(&attachment(&routed, &names(2), 0, &guest));
        assert!(matches!(refused, Err(NetlinkError::Route { .. })), "{refused:?}");
        assert!(!is_there("ng00000002") && !is_there("ig00000002"));
        // There already.
        own.settings.egress = None;
        netlink.attach(&attachment(&own, &names(1), bridge.index, &guest)).unwrap();
        let refused = netlink.attach(&attachment(&own, &names(1), bridge.index, &Netns::new()));
        assert!(matches!(refused, Err(NetlinkError::CreateLink { .. })), "{refused:?}");
        assert!(
            is_there("ng00000001")
                && netlink.has_exact_spoof_filter("ng00000001", &SpoofFilter::of(&own).unwrap()).unwrap()
        );
        let names = names(3);
        let nowhere = Attachment { bridge: None, ..attachment(&own, &names, bridge.index, &guest) };
        let refused = netlink.attach(&nowhere).unwrap_err().to_string();
        assert_eq!(refused, "network 'lan' has no bridge that 'ng00000003' could be a port of");
    });
}

#[test]
fn a_macvlan_stands_beside_its_parent() {
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        run("ip", "link add up0 type veth peer name far0");
        let far = Netns::new();
        run("ip", "link set up0 up");
        run("ip", &format!("link set far0 netns {}", far.path()));
        far.run(|| {
            run("ip", "addr add 10.9.0.1/20 dev far0");
            run("ip", "link set far0 up");
        });
        let guest = Netns::new();
        let mut own = numbered(1);
        own.kind = NicKind::Macvlan { parent: "up0".to_owned() };
        let names = names(1);
        netlink.attach(&attachment(&own, &names, 0, &guest)).unwrap();
        assert!(!is_there("ng00000001") && !is_there("eth0"));
        guest.run(|| {
            let link = json("ip", "-j -d link show eth0");
            assert_eq!(link[0]["address"], "02:01:02:03:04:01");
            assert_eq!(link[0]["linkinfo"]["info_kind"], "macvlan");
            assert_eq!(link[0]["linkinfo"]["info_data"]["mode"], "bridge");
            guest_net::configure(std::slice::from_ref(&own)).unwrap();
            assert!(comes_to_ping("10.9.0.1"));
        });
        netlink.detach(&names.0, &names.1).unwrap();
        own.kind = NicKind::Macvlan { parent: "none0".to_owned() };
        assert!(matches!(netlink.attach(&attachment(&own, &names, 0, &guest)), Err(NetlinkError::NoLink(_))));
        let bridge = bridge(&netlink);
        run("ip", "link add port0 type veth peer name stray0");
        run("ip", "link set port0 master test0");
        own.kind = NicKind::Macvlan { parent: "port0".to_owned() };
        own.name = "eth1".to_owned();
        let refused = netlink.attach(&attachment(&own, &names, bridge.index, &guest));
        assert!(matches!(refused, Err(NetlinkError::Macvlan { .. })), "{refused:?}");
    });
}

/// Root of a user namespace may do as much in a network namespace of its own: that is how an ordinary
/// user's containers are plugged. This test runs again as a program of its own there.
#[test]
fn in_a_user_namespace_too() {
    const INSIDE: &str = "NAGAYA_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_none() {
        let module = module_path!().trim_start_matches("nagaya::");
        let output = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &format!("{module}::in_a_user_namespace_too")])
            .env(INSIDE, "1")
            .output()
            .expect("run unshare (package util-linux)");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("plugged and reached"), "{text}");
        return;
    }
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        let (guest, mut own) = (Netns::new(), numbered(1));
        (own.settings.ingress, own.settings.egress) = (Some(1_000_000_000), Some(1_000_000_000));
        netlink.attach(&attachment(&own, &names(1), bridge.index, &guest)).unwrap();
        guest.run(|| {
            guest_net::configure(std::slice::from_ref(&own)).unwrap();
            assert!(comes_to_ping("10.9.0.1") && comes_to_ping("fd00:9::1"));
        });
        assert!(netlink.has_exact_spoof_filter("ng00000001", &SpoofFilter::of(&own).unwrap()).unwrap());
        netlink.detach("ng00000001", "ig00000001").unwrap();
        assert!(!is_there("ng00000001") && !is_there("ig00000001"));
        println!("plugged and reached");
    });
}

/// What plugging costs beside a pair without anything, which is what the first version made.
#[test]
fn attaching_is_cheap() {
    const COUNT: u32 = 200;
    in_new_netns(|| {
        let netlink = Netlink::open().unwrap();
        let bridge = bridge(&netlink);
        let start = Instant::now();
        for _ in 0..1000 {
            self::bridge(&netlink);
        }
        println!("ensure_bridge, nothing to do: {:?}", start.elapsed() / 1000);
        let guests: Vec<Netns> = (0..2 * COUNT).map(|_| Netns::new()).collect();
        let mut own = numbered(1);
        let (mut bare, mut whole) = (Duration::ZERO, Duration::ZERO);
        for (n, guest) in (0..).zip(&guests) {
            own.mac = Mac::guest([1, 2, 3, (n >> 8) as u8, n as u8]);
            let names = names(n);
            let attachment = attachment(&own, &names, bridge.index, guest);
            let start = Instant::now();
            if n % 2 == 0 {
                netlink.attach(&attachment).unwrap();
                whole += start.elapsed();
            } else {
                let message =
                    RouteNetlinkMessage::NewLink(messages::bring_up(link_messages::pair(&attachment)));
                netlink.ask_one(Request::create(message)).unwrap().unwrap();
                bare += start.elapsed();
            }
        }
        println!("a bare pair, up: {:?}; plug: {:?}", bare / COUNT, whole / COUNT);
        let ports = json("ip", "-j link show master test0");
        assert_eq!(ports.as_array().unwrap().len(), 2 * COUNT as usize);
        let start = Instant::now();
        netlink.detach_all(&(0..20).map(names).collect::<Vec<_>>()).unwrap();
        println!("unplug: {:?}", start.elapsed() / 20);
        // A filter and its verification are a handful of requests, not a program.
        assert!(whole < 10 * bare, "{whole:?} {bare:?}");
    });
}
