//! Kernel settings below /proc/sys/net, which show those of the calling thread's network
//! namespace.

use std::io;
use std::path::Path;

/// A kernel setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    #[error("cannot read {path}")]
    Read { path: String, source: io::Error },
    #[error("cannot write {value} to {path}")]
    Write { path: String, value: &'static str, source: io::Error },
}

const IPV6: &str = "/proc/sys/net/ipv6";

/// Settings that keep the host from accepting router advertisements of guests on a bridge (they would move
/// the host's IPv6 default route into a guest) and redirects. Duplicate address detection is off because a
/// bridge without ports has no carrier, and the address would stay tentative.
const BRIDGE_IPV6: [(&str, &str); 4] =
    [("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0"), ("accept_dad", "0")];

/// The same for the host's end of a routed link, and forwarding of its packets.
const ROUTED_IPV6: [(&str, &str); 4] =
    [("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0"), ("forwarding", "1")];

/// Settings in which a new network namespace differs from a machine. Nobody may open ping sockets:
/// systemd's own setting for that covers more ids than a container has. It forwards where the host does.
/// Senders to a busy datagram socket, such as the journal's, have to wait sooner: systemd raises that limit
/// only on a machine.
const OF_A_MACHINE: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/ping_group_range", "0 65535"),
    ("/proc/sys/net/ipv4/ip_forward", "0"),
    ("/proc/sys/net/unix/max_dgram_qlen", "512"),
];

/// Whether the kernel has IPv6.
pub fn has_ipv6() -> bool {
    Path::new(IPV6).exists()
}

/// Whether packets between ports of a bridge pass the host's IP rules, as the module br_netfilter has it.
pub fn bridged_packets_meet_rules() -> bool {
    let is_on = |file: &str| read(&format!("/proc/sys/net/bridge/{file}")).is_ok_and(|value| value == "1");
    is_on("bridge-nf-call-iptables") || is_on("bridge-nf-call-ip6tables")
}

/// Whether the host forwards IPv4, or IPv6, which a host without it does not.
pub fn forwards(v4: bool) -> Result<bool, SysctlError> {
    match v4 {
        true => Ok(read("/proc/sys/net/ipv4/ip_forward")? == "1"),
        false => Ok(has_ipv6() && read(&format!("{IPV6}/conf/all/forwarding"))? == "1"),
    }
}

/// Lets the host forward IPv4 and, if that is wanted, IPv6. Tells whether it did not before.
///
/// A link that forwards IPv6 ignores routers unless its `accept_ra` is 2, and loses the routes that it has
/// from one. So links that listen to routers are first set to go on, and so are links that come later.
pub fn enable_forwarding(ipv6: bool) -> Result<bool, SysctlError> {
    let ipv4 = set("/proc/sys/net/ipv4/ip_forward", "1")?;
    let all = format!("{IPV6}/conf/all/forwarding");
    if !ipv6 || read(&all)? == "1" {
        return Ok(ipv4);
    }
    keep_hearing_routers()?;
    set(&all, "1")
}

/// Switches forwarding of one family off. Interfaces go on listening to routers where [`enable_forwarding`]
/// has set them to.
pub fn disable_forwarding(v4: bool) -> Result<(), SysctlError> {
    match v4 {
        true => set("/proc/sys/net/ipv4/ip_forward", "0")?,
        false => set(&format!("{IPV6}/conf/all/forwarding"), "0")?,
    };
    Ok(())
}

fn keep_hearing_routers() -> Result<(), SysctlError> {
    let dir = format!("{IPV6}/conf");
    let failed = |source| SysctlError::Read { path: dir.clone(), source };
    for entry in std::fs::read_dir(&dir).map_err(failed)? {
        let link = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let hears = || Ok((read(&of_link(&link, "accept_ra"))?, read(&of_link(&link, "forwarding"))?));
        match hears() {
            Ok((accept, forwards)) if link != "all" && accept == "1" && forwards == "0" => {
                set(&of_link(&link, "accept_ra"), "2")?;
            }
            Ok(_) => {}
            // A link that has gone meanwhile.
            Err(SysctlError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sets what a bridge must have before it is brought up. A host without IPv6 has nothing to set
/// for it; one that has it switched off for new links gets it where the network needs it. The caller has
/// checked that `bridge` is an interface name.
pub fn harden_bridge(bridge: &str, ipv6: bool) -> Result<(), SysctlError> {
    set(&format!("/proc/sys/net/ipv4/conf/{bridge}/accept_redirects"), "0")?;
    if has_ipv6() {
        set_all(bridge, &BRIDGE_IPV6)?;
        if ipv6 {
            set_all(bridge, &[("disable_ipv6", "0")])?;
        }
    }
    Ok(())
}

/// Forwards packets that come in by a bridge, whatever was set for that bridge alone.
pub fn forward_from(bridge: &str, ipv6: bool) -> Result<(), SysctlError> {
    set(&format!("/proc/sys/net/ipv4/conf/{bridge}/forwarding"), "1")?;
    match ipv6 && has_ipv6() {
        true => set_all(bridge, &[("forwarding", "1")]),
        false => Ok(()),
    }
}

/// Sets what the host's end of a routed link must have.
pub fn harden_routed(link: &str) -> Result<(), SysctlError> {
    set(&format!("/proc/sys/net/ipv4/conf/{link}/accept_redirects"), "0")?;
    set(&format!("/proc/sys/net/ipv4/conf/{link}/forwarding"), "1")?;
    match has_ipv6() {
        true => set_all(link, &ROUTED_IPV6),
        false => Ok(()),
    }
}

/// Keeps a guest's interface, whose IPv6 address is given to it, from making itself another out of a
/// router's advertisement.
pub fn ignore_routers(link: &str) -> Result<(), SysctlError> {
    match has_ipv6() {
        true => set_all(link, &[("accept_ra", "0"), ("autoconf", "0")]),
        false => Ok(()),
    }
}

/// Makes this network namespace begin as a machine's does, where the kernel lets it.
pub fn as_on_a_machine() {
    for (path, value) in OF_A_MACHINE {
        if let Err(error) = std::fs::write(path, value) {
            tracing::debug!("cannot write {value} to {path}: {error}");
        }
    }
}

/// Lets the host answer neighbour solicitations for addresses of others on a link.
pub fn enable_proxy_ndp(link: &str) -> Result<(), SysctlError> {
    set_all(link, &[("proxy_ndp", "1")])
}

fn set_all(link: &str, values: &[(&str, &'static str)]) -> Result<(), SysctlError> {
    for (key, value) in values {
        set(&of_link(link, key), value)?;
    }
    Ok(())
}

fn of_link(link: &str, key: &str) -> String {
    format!("{IPV6}/conf/{link}/{key}")
}

fn read(path: &str) -> Result<String, SysctlError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| SysctlError::Read { path: path.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

/// Writes only what differs: where /proc/sys is read-only, a host set up by its administrator
/// still works.
fn set(path: &str, value: &'static str) -> Result<bool, SysctlError> {
    let found = read(path)?;
    if found == value {
        return Ok(false);
    }
    std::fs::write(path, value).map_err(|source| SysctlError::Write {
        path: path.to_owned(),
        value,
        source,
    })?;
    tracing::debug!(path, value, was = found, "kernel setting changed");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::model::mac::Mac;
    use crate::sys::net::netns_fixture::{in_new_netns, json, run};
    use crate::sys::net::packet_fixture::Packets;

    #[test]
    fn forwarding_is_written_once() {
        in_new_netns(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
            assert!(enable_forwarding(false).unwrap());
            assert_eq!(read("/proc/sys/net/ipv4/ip_forward").unwrap(), "1");
            assert!(!enable_forwarding(false).unwrap());
            assert_eq!(read("/proc/sys/net/ipv6/conf/all/forwarding").unwrap(), "0");
            assert!(enable_forwarding(true).unwrap());
            assert_eq!(read("/proc/sys/net/ipv6/conf/all/forwarding").unwrap(), "1");
            assert!(!enable_forwarding(true).unwrap());
        });
    }

    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A router's advertisement of itself for so many seconds (RFC 4861, 4.2).
    fn advertisement(seconds: u16) -> Vec<u8> {
        let source = ROUTER.link_local().octets();
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
        let mut message = [&[134, 0, 0, 0, 64, 0][..], &seconds.to_be_bytes(), &[0; 8]].concat();
        let pseudo = [&source[..], &all_nodes, &[0, 0, 0, 16, 0, 0, 0, 58], &message].concat();
        let sum = pseudo.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum::<u32>();
        let folded = !(((sum & 0xffff) + (sum >> 16)) as u16);
        message[2..4].copy_from_slice(&folded.to_be_bytes());
        let head = [&[0x60, 0, 0, 0, 0, 16, 58, 255][..], &source, &all_nodes].concat();
        let ethernet = [&[0x33, 0x33, 0, 0, 0, 1][..], &ROUTER.0, &[0x86, 0xdd]].concat();
        [ethernet, head, message].concat()
    }

    /// Seconds that the default route by the router is still good for.
    fn route() -> Option<u64> {
        let routes = json("ip", "-j -6 route show default");
        routes.as_array().unwrap().first().map(|route| route["expires"].as_u64().unwrap())
    }

    /// A host that has heard its router once; in it `then` is done, given a way to let the router speak.
    fn beside_a_router(then: impl FnOnce(&dyn Fn(u16)) + Send) {
        in_new_netns(|| {
            run("ip", "link set lo up");
            run("ip", "link add up0 type veth peer name router0");
            run("ip", "link set up0 up");
            run("ip", "link set router0 up");
            // One namespace for both is enough: frames are all that the router's end sends.
            let mouth = Packets::on("router0");
            let speak = |seconds| mouth.send(&advertisement(seconds));
            let start = Instant::now();
            while route().is_none() {
                assert!(start.elapsed() < Duration::from_secs(5), "no route by the router");
                speak(100);
                std::thread::sleep(Duration::from_millis(50));
            }
            then(&speak);
        });
    }

    #[test]
    fn a_route_that_a_router_gave_outlives_forwarding_and_is_renewed() {
        beside_a_router(|speak| {
            assert!(route().unwrap() <= 100);
            enable_forwarding(true).unwrap();
            assert!(route().is_some());
            speak(1800);
            std::thread::sleep(Duration::from_millis(100));
            assert!(route().unwrap() > 1000, "{:?}", route());
            assert_eq!(read("/proc/sys/net/ipv6/conf/up0/accept_ra").unwrap(), "2");
            // So does a link that comes later, but not ours.
            run("ip", "link add later0 type bridge");
            assert_eq!(read("/proc/sys/net/ipv6/conf/later0/accept_ra").unwrap(), "2");
            harden_bridge("later0", true).unwrap();
            assert_eq!(read("/proc/sys/net/ipv6/conf/later0/accept_ra").unwrap(), "0");
        });
        // What would be without: this is why.
        beside_a_router(|_| {
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            assert_eq!(route(), None);
        });
    }

    #[test]
    fn a_missing_setting_is_named() {
        let error = set("/proc/sys/net/ipv4/no_such_key", "1").unwrap_err();
        assert_eq!(error.to_string(), "cannot read /proc/sys/net/ipv4/no_such_key");
    }
}
