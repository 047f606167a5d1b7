//! Rate limits of a link.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::ownership::{LINK_GROUP, ours};
use crate::model::instance::is_shaper_link;
use crate::sys::net::netlink::channel::{Reply, Request, but};
use crate::sys::net::netlink::link::{Link, found};
use crate::sys::net::netlink::steps::{Step, clsact_step, is_unknown};
use crate::sys::net::netlink::{Netlink, NetlinkError, messages};
use crate::sys::net::tc;

const WHAT: &str = "limit the rate of";

/// Bits in a second to the guest and from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub ingress: Option<u64>,
    pub egress: Option<u64>,
}

impl Rates {
    /// The steps that set the limits. To the guest, the host's end sends no faster than the limit. From the
    /// guest, frames first go to a device that lets them in no faster, and from there to the bridge.
    pub fn steps(self, host: &Link, shaper: Option<u32>) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(bits) = self.ingress {
            let bucket = tc::bucket(host.index, bits, host.mtu);
            steps.push(Step::new(WHAT, tc::INGRESS_MODULES, Request::put(bucket)));
        }
        if let (Some(bits), Some(shaper)) = (self.egress, shaper) {
            let limit = |request| Step::new(WHAT, tc::EGRESS_MODULES, request);
            steps.push(limit(Request::put(tc::bucket(shaper, bits, host.mtu))));
            steps.push(limit(Request::on(messages::up(shaper))));
            steps.push(clsact_step(host.index));
            steps.push(limit(Request::put(tc::redirect(host.index, shaper))));
        }
        steps
    }

    /// The steps that remove limits that are not wanted; the device for frames from the guest is not used
    /// any more then.
    fn lifting_steps(self, host: &Link, shaper: Option<u32>) -> Vec<Step> {
        let lift = |message: RouteNetlinkMessage| {
            let mut step = Step::new("lift the rate limit of", "", Request::on(message));
            step.fine = &[libc::ENOENT, libc::EINVAL, libc::ENODEV];
            step
        };
        let mut steps = Vec::new();
        if self.ingress.is_none() {
            steps.push(lift(tc::no_bucket(host.index)));
        }
        if self.egress.is_none() {
            steps.push(lift(tc::no_redirect(host.index)));
            steps.extend(shaper.map(|shaper| lift(messages::delete_link(shaper))));
        }
        steps
    }
}

impl Netlink {
    /// Sets bits in a second to the guest (`ingress`) and from it (`egress`); `None` lifts a limit.
    ///
    /// # Errors
    /// There is no such link, or the kernel refuses; then some of it may have been done.
    pub fn set_rates(
        &self,
        host_name: &str,
        shaper_name: &str,
        ingress: Option<u64>,
        egress: Option<u64>,
    ) -> Result<(), NetlinkError> {
        if !is_shaper_link(shaper_name) {
            return Err(NetlinkError::LinkName(shaper_name.to_owned()));
        }
        let host = self.our_host_link(host_name)?;
        let shaper = match egress {
            Some(_) => Some(self.ensure_shaper(shaper_name)?),
            None => self.shaper(shaper_name)?,
        };
        let rates = Rates { ingress, egress };
        let mut steps = rates.steps(&host, shaper);
        steps.extend(rates.lifting_steps(&host, shaper));
        self.run(host_name, steps)
    }

    fn ensure_shaper(&self, name: &str) -> Result<u32, NetlinkError> {
        let make = Request::create(RouteNetlinkMessage::NewLink(shaper(name)));
        let mut replies = self.ask(vec![make, Request::on(messages::link_named(name))])?.into_iter();
        let mut next = || replies.next().unwrap_or_else(|| Ok(Vec::new()));
        shaper_index(name, next(), next())
    }

    fn shaper(&self, name: &str) -> Result<Option<u32>, NetlinkError> {
        let there = found(name, self.ask_one(Request::on(messages::link_named(name)))?)?;
        there.map(|link| ours(name, link, &InfoKind::Ifb).map(|link| link.index)).transpose()
    }
}

/// The index of a shaper, which may be left from an earlier link of that name.
pub fn shaper_index(name: &str, made: Reply, looked_up: Reply) -> Result<u32, NetlinkError> {
    but(made, &[libc::EEXIST]).map_err(|source| match is_unknown(&source) {
        true => NetlinkError::Lacks { name: name.to_owned(), what: "create", modules: "ifb" },
        false => NetlinkError::CreateLink { name: name.to_owned(), source },
    })?;
    let link = found(name, looked_up)?.ok_or_else(|| NetlinkError::NoLink(name.to_owned()))?;
    Ok(ours(name, link, &InfoKind::Ifb)?.index)
}

pub fn shaper(name: &str) -> LinkMessage {
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Ifb)
        .name(name)
        .append_extra_attribute(LinkAttribute::Group(LINK_GROUP))
        .build()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::model::network::Network;
    use crate::model::nic::Nic;
    use crate::render::spoof::frames;
    use crate::sys::net::guest_net;
    use crate::sys::net::netns_fixture::{Netns, attachment, comes_to_ping, in_new_netns, names, nic, run};
    use crate::sys::net::packet_fixture::Packets;

    fn own() -> Nic {
        let mut nic = nic("eth0", 1);
        nic.ipv4 = Some("10.9.0.5/20".parse().unwrap());
        nic.gateway4 = Some("10.9.0.1".parse().unwrap());
        nic.ipv6 = Some("fd00:9::5/64".parse().unwrap());
        nic
    }

    fn attached(nic: &Nic, guest: &Netns) -> Netlink {
        let netlink = Netlink::open().unwrap();
        let network = Network::new("lan", "test0", Some("10.9.0.1/20".parse().unwrap()), None);
        let bridge = netlink.ensure_bridge(&network, "nagaya lan").unwrap();
        netlink.attach(&attachment(nic, &names(1), bridge.index, guest)).unwrap();
        guest.run(|| guest_net::configure(std::slice::from_ref(nic)).unwrap());
        guest.run(|| assert!(comes_to_ping("10.9.0.1")));
        netlink
    }

    const SETTLING: Duration = Duration::from_millis(500);
    const MEASURING: Duration = Duration::from_millis(2000);

    /// Bits in a second that pass from where `dial` runs to where the listener was made. What is sent in the
    /// beginning, when the bucket is full, does not count.
    fn passing(listener: TcpListener, dial: impl FnOnce() -> TcpStream + Send) -> f64 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = dial();
                let data = vec![7; 64 << 10];
                // Until the other has enough and closes.
                while stream.write_all(&data).is_ok() {}
            });
            let mut stream = listener.accept().unwrap().0;
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let (start, mut buffer, mut bytes) = (Instant::now(), vec![0; 256 << 10], 0);
            while start.elapsed() < SETTLING {
                assert!(read(&mut stream, &mut buffer) > 0);
            }
            let start = Instant::now();
            while start.elapsed() < MEASURING {
                bytes += read(&mut stream, &mut buffer);
            }
            // A segment of 1448 bytes is a frame of 1514.
            bytes as f64 * 8.0 * 1514.0 / 1448.0 / start.elapsed().as_secs_f64()
        })
    }

    /// Signals are other tests' business.
    fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
        loop {
            match stream.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other.unwrap(),
            }
        }
    }

    fn to_guest(guest: &Netns) -> f64 {
        let listener = guest.run(|| TcpListener::bind("10.9.0.5:7000").unwrap());
        passing(listener, || TcpStream::connect("10.9.0.5:7000").unwrap())
    }

    fn from_guest(guest: &Netns) -> f64 {
        let listener = TcpListener::bind("10.9.0.1:7000").unwrap();
        let dial = || guest.run(|| TcpStream::connect("10.9.0.1:7000").unwrap());
        passing(listener, dial)
    }

    /// Never more than the limit, and as much in one of a few tries: a machine that has something else to
    /// do may be slower.
    fn holds(measure: impl Fn() -> f64, limit: f64) -> bool {
        const TRIES: u32 = 4;
        (0..TRIES).any(|_| {
            let measured = measure();
            println!("{:.2} Mbit/s where the limit is {:.0}", measured / 1e6, limit / 1e6);
            assert!(measured <= 1.15 * limit, "{measured} where the limit is {limit}");
            measured >= 0.85 * limit
        })
    }

    #[test]
    fn rates_hold_both_ways_and_can_be_changed() {
        in_new_netns(|| {
            let (guest, mut nic) = (Netns::new(), own());
            (nic.settings.ingress, nic.settings.egress) = (Some(50_000_000), Some(5_000_000));
            let netlink = attached(&nic, &guest);
            assert!(holds(|| to_guest(&guest), 50e6));
            assert!(holds(|| from_guest(&guest), 5e6));
            let set =
                |ingress, egress| netlink.set_rates("ng00000001", "ig00000001", ingress, egress).unwrap();
            set(Some(4_000_000), Some(100_000_000));
            assert!(holds(|| to_guest(&guest), 4e6));
            assert!(holds(|| from_guest(&guest), 100e6));
            set(None, None);
            let (free_in, free_out) = (to_guest(&guest), from_guest(&guest));
            println!("unlimited: {:.0} Mbit/s to the guest, {:.0} from it", free_in / 1e6, free_out / 1e6);
            assert!(free_in > 150e6 && free_out > 150e6);
            assert!(!run("ip", "-br link").contains("ig00000001"));
            assert!(!run("tc", "qdisc show dev ng00000001").contains("tbf"));
            assert!(netlink.has_exact_spoof_filter("ng00000001", &frames::spoof_filter()).unwrap());
            set(None, Some(20_000_000));
            assert!(holds(|| from_guest(&guest), 20e6));
        });
    }

    #[test]
    fn what_the_guest_may_not_send_is_dropped_before_it_waits() {
        in_new_netns(|| {
            let (guest, mut nic) = (Netns::new(), own());
            nic.settings.egress = Some(10_000_000);
            let netlink = attached(&nic, &guest);
            let eyes = Packets::on("ig00000001");
            let cases = frames::cases();
            guest.run(|| {
                let mouth = Packets::on("eth0");
                cases.iter().for_each(|(_, _, frame)| mouth.send(frame));
                mouth.send(&[&cases[0].2[..], b"the last frame"].concat());
            });
            let seen = eyes.receive_until(b"the last frame");
            for (what, passes, frame) in &cases {
                assert_eq!(seen.contains(frame), *passes, "{what}");
            }
            netlink.detach("ng00000001", "ig00000001").unwrap();
            assert!(!run("ip", "-br link").contains("g00000001"));
        });
    }

    #[test]
    fn large_packets_pass_a_slow_link() {
        in_new_netns(|| {
            let (guest, mut nic) = (Netns::new(), own());
            nic.settings.mtu = Some(65_535);
            (nic.settings.ingress, nic.settings.egress) = (Some(8_000_000), Some(8_000_000));
            attached(&nic, &guest);
            run("ip", "link set test0 mtu 65535");
            guest.run(|| run("ping", "-n -c1 -W2 -M do -s 65000 10.9.0.1"));
        });
    }

    #[test]
    fn limits_of_what_is_not_there_are_refused() {
        in_new_netns(|| {
            let netlink = Netlink::open().unwrap();
            let set = |host, shaper| netlink.set_rates(host, shaper, Some(1_000_000), Some(1_000_000));
            assert!(matches!(set("ng00000001", "ig00000001"), Err(NetlinkError::NoLink(_))));
            assert!(matches!(set("eth0", "ig00000001"), Err(NetlinkError::LinkName(_))));
            assert!(matches!(set("ng00000001", "eth0"), Err(NetlinkError::LinkName(_))));
            assert!(!run("ip", "-br link").contains("ig00000001"));
        });
    }
}
