//! The network scripts of CentOS 7 and its like.

use super::interface::{Gateway, Interface};
use super::phrases::block;
use crate::model::guest_file::GuestFile;

const DIR: &str = "/etc/sysconfig/network-scripts";

pub fn files(hostname: &str, interfaces: &[Interface<'_>]) -> Vec<GuestFile> {
    let network = format!("NETWORKING=yes\nNOZEROCONF=yes\nHOSTNAME={hostname}\n");
    let mut files = vec![block("/etc/sysconfig/network", network, 0o644)];
    for interface in interfaces {
        let path = format!("{DIR}/ifcfg-{}", interface.name);
        files.push(block(path, ifcfg(interface), 0o644));
        // The scripts take no gateway outside of the subnet; routes of this file they pass on.
        if let Some(Gateway { ip, on_link: true }) = interface.ipv4.gateway() {
            let name = interface.name;
            let routes = format!("{ip} dev {name} scope link\ndefault via {ip} dev {name}\n");
            files.push(block(format!("{DIR}/route-{name}"), routes, 0o644));
        }
    }
    files
}

/// ifup leaves an address alone that it finds, once `ARPCHECK` does not take it for a stranger's.
fn ifcfg(interface: &Interface<'_>) -> String {
    let name = interface.name;
    let yes = |is: bool| if is { "yes" } else { "no" };
    let (ipv4, ipv6) = (&interface.ipv4, &interface.ipv6);
    let proto = if ipv4.asks() { "dhcp" } else { "none" };
    let mut text = format!(
        "\
         DEVICE={name}\n\
         NAME={name}\n\
         TYPE=Ethernet\n\
         ONBOOT=yes\n\
         NM_CONTROLLED=no\n\
         BOOTPROTO={proto}\n"
    );
    let mut put = |key: &str, value: &str| text.push_str(&format!("{key}={value}\n"));
    if let Some(net) = ipv4.net() {
        put("IPADDR", &net.ip().to_string());
        put("PREFIX", &net.prefix().to_string());
        put("ARPCHECK", "no");
    }
    if let Some(Gateway { ip, on_link: false }) = ipv4.gateway() {
        put("GATEWAY", &ip.to_string());
    }
    put("DEFROUTE", yes(ipv4.asks() || ipv4.gateway().is_some()));
    put("IPV6INIT", yes(!ipv6.is_off()));
    put("IPV6_AUTOCONF", yes(ipv6.asks()));
    if ipv6.asks() {
        put("DHCPV6C", "yes");
    }
    if let Some(net) = ipv6.net() {
        put("IPV6ADDR", &net.to_string());
    }
    if let Some(gateway) = ipv6.gateway() {
        let zone = if gateway.ip.is_unicast_link_local() { format!("%{name}") } else { String::new() };
        put("IPV6_DEFAULTGW", &format!("{}{zone}", gateway.ip));
    }
    if let Some(mtu) = interface.mtu {
        put("MTU", &mtu.to_string());
    }
    put("PEERDNS", yes(interface.asks()));
    for (n, address) in interface.resolvers.iter().enumerate() {
        put(&format!("DNS{}", n + 1), &address.to_string());
    }
    if let Some(domain) = interface.domain {
        put("DOMAIN", domain);
    }
    text
}
