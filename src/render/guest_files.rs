//! The files by which a guest's own tools agree with what was set from outside: they find the
//! addresses in place, keep them, and set them again if somebody takes them away.

mod alpine;
mod ifcfg;
mod ifupdown;
mod inittab;
mod interface;
mod logins;
mod netplan;
mod network_manager;
mod networkd;

use std::net::IpAddr;

pub use inittab::inittab;
pub use logins::{Logins, for_console, logins};

use crate::model::guest_file::{GuestFile, When, guest_lines};
use crate::model::guest_tools::{GuestTools, Resolved};
use crate::model::nic::Nic;
use crate::model::template::NetworkStyle;
use interface::Interface;

/// What libc reads at most (MAXNS of resolv.h).
const MAX_RESOLVERS: usize = 3;

/// Where a host says which resolvers it asks, most telling first: behind a stub on its loopback there
/// are others, which a guest can ask too.
pub const HOST_RESOLVER_FILES: [&str; 7] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/dnsmasq/resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/netconfig/resolv.conf",
];

/// What all of a guest's files speak of.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The guest's, be it of its own choice.
    pub hostname: &'a str,
    pub nics: &'a [Nic],
    pub resolvers: &'a [IpAddr],
    /// Of the network that answers for names.
    pub domain: Option<&'a str>,
}

/// The files of the guest's network tools. What an earlier start has written for an interface that is
/// gone, the writer knows by [`is_interface_file`](crate::model::guest_file::is_interface_file).
pub fn network_files(tools: &GuestTools, subject: Subject<'_>) -> Vec<GuestFile> {
    let interfaces = Interface::all(subject.nics, subject.resolvers, subject.domain);
    match tools.network {
        NetworkStyle::Networkd => interfaces.iter().map(networkd::file).collect(),
        NetworkStyle::Ifupdown => vec![ifupdown::file(&interfaces, tools.is_interfaces_d_free)],
        NetworkStyle::Ifcfg => ifcfg::files(subject.hostname, &interfaces),
        NetworkStyle::Netplan => vec![netplan::file(&interfaces)],
        NetworkStyle::NetworkManager => network_manager::files(&interfaces),
        NetworkStyle::Alpine => vec![alpine::file(&interfaces)],
        NetworkStyle::None => Vec::new(),
    }
}

/// `is_set`: the operator has chosen it, and not only the container's name.
pub fn hostname_file(hostname: &str, is_set: bool) -> GuestFile {
    let when = if is_set { When::Always } else { When::UnlessChanged };
    GuestFile { path: "/etc/hostname".to_owned(), content: format!("{hostname}\n"), mode: 0o644, when }
}

/// Says the host's name in /etc/hosts, of which `current` is the content, unless the guest itself does.
pub fn hosts_file(current: Option<&str>, subject: Subject<'_>) -> GuestFile {
    let names = names(subject);
    let is_said = current.is_some_and(|text| says(text, subject.hostname));
    let content = if is_said { String::new() } else { format!("127.0.1.1 {names}\n") };
    let rest = "127.0.0.1 localhost\n\
                ::1 localhost ip6-localhost ip6-loopback\n\
                ff02::1 ip6-allnodes\n\
                ff02::2 ip6-allrouters\n";
    let when = When::Block { rest: rest.to_owned(), replaces: false };
    GuestFile { path: "/etc/hosts".to_owned(), content, mode: 0o644, when }
}

/// Whether a line of /etc/hosts that is the guest's own names the host.
fn says(hosts: &str, hostname: &str) -> bool {
    let line_says = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok())
            && words.any(|name| name.eq_ignore_ascii_case(hostname))
    };
    guest_lines(hosts).any(line_says)
}

/// The full name first, which is what `hostname -f` prints.
fn names(subject: Subject<'_>) -> String {
    let hostname = subject.hostname;
    match (hostname.split_once('.'), subject.domain) {
        (Some((short, _)), _) => format!("{hostname} {short}"),
        (None, Some(domain)) => format!("{hostname}.{domain} {hostname}"),
        (None, None) => hostname.to_owned(),
    }
}

/// At `path`, which is where /etc/resolv.conf leads. What the tree came with goes only from that
/// itself: `replaces`.
pub fn resolv_conf(path: String, replaces: bool, subject: Subject<'_>) -> GuestFile {
    let when = When::Block { rest: String::new(), replaces };
    GuestFile { path, content: resolver_lines(subject), mode: 0o644, when }
}

/// What tells the guest's programs that look up names of the resolvers, where /etc/resolv.conf is a
/// link to a file that one of them makes.
pub fn resolver_files(tools: &GuestTools, subject: Subject<'_>) -> Vec<GuestFile> {
    let mut files = Vec::new();
    if subject.resolvers.is_empty() {
        return files;
    }
    // Those tell it themselves, which resolvers each link has.
    let is_told = matches!(
        tools.network,
        NetworkStyle::Networkd | NetworkStyle::Netplan | NetworkStyle::NetworkManager
    );
    if tools.resolved != Resolved::Absent && !is_told {
        let domains = subject.domain.map(|domain| format!("Domains={domain}\n")).unwrap_or_default();
        // The first name of all, so that the guest's own files have the last word; one of this name in
        // /etc/systemd/resolved.conf.d comes in its place.
        files.push(GuestFile {
            path: "/run/systemd/resolved.conf.d/00-nagaya.conf".to_owned(),
            content: format!("[Resolve]\nDNS={}\n{domains}", join(subject.resolvers, " ")),
            mode: 0o644,
            when: When::Always,
        });
    }
    if tools.has_resolvconf {
        let when = When::Block { rest: String::new(), replaces: false };
        let path = "/etc/resolvconf/resolv.conf.d/base".to_owned();
        files.push(GuestFile { path, content: resolver_lines(subject), mode: 0o644, when });
    }
    files
}

/// The resolvers that a guest can use: those of the first of the host's files, as `read` has it, in
/// which there is one that is not on the host's loopback. At most 3, IPv4 first: that is what every
/// guest has, or nearly. Lines that are not exactly a resolver are left out; so is an address with a
/// zone (`fe80::1%eth0`), which means something on the host's link only.
///
/// The host's `search` and `options` are not passed on: short names that a guest asks for are not to be
/// looked up in its operator's domain.
pub fn resolvers(read: impl Fn(&str) -> Option<String>) -> Vec<IpAddr> {
    let found = HOST_RESOLVER_FILES.iter().filter_map(|path| Some(usable(&read(path)?)));
    let mut found = found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    found.sort_by_key(IpAddr::is_ipv6);
    found.truncate(MAX_RESOLVERS);
    found
}

/// Whether the host itself asks a resolver that listens on its loopback, where no guest can ask it.
pub fn asks_on_loopback(resolv_conf: &str) -> bool {
    nameservers(resolv_conf).any(|address| address.is_loopback())
}

fn nameservers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (Some("nameserver"), Some(address), None) = (words.next(), words.next(), words.next()) else {
            return None;
        };
        Some(address.parse::<IpAddr>().ok()?.to_canonical())
    })
}

fn usable(resolv_conf: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in nameservers(resolv_conf) {
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

/// A file of the guest's network tools.
fn block(path: impl Into<String>, content: String, mode: u32) -> GuestFile {
    let when = When::Block { rest: String::new(), replaces: true };
    GuestFile { path: path.into(), content, mode, when }
}

fn resolver_lines(subject: Subject<'_>) -> String {
    let search = subject.domain.filter(|_| !subject.resolvers.is_empty());
    let search = search.map(|domain| format!("search {domain}\n")).unwrap_or_default();
    let lines: String = subject.resolvers.iter().map(|address| format!("nameserver {address}\n")).collect();
    search + &lines
}

/// Addresses with `separator` in between.
fn join<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>, separator: &str) -> String {
    addresses.into_iter().map(IpAddr::to_string).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::guest_file::{BEGIN, END};
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

    fn tools(network: NetworkStyle) -> GuestTools {
        let (resolved, has_resolvconf) = (Resolved::Absent, false);
        GuestTools { network, resolved, has_resolvconf, is_interfaces_d_free: true }
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn subject<'a>(nics: &'a [Nic], resolvers: &'a [IpAddr]) -> Subject<'a> {
        Subject { hostname: "web01", nics, resolvers, domain: Some("lan.example") }
    }

    fn rendered(style: NetworkStyle, nics: &[Nic], resolvers: &[&str]) -> Vec<GuestFile> {
        network_files(&tools(style), subject(nics, &addresses(resolvers)))
    }

    fn text(files: &[GuestFile]) -> String {
        let one = |file: &GuestFile| {
            let rest = match &file.when {
                When::Block { rest, .. } => format!("-- behind it\n{rest}"),
                _ => String::new(),
            };
            let rest = rest.strip_suffix("-- behind it\n").unwrap_or(&rest);
            format!("== {} {:o}\n{}{rest}\n", file.path, file.mode, file.content)
        };
        files.iter().map(one).collect()
    }

    fn all_cases(style: NetworkStyle) -> String {
        let mut all = String::new();
        for (what, nics) in cases() {
            let files = rendered(style, &nics, &["192.0.2.53", "2001:db8::53"]);
            all.push_str(&format!("######## {what}\n{}", text(&files)));
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
        let resolvers = addresses(&["192.0.2.53", "2001:db8::53"]);
        let subject = subject(&[], &resolvers);
        let tools =
            GuestTools { resolved: Resolved::Enabled, has_resolvconf: true, ..tools(NetworkStyle::None) };
        let mut common = vec![
            hostname_file("web01", false),
            hosts_file(None, subject),
            resolv_conf("/etc/resolv.conf".to_owned(), true, subject),
        ];
        common.extend(resolver_files(&tools, subject));
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
        assert!(rendered(NetworkStyle::None, plain, &[]).is_empty());
        let tools =
            GuestTools { resolved: Resolved::Enabled, has_resolvconf: true, ..tools(NetworkStyle::None) };
        assert!(resolver_files(&tools, subject(plain, &[])).is_empty());
        assert_eq!(resolv_conf("/etc/resolv.conf".into(), true, subject(plain, &[])).content, "");
    }

    #[test]
    fn resolved_is_told_by_its_links_or_by_a_file_and_not_by_both() {
        let resolvers = addresses(&["192.0.2.53"]);
        for (network, by_file) in [
            (NetworkStyle::None, true),
            (Ifupdown, true),
            (Ifcfg, true),
            (Networkd, false),
            (Netplan, false),
            (NetworkManager, false),
        ] {
            let tools = GuestTools { resolved: Resolved::Idle, ..tools(network) };
            let files = resolver_files(&tools, subject(&[], &resolvers));
            assert_eq!(!files.is_empty(), by_file, "{network:?}");
        }
    }

    #[test]
    fn the_name_is_said_in_hosts_unless_the_guest_says_it() {
        let line = |current: &str, hostname: &'static str, domain| {
            hosts_file(Some(current), Subject { hostname, nics: &[], resolvers: &[], domain }).content
        };
        let plain = "127.0.0.1 localhost\n::1 localhost\n";
        assert_eq!(line(plain, "web01", None), "127.0.1.1 web01\n");
        assert_eq!(line(plain, "web01", Some("lan.example")), "127.0.1.1 web01.lan.example web01\n");
        let full = "mail.customer.example";
        assert_eq!(line(plain, full, Some("lan.example")), "127.0.1.1 mail.customer.example mail\n");
        assert_eq!(line(plain, "localhost", None), "");
        for said in ["127.0.1.1 web01", "192.0.2.9\tx.example Web01 # y", "::1 web01"] {
            assert_eq!(line(&format!("{plain}{said}\n"), "web01", None), "", "{said}");
        }
        for other in ["#127.0.1.1 web01", "web01", "127.0.1.1 web012", "127.0.1.1 x # web01"] {
            assert_eq!(line(&format!("{plain}{other}\n"), "web01", None), "127.0.1.1 web01\n", "{other}");
        }
        // What nagaya has said there before is no reason to be silent.
        let before = format!("{plain}{BEGIN}\n127.0.1.1 web01\n{END}\n");
        assert_eq!(line(&before, "web01", None), "127.0.1.1 web01\n");
    }

    fn found(resolv_conf: &str, resolved: Option<&str>) -> Vec<String> {
        let read = |path: &str| match path {
            "/etc/resolv.conf" => Some(resolv_conf.to_owned()),
            "/run/systemd/resolve/resolv.conf" => resolved.map(str::to_owned),
            _ => None,
        };
        resolvers(read).iter().map(IpAddr::to_string).collect()
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
    fn a_resolver_on_the_hosts_loopback_is_known() {
        for text in ["nameserver 127.0.0.1\n", "nameserver 127.0.0.53\noptions edns0\n", "nameserver ::1\n"] {
            assert!(asks_on_loopback(text), "{text}");
        }
        for text in ["", "nameserver 192.0.2.1\n", "# nameserver 127.0.0.1\n", "nameserver 127.0.0.1 x\n"] {
            assert!(!asks_on_loopback(text), "{text}");
        }
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
        let late =
            |path: &str| (path == "/run/dnsmasq/resolv.conf").then(|| "nameserver 192.0.2.7".to_owned());
        assert_eq!(resolvers(late), addresses(&["192.0.2.7"]));
    }
}
