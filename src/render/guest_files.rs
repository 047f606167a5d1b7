//! The files by which a guest's own tools agree with what was set from outside: they find the
//! address in place, keep it, and set it again if somebody takes it away.

use std::net::IpAddr;

use crate::model::guest_file::{GuestFile, MARKER, When};
use crate::model::lan::Lease;
use crate::model::name::Name;
use crate::model::template::NetworkStyle;

/// What libc reads at most (MAXNS of resolv.h).
const MAX_RESOLVERS: usize = 3;

/// All files of a guest that has one interface, `eth0`.
pub fn guest_files(
    style: NetworkStyle,
    hostname: &Name,
    lease: &Lease,
    resolvers: &[IpAddr],
) -> Vec<GuestFile> {
    let interface = match style {
        NetworkStyle::Networkd => Some(file(
            "/etc/systemd/network/05-nagaya-eth0.network",
            networkd(lease, resolvers),
            When::Always,
        )),
        NetworkStyle::Ifupdown => {
            Some(file("/etc/network/interfaces", ifupdown(lease, resolvers), When::Always))
        }
        NetworkStyle::None => None,
    };
    let common = [
        file("/etc/hostname", format!("{hostname}\n"), When::Always),
        file("/etc/hosts", hosts(hostname), When::IfMissingOrOurs),
        file("/etc/resolv.conf", resolv_conf(resolvers), When::UnlessLink),
    ];
    interface.into_iter().chain(common).collect()
}

/// The resolvers that a guest can use: those of `/etc/resolv.conf`, and where only stubs on the
/// host's loopback stand there, those of systemd-resolved's own
/// `/run/systemd/resolve/resolv.conf`. At most 3, IPv4 first: guests have no IPv6 yet. Lines that
/// are not exactly a resolver are left out; so is an address with a zone (`fe80::1%eth0`), which
/// means something on the host's link only.
pub fn resolvers(resolv_conf: &str, systemd_resolved_conf: Option<&str>) -> Vec<IpAddr> {
    let mut found = usable(resolv_conf);
    if found.is_empty() {
        found = systemd_resolved_conf.map(usable).unwrap_or_default();
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found.truncate(MAX_RESOLVERS);
    found
}

fn usable(resolv_conf: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some("nameserver"), Some(address), None) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Ok(address) = address.parse::<IpAddr>().map(|address| address.to_canonical()) else {
            continue;
        };
        let link_local = match address {
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        let elsewhere = !(address.is_loopback() || address.is_unspecified() || address.is_multicast());
        if elsewhere && !link_local && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

fn file(path: &str, content: String, when: When) -> GuestFile {
    GuestFile { path: path.to_owned(), content, mode: 0o644, when }
}

/// Keys unknown to an old systemd are ignored by it with a warning; all of these are known to
/// 247. `KeepConfiguration=static` spares the address and the route that are there when networkd
/// starts or stops. Without router advertisements and DHCP nothing but the link-local address is
/// left to wait for, so the link is soon "configured", which is what wait-online waits for.
fn networkd(lease: &Lease, resolvers: &[IpAddr]) -> String {
    let dns: String = resolvers.iter().map(|address| format!("DNS={address}\n")).collect();
    format!(
        "{MARKER}\n\
         [Match]\n\
         Name=eth0\n\
         \n\
         [Link]\n\
         RequiredForOnline=yes\n\
         \n\
         [Network]\n\
         Address={}\n\
         Gateway={}\n\
         {dns}\
         DHCP=no\n\
         IPv6AcceptRA=no\n\
         LinkLocalAddressing=no\n\
         KeepConfiguration=static\n",
        lease.ipv4, lease.gateway
    )
}

/// ifup adds the address with `ip addr add`, which fails where it is there already, and the whole
/// service with it; so the address set from outside goes first.
fn ifupdown(lease: &Lease, resolvers: &[IpAddr]) -> String {
    let dns = match join(resolvers) {
        list if list.is_empty() => String::new(),
        list => format!("    # resolvers, used where resolvconf is installed\n    dns-nameservers {list}\n"),
    };
    format!(
        "{MARKER}\n\
         auto lo\n\
         iface lo inet loopback\n\
         \n\
         auto eth0\n\
         iface eth0 inet static\n    \
             pre-up ip -4 addr flush dev eth0\n    \
             address {}\n    \
             netmask {}\n    \
             gateway {}\n\
         {dns}",
        lease.ipv4.ip(),
        lease.ipv4.mask(),
        lease.gateway
    )
}

fn hosts(hostname: &Name) -> String {
    format!(
        "{MARKER}\n\
         127.0.0.1 localhost\n\
         127.0.1.1 {hostname}\n\
         ::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\n\
         ff02::2 ip6-allrouters\n"
    )
}

fn resolv_conf(resolvers: &[IpAddr]) -> String {
    let lines: String = resolvers.iter().map(|address| format!("nameserver {address}\n")).collect();
    format!("{MARKER}\n{lines}")
}

fn join(resolvers: &[IpAddr]) -> String {
    resolvers.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mac::Mac;

    fn rendered(style: NetworkStyle, resolvers: &[&str]) -> String {
        let lease = Lease {
            bridge: "test0".into(),
            mac: Mac::guest([1, 2, 3, 4, 5]),
            ipv4: "10.77.16.2/20".parse().unwrap(),
            gateway: "10.77.16.1".parse().unwrap(),
        };
        let resolvers: Vec<IpAddr> = resolvers.iter().map(|text| text.parse().unwrap()).collect();
        guest_files(style, &Name::new("web01").unwrap(), &lease, &resolvers)
            .iter()
            .map(|file| format!("== {} {:o} {:?}\n{}\n", file.path, file.mode, file.when, file.content))
            .collect()
    }

    #[test]
    fn files_are_the_golden_ones() {
        snapbox::assert_data_eq!(
            rendered(NetworkStyle::Networkd, &["192.0.2.53", "2001:db8::53"]),
            snapbox::file!["../../tests/golden/guest-networkd.txt"].raw()
        );
        snapbox::assert_data_eq!(
            rendered(NetworkStyle::Ifupdown, &["192.0.2.53", "2001:db8::53"]),
            snapbox::file!["../../tests/golden/guest-ifupdown.txt"].raw()
        );
    }

    #[test]
    fn a_guest_without_resolvers_or_a_known_style_gets_none() {
        let text = rendered(NetworkStyle::Ifupdown, &[]);
        assert!(!text.contains("dns-nameservers") && !text.contains("nameserver"), "{text}");
        let text = rendered(NetworkStyle::None, &[]);
        assert!(!text.contains("eth0") && text.contains("/etc/hostname"), "{text}");
    }

    fn found(resolv_conf: &str, resolved: Option<&str>) -> Vec<String> {
        resolvers(resolv_conf, resolved).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn resolvers_are_parsed_strictly() {
        let text = "# nameserver 192.0.2.1\n\
                    ;nameserver 192.0.2.2\n\
                    nameserver 192.0.2.3 # home\n\
                    nameserver 192.0.2.4.5\n\
                    nameserver 0300.0.2.5\n\
                    nameserver fe80::1%eth0\n\
                    nameserver fe80::1\n\
                    nameserver 0.0.0.0\n\
                    nameserver ::ffff:127.0.0.1\n\
                    Nameserver 192.0.2.6\n\
                    nameserver\t192.0.2.7 \n\
                    search example.org\n\
                    nameserver 192.0.2.7\n\
                    nameserver 2001:db8::1\n";
        assert_eq!(found(text, None), ["192.0.2.7", "2001:db8::1"]);
    }

    #[test]
    fn at_most_three_resolvers_and_ipv4_before_ipv6() {
        let text = "nameserver 2001:db8::1\nnameserver 2001:db8::2\nnameserver 2001:db8::3\n\
                    nameserver 192.0.2.1\n";
        assert_eq!(found(text, None), ["192.0.2.1", "2001:db8::1", "2001:db8::2"]);
    }

    #[test]
    fn a_stub_gives_way_to_what_stands_behind_it() {
        let behind = Some("nameserver 192.0.2.9\n");
        assert_eq!(found("nameserver 127.0.0.53\noptions edns0\n", behind), ["192.0.2.9"]);
        assert_eq!(found("nameserver ::1\n", behind), ["192.0.2.9"]);
        assert_eq!(found("nameserver 192.0.2.1\n", behind), ["192.0.2.1"]);
        assert!(found("nameserver 127.0.0.53\n", None).is_empty());
    }
}
