//! dnsmasq's configuration for one network and its guests. Names are those of containers, never those that
//! guests give themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};

use serde::{Deserialize, Serialize};

use crate::model::guest_file::MARKER;
use crate::model::mac::Mac;
use crate::model::name::Name;
use crate::model::network::Network;

/// How long a guest keeps an address without asking again. Short: an address that is allotted to
/// another guest is not given out before.
const LEASE_TIME: &str = "1h";

/// One interface of one guest, as its network answers for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsLease {
    /// The container's.
    pub name: Name,
    pub mac: Mac,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// What a server runs on, besides its network.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Absolute path of its directory.
    pub dir: &'a str,
    /// The unprivileged account that it runs as.
    pub user: &'a str,
    pub group: &'a str,
    /// The resolvers that it asks for other names; none: those of the host's /etc/resolv.conf, as that
    /// changes.
    pub resolvers: &'a [IpAddr],
}

/// Names of the files and directories in a server's directory.
pub const CONFIG: &str = "conf";
pub const PID: &str = "pid";
pub const LEASES: &str = "leases";
/// A file for each guest.
pub const HOSTS: &str = "hosts";
pub const DHCP: &str = "dhcp";

/// The configuration. All of it is here: the distribution's own file is not read. Every option is
/// known to dnsmasq 2.76 (CentOS 7).
pub fn config(network: &Network, place: Place<'_>) -> String {
    let Place { dir, user, group, .. } = place;
    let mut lines = vec![
        MARKER.to_owned(),
        format!("user={user}"),
        format!("group={group}"),
        format!("pid-file={dir}/{PID}"),
        format!("interface={}", network.bridge),
        "except-interface=lo".to_owned(),
        // Sockets on the bridge's own addresses alone, for others may answer on theirs.
        "bind-dynamic".to_owned(),
        "no-hosts".to_owned(),
        format!("hostsdir={dir}/{HOSTS}"),
        "domain-needed".to_owned(),
    ];
    if place.resolvers.is_empty() {
        lines.push("resolv-file=/etc/resolv.conf".to_owned());
    } else {
        lines.push("no-resolv".to_owned());
        lines.extend(place.resolvers.iter().map(|address| format!("server={address}")));
    }
    if let Some(domain) = &network.domain {
        lines.push(format!("domain={domain}"));
        lines.push(format!("local=/{domain}/"));
        let reverse = network.ipv4.map(reverse_zones4).into_iter().flatten();
        let reverse = reverse.chain(network.ipv6.map(reverse_zones6).into_iter().flatten());
        lines.extend(reverse.map(|zone| format!("local=/{zone}/")));
    }
    lines.extend(dhcp(network, dir));
    lines.join("\n") + "\n"
}

/// Addresses are given to known guests only (`static`).
fn dhcp(network: &Network, dir: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (ipv4, ipv6) = (network.ipv4.filter(|_| network.dhcp4), network.ipv6.filter(|_| network.dhcp6));
    if ipv4.is_none() && ipv6.is_none() {
        return lines;
    }
    lines.push(format!("dhcp-leasefile={dir}/{LEASES}"));
    lines.push(format!("dhcp-hostsdir={dir}/{DHCP}"));
    for option in ["dhcp-authoritative", "dhcp-ignore-names", "dhcp-no-override", "no-ping", "quiet-dhcp"] {
        lines.push(option.to_owned());
    }
    if let Some(net) = ipv4 {
        lines.push(format!("dhcp-range={},static,{},{LEASE_TIME}", net.network(), net.mask()));
        lines.push(format!("dhcp-option=option:router,{}", net.ip()));
        lines.push(format!("dhcp-option=option:dns-server,{}", net.ip()));
        if let Some(mtu) = network.mtu {
            lines.push(format!("dhcp-option=option:mtu,{mtu}"));
        }
    }
    if let Some(net) = ipv6 {
        // Advertised as "managed": guests are to ask for their address, not to make one, which the
        // host would not let pass.
        lines.push("enable-ra".to_owned());
        lines.push("quiet-dhcp6".to_owned());
        lines.push("quiet-ra".to_owned());
        lines.push(format!("dhcp-range={},static,{},{LEASE_TIME}", net.network(), net.prefix()));
        lines.push(format!("dhcp-option=option6:dns-server,[{}]", net.ip()));
        if let Some(mtu) = network.mtu {
            lines.push(format!("ra-param={},mtu:{mtu},0", network.bridge));
        }
    }
    lines
}

/// A guest's file in [`HOSTS`]: the names of its addresses, the full one first, which is what an
/// address is called.
pub fn hosts(lease: &DnsLease, domain: Option<&str>) -> String {
    let name = &lease.name;
    let names = match domain {
        Some(domain) => format!("{name}.{domain} {name}"),
        None => name.to_string(),
    };
    addresses(lease).map(|address| format!("{address} {names}\n")).collect()
}

/// A guest's file in [`DHCP`].
pub fn dhcp_host(lease: &DnsLease) -> String {
    let addresses: String = addresses(lease)
        .map(|address| match address {
            IpAddr::V4(address) => format!(",{address}"),
            IpAddr::V6(address) => format!(",[{address}]"),
        })
        .collect();
    format!("{}{addresses},{}\n", lease.mac, lease.name)
}

fn addresses(lease: &DnsLease) -> impl Iterator<Item = IpAddr> {
    lease.ipv4.map(IpAddr::V4).into_iter().chain(lease.ipv6.map(IpAddr::V6))
}

/// A guest's file is called by its interface: one guest may have several on a network.
pub fn file_name(lease: &DnsLease) -> String {
    lease.mac.to_string().replace(':', "-")
}

/// The lines of a lease file without those of guests that are gone, or whose address is another's
/// now: dnsmasq would hold it back for the former one until the lease is over.
pub fn current_leases(file: &str, leases: &[DnsLease]) -> String {
    let is_kept = |words: &[&str]| match (words, words.get(2).and_then(|word| word.parse().ok())) {
        ([_, mac, ..], Some(IpAddr::V4(address))) => {
            leases.iter().any(|lease| lease.ipv4 == Some(address) && lease.mac.to_string() == *mac)
        }
        // Here the second word is a number of the guest's own.
        ([_, _, _, name, ..], Some(IpAddr::V6(address))) => {
            leases.iter().any(|lease| lease.ipv6 == Some(address) && lease.name.as_str() == *name)
        }
        _ => true,
    };
    let kept = file.lines().filter(|line| is_kept(&line.split(' ').collect::<Vec<_>>()));
    kept.map(|line| format!("{line}\n")).collect()
}

/// The zones of in-addr.arpa that hold the subnet's addresses and no others, as few as can be.
fn reverse_zones4(net: Ipv4Network) -> Vec<String> {
    let octets = usize::from(net.prefix()).div_ceil(8).max(1);
    let zones = 1u32 << (octets * 8 - usize::from(net.prefix()));
    let step = 1u32 << (32 - octets * 8);
    let zone = |n: u32| {
        let address = Ipv4Addr::from(u32::from(net.network()) + n * step).octets();
        let labels = address[..octets].iter().rev().map(u8::to_string).collect::<Vec<_>>();
        format!("{}.in-addr.arpa", labels.join("."))
    };
    (0..zones).map(zone).collect()
}

/// The same of ip6.arpa.
fn reverse_zones6(net: Ipv6Network) -> Vec<String> {
    let nibbles = usize::from(net.prefix()).div_ceil(4).max(1);
    let zones = 1u128 << (nibbles * 4 - usize::from(net.prefix()));
    let shift = 128 - nibbles * 4;
    let zone = |n: u128| {
        let address = (u128::from(net.network()) >> shift) + n;
        let labels = (0..nibbles).map(|n| format!("{:x}", address >> (4 * n) & 0xf)).collect::<Vec<_>>();
        format!("{}.ip6.arpa", labels.join("."))
    };
    (0..zones).map(zone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let (ipv4, ipv6) = ("10.77.16.1/20".parse().unwrap(), "fd00:77::1/64".parse().unwrap());
        let mut network = Network::new("lan", "nagaya0", Some(ipv4), Some(ipv6));
        (network.dhcp4, network.dhcp6) = (true, true);
        network.domain = Some("lan.example".to_owned());
        network
    }

    fn lease(name: &str, last: u8) -> DnsLease {
        DnsLease {
            name: Name::new(name).unwrap(),
            mac: Mac::guest([0, 0, 0, 0, last]),
            ipv4: Some(Ipv4Addr::new(10, 77, 16, last)),
            ipv6: Some(format!("fd00:77::{last:x}").parse().unwrap()),
        }
    }

    fn place() -> Place<'static> {
        Place { dir: "/run/nagaya-hostd/dns/nagaya0", user: "dnsmasq", group: "nogroup", resolvers: &[] }
    }

    #[test]
    fn files_are_the_golden_ones() {
        let mut small = Network::new("dmz", "dmz", Some("192.0.2.1/30".parse().unwrap()), None);
        small.dhcp4 = true;
        small.mtu = Some(1400);
        let mut names_only = network();
        (names_only.dhcp4, names_only.dhcp6) = (false, false);
        let asks = Place { resolvers: &[IpAddr::V4(Ipv4Addr::new(169, 254, 53, 53))], ..place() };
        let text = format!(
            "######## both families\n{}\n######## IPv4 without a domain\n{}\n######## names only\n{}\n\
             ######## a guest\n{}{}{}",
            config(&network(), place()),
            config(&small, asks),
            config(&names_only, place()),
            hosts(&lease("web01", 2), Some("lan.example")),
            hosts(&lease("web01", 2), None),
            dhcp_host(&lease("web01", 2)),
        );
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/dnsmasq.txt"].raw());
    }

    #[test]
    fn reverse_zones_cover_the_subnet_alone() {
        let zones4 = |text: &str| reverse_zones4(text.parse().unwrap());
        assert_eq!(zones4("10.0.0.1/8"), ["10.in-addr.arpa"]);
        assert_eq!(zones4("10.1.2.1/24"), ["2.1.10.in-addr.arpa"]);
        assert_eq!(zones4("10.1.2.1/23"), ["2.1.10.in-addr.arpa", "3.1.10.in-addr.arpa"]);
        assert_eq!(zones4("10.1.2.5/30").len(), 4);
        assert_eq!(zones4("10.1.2.5/30")[3], "7.2.1.10.in-addr.arpa");
        let zones6 = |text: &str| reverse_zones6(text.parse().unwrap());
        assert_eq!(zones6("fd00:1:2:3::1/64"), ["3.0.0.0.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa"]);
        assert_eq!(zones6("fd00:1:2::1/50").len(), 4);
        assert_eq!(zones6("fd00:1:2::1/50")[3], "3.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa");
    }

    #[test]
    fn leases_of_those_who_are_gone_are_left_out() {
        let file = "1799 02:00:00:00:00:02 10.77.16.2 web01 01:02\n\
                    1799 02:00:00:00:00:03 10.77.16.3 * *\n\
                    1799 02:00:00:00:00:04 10.77.16.4 other *\n\
                    duid 00:01:00:01\n\
                    1799 77 fd00:77::2 web01 00:01\n\
                    1799 78 fd00:77::3 before 00:01\n";
        let mut moved = lease("db", 4);
        moved.mac = Mac::guest([9, 9, 9, 9, 9]);
        let kept = current_leases(file, &[lease("web01", 2), lease("now", 3), moved]);
        assert_eq!(
            kept,
            "1799 02:00:00:00:00:02 10.77.16.2 web01 01:02\n\
             1799 02:00:00:00:00:03 10.77.16.3 * *\n\
             duid 00:01:00:01\n\
             1799 77 fd00:77::2 web01 00:01\n"
        );
        assert_eq!(current_leases("", &[]), "");
    }
}
