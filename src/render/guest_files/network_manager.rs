//! NetworkManager's keyfiles.

use std::net::IpAddr;

use super::interface::{Interface, Setting};
use super::phrases::{block, join};
use crate::model::guest_file::GuestFile;

pub fn files(interfaces: &[Interface<'_>]) -> Vec<GuestFile> {
    interfaces
        .iter()
        .map(|interface| {
            let name = interface.name;
            let path = format!("/etc/NetworkManager/system-connections/nagaya-{name}.nmconnection");
            // NetworkManager ignores a file that others can read.
            block(path, keyfile(interface), 0o600)
        })
        .collect()
}

/// The highest priority: images come with profiles of their own. One that is not written down gets
/// a UUID of its file's name.
fn keyfile(interface: &Interface<'_>) -> String {
    let name = interface.name;
    let mut text = format!(
        "\
         [connection]\n\
         id=nagaya-{name}\n\
         type=ethernet\n\
         interface-name={name}\n\
         autoconnect=true\n\
         autoconnect-priority=999\n\
         \n\
         [ethernet]\n"
    );
    if let Some(mtu) = interface.mtu {
        text.push_str(&format!("mtu={mtu}\n"));
    }
    text.push_str("\n[ipv4]\n");
    text.push_str(&family(&interface.ipv4, "disabled"));
    if !interface.ipv4.is_off() {
        text.push_str(&dns(interface.resolvers4(), interface.domain));
    }
    // Link-local alone is the word for "no advertisements" that all versions know.
    text.push_str("\n[ipv6]\n");
    text.push_str(&family(&interface.ipv6, "link-local"));
    // The host lets no other link-local address pass than that which is made of the Ethernet address.
    text.push_str("addr-gen-mode=eui64\nip6-privacy=0\n");
    // Older versions refuse a profile that has resolvers of a family and nothing else of it.
    if !interface.ipv6.is_off() {
        text.push_str(&dns(interface.resolvers6(), interface.domain));
    }
    text
}

fn family<N: Copy + std::fmt::Display, A: Copy + std::fmt::Display>(
    setting: &Setting<N, A>,
    off: &str,
) -> String {
    match setting {
        Setting::Off => format!("method={off}\n"),
        Setting::Asks => "method=auto\n".to_owned(),
        Setting::Static { net, gateway: Some(gateway) } => {
            format!("method=manual\naddress1={net},{}\n", gateway.ip)
        }
        Setting::Static { net, gateway: None } => {
            format!("method=manual\naddress1={net}\nnever-default=true\n")
        }
    }
}

fn dns<'a>(resolvers: impl Iterator<Item = &'a IpAddr>, domain: Option<&str>) -> String {
    let list = join(resolvers, ";");
    let mut text = String::new();
    if !list.is_empty() {
        text.push_str(&format!("dns={list};\n"));
    }
    if let Some(domain) = domain {
        text.push_str(&format!("dns-search={domain};\n"));
    }
    text
}
