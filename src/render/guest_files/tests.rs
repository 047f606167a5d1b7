use std::net::IpAddr;

use super::*;
use crate::model::guest_file::{GuestFile, When};
use crate::model::guest_tools::{GuestTools, Resolved};
use crate::model::nic::{Nic, NicKind, NicSettings, ROUTED_GATEWAY4, ROUTED_GATEWAY6};
use crate::model::template::NetworkStyle::{
    self, Alpine, Ifcfg, Ifupdown, Netplan, NetworkManager, Networkd,
};

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
    let tools = GuestTools { resolved: Resolved::Enabled, has_resolvconf: true, ..tools(NetworkStyle::None) };
    let mut common = vec![
        hostname_file("web01", false),
        hosts_file(None, subject),
        resolv_conf("/etc/resolv.conf".to_owned(), true, subject),
    ];
    common.extend(resolver_files(&tools, subject));
    snapbox::assert_data_eq!(text(&common), snapbox::file!["../../../tests/golden/guest-common.txt"].raw());
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
    for path in ["/etc/hosts", "/etc/network/interfaces", "/etc/systemd/network/05-nagaya-/eth0.network"] {
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
    let tools = GuestTools { resolved: Resolved::Enabled, has_resolvconf: true, ..tools(NetworkStyle::None) };
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
