//! The files by which a guest's own tools agree with what was set from outside: they find the
//! addresses in place, keep them, and set them again if somebody takes them away.

mod alpine;
mod ifcfg;
mod ifupdown;
mod interface;
mod netplan;
mod network_manager;
mod networkd;

use std::net::IpAddr;

use crate::model::guest_file::{GuestFile, MARKER, When};
use crate::model::name::Name;
use crate::model::nic::Nic;
use crate::model::template::NetworkStyle;
use interface::Interface;

/// What libc reads at most (MAXNS of resolv.h).
const MAX_RESOLVERS: usize = 3;

/// All files of a guest with these interfaces. `domain` is the one that its name is in. What an
/// earlier start has written for an interface that is gone, the writer knows by
/// [`is_interface_file`](crate::model::guest_file::is_interface_file).
pub fn guest_files(
    style: NetworkStyle,
    hostname: &Name,
    nics: &[Nic],
    resolvers: &[IpAddr],
    domain: Option<&str>,
) -> Vec<GuestFile> {
    let interfaces = Interface::all(nics, resolvers, domain);
    let mut files = match style {
        NetworkStyle::Networkd => interfaces.iter().map(networkd::file).collect(),
        NetworkStyle::Ifupdown => vec![ifupdown::file(&interfaces)],
        NetworkStyle::Ifcfg => ifcfg::files(hostname, &interfaces),
        NetworkStyle::Netplan => vec![netplan::file(&interfaces)],
        NetworkStyle::NetworkManager => network_manager::files(&interfaces),
        NetworkStyle::Alpine => vec![alpine::file(&interfaces)],
        NetworkStyle::None => Vec::new(),
    };
    files.extend([
        file("/etc/hostname", format!("{hostname}\n"), 0o644, When::Always),
        file("/etc/hosts", hosts(hostname, domain), 0o644, When::IfMissingOrOurs),
        file("/etc/resolv.conf", resolv_conf(resolvers, domain), 0o644, When::UnlessLink),
    ]);
    files
}

/// The resolvers that a guest can use: those of `/etc/resolv.conf`, and where only stubs on the
/// host's loopback stand there, those of systemd-resolved's own
/// `/run/systemd/resolve/resolv.conf`. At most 3, IPv4 first: that is what every guest has, or nearly. Lines that
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

fn file(path: impl Into<String>, content: String, mode: u32, when: When) -> GuestFile {
    GuestFile { path: path.into(), content, mode, when }
}

fn hosts(hostname: &Name, domain: Option<&str>) -> String {
    let names = match domain {
        Some(domain) => format!("{hostname}.{domain} {hostname}"),
        None => hostname.to_string(),
    };
    format!(
        "{MARKER}\n\
         127.0.0.1 localhost\n\
         127.0.1.1 {names}\n\
         ::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\n\
         ff02::2 ip6-allrouters\n"
    )
}

fn resolv_conf(resolvers: &[IpAddr], domain: Option<&str>) -> String {
    let search = domain.map(|domain| format!("search {domain}\n")).unwrap_or_default();
    let lines: String = resolvers.iter().map(|address| format!("nameserver {address}\n")).collect();
    format!("{MARKER}\n{search}{lines}")
}

/// Addresses with `separator` in between.
fn join<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>, separator: &str) -> String {
    addresses.into_iter().map(IpAddr::to_string).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::nic::{NicKind, NicSettings, ROUTED_GATEWAY4, ROUTED_GATEWAY6};
    use NetworkStyle::{Alpine, Ifcfg, Ifupdown, Netplan, NetworkManager, Networkd};

    fn nic(slot: u8, ipv4: Option<&str>, ipv6: Option<&str>) -> Nic {
        let name = format!("eth{slot}");
        let ipv4 = ipv4.map(|text| text.parse().unwrap());
        let ipv6 = ipv6.map(|text| text.parse().unwrap());
        Nic {
            device: name.clone(),
            name,
            slot,
            kind: NicKind::Bridged { network: "lan".into() },
            mac: crate::model::mac::Mac::guest([1, 2, 3, 4, slot]),
            ipv4,
            gateway4: ipv4.and_then(|net: ipnetwork::Ipv4Network| net.nth(1)),
            ipv6,
            gateway6: ipv6.and_then(|net: ipnetwork::Ipv6Network| net.iter().nth(1)),
            settings: NicSettings::default(),
        }
    }

    /// One IPv4 address; both families and a second interface; routed; asking.
    fn cases() -> Vec<(&'static str, Vec<Nic>)> {
        let plain = nic(0, Some("10.77.16.2/20"), None);
        let mut dual = nic(0, Some("10.77.16.2/20"), Some("fd00:77::2/64"));
        dual.settings.mtu = Some(1400);
        let mut second = nic(1, Some("192.168.9.7/24"), Some("fd00:9::7/64"));
        second.gateway6 = None;
        let mut routed = nic(0, Some("203.0.113.9/32"), Some("2001:db8::9/128"));
        routed.kind = NicKind::Routed;
        (routed.gateway4, routed.gateway6) = (Some(ROUTED_GATEWAY4), Some(ROUTED_GATEWAY6));
        let mut asking = nic(0, Some("10.77.16.2/20"), Some("fd00:77::2/64"));
        asking.settings.dhcp = true;
        let mut outside = nic(1, None, None);
        outside.kind = NicKind::Macvlan { parent: "enp1s0".into() };
        outside.settings.dhcp = true;
        let bare = nic(2, None, None);
        vec![
            ("one address", vec![plain]),
            ("both families, two interfaces", vec![dual, second]),
            ("routed", vec![routed]),
            ("asking", vec![asking, outside, bare]),
        ]
    }

    fn rendered(style: NetworkStyle, nics: &[Nic], resolvers: &[&str]) -> Vec<GuestFile> {
        let resolvers: Vec<IpAddr> = resolvers.iter().map(|text| text.parse().unwrap()).collect();
        guest_files(style, &Name::new("web01").unwrap(), nics, &resolvers, Some("lan.example"))
    }

    fn text(files: &[GuestFile]) -> String {
        let one = |file: &GuestFile| {
            format!("== {} {:o} {:?}\n{}\n", file.path, file.mode, file.when, file.content)
        };
        files.iter().map(one).collect()
    }

    const COMMON: usize = 3;

    fn all_cases(style: NetworkStyle) -> String {
        let mut all = String::new();
        for (what, nics) in cases() {
            let files = rendered(style, &nics, &["192.0.2.53", "2001:db8::53"]);
            all.push_str(&format!("######## {what}\n{}", text(&files[..files.len() - COMMON])));
        }
        all
    }

    #[test]
    fn files_are_the_golden_ones() {
        let golden =
            |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        for (style, name) in [
            (Networkd, "guest-networkd.txt"),
            (Ifupdown, "guest-ifupdown.txt"),
            (Ifcfg, "guest-ifcfg.txt"),
            (Netplan, "guest-netplan.txt"),
            (NetworkManager, "guest-network-manager.txt"),
            (Alpine, "guest-alpine.txt"),
        ] {
            let expected = snapbox::Data::read_from(&golden(name), Some(snapbox::data::DataFormat::Text));
            snapbox::assert_data_eq!(all_cases(style), expected.raw());
        }
        let (_, nics) = &cases()[0];
        let common = rendered(NetworkStyle::None, nics, &["192.0.2.53", "2001:db8::53"]);
        snapbox::assert_data_eq!(text(&common), snapbox::file!["../../tests/golden/guest-common.txt"].raw());
    }

    #[test]
    fn all_of_a_styles_own_files_go_with_their_interface() {
        use crate::model::guest_file::is_interface_file;
        for style in [Networkd, Ifcfg, NetworkManager] {
            let files = rendered(style, &cases()[1].1, &[]);
            let of_second: Vec<_> = files.iter().filter(|file| file.path.contains("eth1")).collect();
            assert!(!of_second.is_empty());
            assert!(of_second.iter().all(|file| is_interface_file(&file.path)), "{of_second:?}");
            assert!(of_second.iter().all(|file| file.content.starts_with(MARKER)));
        }
        for path in ["/etc/hosts", "/etc/network/interfaces", "/etc/systemd/network/05-nagaya-/eth0.network"]
        {
            assert!(!is_interface_file(path), "{path}");
        }
    }

    #[test]
    fn only_the_first_gateway_of_a_family_is_the_default_route() {
        let (_, nics) = &cases()[1];
        for style in [Networkd, Ifupdown, Ifcfg, Netplan, NetworkManager, Alpine] {
            let text = text(&rendered(style, nics, &[]));
            assert!(text.contains("10.77.16.1") && text.contains("fd00:77::1"), "{text}");
            assert!(!text.contains("192.168.9.1"), "{text}");
        }
    }

    #[test]
    fn a_guest_without_resolvers_or_a_known_style_gets_none() {
        let plain = &cases()[0].1;
        let files = text(&rendered(Ifupdown, plain, &[]));
        assert!(!files.contains("dns-nameservers") && !files.contains("nameserver"), "{files}");
        let files = text(&rendered(NetworkStyle::None, plain, &[]));
        assert!(!files.contains("eth0") && files.contains("/etc/hostname"), "{files}");
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
