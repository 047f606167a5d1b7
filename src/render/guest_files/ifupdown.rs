//! Debian's ifupdown.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::interface::{Gateway, Interface, Setting};
use super::phrases::join;
use crate::model::guest_file::{GuestFile, When};

pub const PATH: &str = "/etc/network/interfaces";

/// ifup adds addresses with `ip addr add`, which fails where they are there already, and the whole
/// service with it; so what was set from outside goes first. Further stanzas have the directory that
/// Debian has for them, where it does not speak of one of ours already.
pub fn file(interfaces: &[Interface<'_>], with_directory: bool) -> GuestFile {
    let mut text = String::from("auto lo\niface lo inet loopback\n");
    for interface in interfaces {
        text.push_str(&format!("\nauto {}\n", interface.name));
        text.push_str(&ipv4(interface, "dhcp"));
        match interface.ipv6 {
            Setting::Asks => {
                text.push_str(&format!("iface {} inet6 dhcp\n    accept_ra 1\n", interface.name))
            }
            Setting::Static { net, gateway } => {
                text.push_str(&ipv6(interface.name, net, gateway));
                text.push_str("    accept_ra 0\n    autoconf 0\n    dad-attempts 0\n");
                if interface.ipv4.net().is_none() {
                    text.push_str(&options(interface));
                }
            }
            Setting::Off => {}
        }
    }
    let rest = if with_directory { "\nsource /etc/network/interfaces.d/*\n" } else { "" };
    let when = When::Block { rest: rest.to_owned(), replaces: true };
    GuestFile { path: PATH.to_owned(), content: text, mode: 0o644, when }
}

/// The IPv4 stanza, or one that brings up an interface without addresses.
pub fn ipv4(interface: &Interface<'_>, asking: &str) -> String {
    let name = interface.name;
    match interface.ipv4 {
        Setting::Asks => format!("iface {name} inet {asking}\n"),
        Setting::Off if interface.ipv6.is_off() => {
            format!("iface {name} inet manual\n    up ip link set dev {name} up\n")
        }
        Setting::Off => String::new(),
        Setting::Static { net, gateway } => with_ipv4(interface, net, gateway),
    }
}

fn with_ipv4(interface: &Interface<'_>, net: Ipv4Network, gateway: Option<Gateway<Ipv4Addr>>) -> String {
    let name = interface.name;
    let way = match gateway {
        None => String::new(),
        Some(Gateway { ip, on_link: false }) => format!("    gateway {ip}\n"),
        Some(Gateway { ip, on_link: true }) => format!(
            "    up ip -4 route replace {ip} dev {name}\n    \
                 up ip -4 route replace default via {ip} dev {name}\n"
        ),
    };
    format!(
        "iface {name} inet static\n    \
             pre-up ip -4 addr flush dev {name}\n    \
             address {}\n    \
             netmask {}\n{way}{}",
        net.ip(),
        net.mask(),
        options(interface)
    )
}

/// The IPv6 stanza. A route stays when the address goes that it was made with.
pub fn ipv6(name: &str, net: Ipv6Network, gateway: Option<Gateway<Ipv6Addr>>) -> String {
    let way = match gateway {
        None => String::new(),
        Some(Gateway { ip, on_link: false }) => format!("    gateway {ip}\n"),
        Some(Gateway { ip, on_link: true }) => {
            format!("    up ip -6 route replace default via {ip} dev {name}\n")
        }
    };
    format!(
        "iface {name} inet6 static\n    \
             pre-up ip -6 addr flush dev {name} scope global\n    \
             pre-up ip -6 route del default dev {name} 2>/dev/null || true\n    \
             address {}\n    \
             netmask {}\n{way}",
        net.ip(),
        net.prefix()
    )
}

fn options(interface: &Interface<'_>) -> String {
    let mut text = String::new();
    if let Some(mtu) = interface.mtu {
        text.push_str(&format!("    mtu {mtu}\n"));
    }
    if !interface.resolvers.is_empty() {
        let list = join(interface.resolvers, " ");
        text.push_str(&format!(
            "    # resolvers, used where resolvconf is installed\n    dns-nameservers {list}\n"
        ));
        if let Some(domain) = interface.domain {
            text.push_str(&format!("    dns-search {domain}\n"));
        }
    }
    text
}
