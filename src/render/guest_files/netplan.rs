//! Ubuntu's netplan, whichever of networkd and NetworkManager it renders for.

use super::interface::{Gateway, Interface};
use super::phrases::{block, join};
use crate::model::guest_file::GuestFile;

/// Of two files that speak of one interface the later name wins, key by key: images come with
/// `10-lxc.yaml` or `50-cloud-init.yaml`, which ask by DHCP.
const PATH: &str = "/etc/netplan/99-nagaya.yaml";

pub fn file(interfaces: &[Interface<'_>]) -> GuestFile {
    let mut text = String::from("network:\n  version: 2\n");
    if !interfaces.is_empty() {
        text.push_str("  ethernets:\n");
    }
    for interface in interfaces {
        text.push_str(&ethernet(interface));
    }
    // netplan warns of a file that others can read.
    block(PATH, text, 0o600)
}

/// No key is younger than netplan 0.99 of Ubuntu 18.04, which knows no `to: default`.
fn ethernet(interface: &Interface<'_>) -> String {
    let (ipv4, ipv6) = (&interface.ipv4, &interface.ipv6);
    let mut text = format!("    {}:\n", interface.name);
    let mut put = |line: String| text.push_str(&format!("      {line}\n"));
    put(format!("dhcp4: {}", ipv4.asks()));
    put(format!("dhcp6: {}", ipv6.asks()));
    put(format!("accept-ra: {}", ipv6.asks()));
    if ipv6.is_off() {
        put("link-local: []".to_owned());
    } else {
        put("link-local: [ ipv6 ]".to_owned());
        put("ipv6-address-generation: eui64".to_owned());
    }
    if !interface.is_awaited {
        put("optional: true".to_owned());
    }
    if !interface.asks() {
        // The addresses of now are kept when the service starts.
        put("critical: true".to_owned());
    }
    if let Some(mtu) = interface.mtu {
        put(format!("mtu: {mtu}"));
    }
    let addresses = [ipv4.net().map(|net| net.to_string()), ipv6.net().map(|net| net.to_string())];
    let addresses: Vec<String> = addresses.into_iter().flatten().map(|net| format!("\"{net}\"")).collect();
    if !addresses.is_empty() {
        put(format!("addresses: [ {} ]", addresses.join(", ")));
    }
    let routes = [route("0.0.0.0/0", ipv4.gateway()), route("::/0", ipv6.gateway())];
    if routes.iter().any(Option::is_some) {
        put("routes:".to_owned());
    }
    for line in routes.into_iter().flatten().flatten() {
        put(line);
    }
    if !interface.resolvers.is_empty() {
        put("nameservers:".to_owned());
        put(format!("  addresses: [ \"{}\" ]", join(interface.resolvers, "\", \"")));
        if let Some(domain) = interface.domain {
            put(format!("  search: [ \"{domain}\" ]"));
        }
    }
    text
}

fn route<A: std::fmt::Display>(to: &str, gateway: Option<Gateway<A>>) -> Option<Vec<String>> {
    let gateway = gateway?;
    let mut lines = vec![format!("- to: \"{to}\""), format!("  via: \"{}\"", gateway.ip)];
    if gateway.on_link {
        lines.push("  on-link: true".to_owned());
    }
    Some(lines)
}
