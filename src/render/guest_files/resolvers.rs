//! The resolvers that a guest can ask, and the files that say so to its programs.

use std::net::IpAddr;

use super::phrases::join;
use super::subject::Subject;
use crate::model::guest_file::{GuestFile, When};
use crate::model::guest_tools::{GuestTools, Resolved};
use crate::model::template::NetworkStyle;

/// What libc reads at most (MAXNS of resolv.h).
const MAX_RESOLVERS: usize = 3;

/// Files in which a host names its resolvers, the most specific first: behind a stub on loopback there are
/// others, which a guest can ask too.
pub const HOST_RESOLVER_FILES: [&str; 7] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/dnsmasq/resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/netconfig/resolv.conf",
];

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

/// At `path`, which is where /etc/resolv.conf leads. What the tree came with goes only from that
/// itself: `replaces`.
pub fn resolv_conf(path: String, replaces: bool, subject: Subject<'_>) -> GuestFile {
    let when = When::Block { rest: String::new(), replaces };
    GuestFile { path, content: resolver_lines(subject), mode: 0o644, when }
}

/// Files that tell resolvconf and systemd-resolved the resolvers, for guests whose /etc/resolv.conf is a
/// link to a file that one of them makes.
pub fn resolver_files(tools: &GuestTools, subject: Subject<'_>) -> Vec<GuestFile> {
    let mut files = Vec::new();
    if subject.resolvers.is_empty() {
        return files;
    }
    // These tools tell systemd-resolved themselves which resolvers each link has.
    let is_told = matches!(
        tools.network,
        NetworkStyle::Networkd | NetworkStyle::Netplan | NetworkStyle::NetworkManager
    );
    if tools.resolved != Resolved::Absent && !is_told {
        let domains = subject.domain.map(|domain| format!("Domains={domain}\n")).unwrap_or_default();
        // The name sorts first, so that the guest's own files override it; a file of the same name in
        // /etc/systemd/resolved.conf.d replaces it.
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

fn resolver_lines(subject: Subject<'_>) -> String {
    let search = subject.domain.filter(|_| !subject.resolvers.is_empty());
    let search = search.map(|domain| format!("search {domain}\n")).unwrap_or_default();
    let lines: String = subject.resolvers.iter().map(|address| format!("nameserver {address}\n")).collect();
    search + &lines
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(resolvers(late), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    }
}
