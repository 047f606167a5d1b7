//! systemd-networkd.

use super::interface::{Gateway, Interface};
use super::phrases::block;
use crate::model::guest_file::GuestFile;

/// Keys unknown to an old systemd are ignored by it with a warning; all of these are known to
/// 247. `KeepConfiguration=static` spares the addresses and routes that are there when networkd
/// starts or stops. Without router advertisements and DHCP nothing but the link-local address is
/// left to wait for, so the link is soon "configured", which is what wait-online waits for.
pub fn file(interface: &Interface<'_>) -> GuestFile {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut text = format!(
        "[Match]\nName={}\n\n[Link]\nRequiredForOnline={}\n",
        interface.name,
        yes(interface.is_awaited)
    );
    if let Some(mtu) = interface.mtu {
        text.push_str(&format!("MTUBytes={mtu}\n"));
    }
    text.push_str("\n[Network]\n");
    let (ipv4, ipv6) = (&interface.ipv4, &interface.ipv6);
    if let Some(net) = ipv4.net() {
        text.push_str(&format!("Address={net}\n"));
    }
    if let Some(Gateway { ip, on_link: false }) = ipv4.gateway() {
        text.push_str(&format!("Gateway={ip}\n"));
    }
    if let Some(net) = ipv6.net() {
        text.push_str(&format!("Address={net}\n"));
    }
    if let Some(Gateway { ip, on_link: false }) = ipv6.gateway() {
        text.push_str(&format!("Gateway={ip}\n"));
    }
    for address in interface.resolvers {
        text.push_str(&format!("DNS={address}\n"));
    }
    if let Some(domain) = interface.domain {
        text.push_str(&format!("Domains={domain}\n"));
    }
    let dhcp = match (ipv4.asks(), ipv6.asks()) {
        (true, true) => "yes",
        (true, false) => "ipv4",
        (false, true) => "ipv6",
        (false, false) => "no",
    };
    text.push_str(&format!("DHCP={dhcp}\nIPv6AcceptRA={}\n", yes(ipv6.asks())));
    // The host lets no other link-local address pass than that which is made of the Ethernet address.
    text.push_str(match ipv6.is_off() {
        true => "LinkLocalAddressing=no\n",
        false => "LinkLocalAddressing=ipv6\nIPv6LinkLocalAddressGenerationMode=eui64\n",
    });
    if !interface.asks() {
        text.push_str("KeepConfiguration=static\n");
    }
    for gateway in [on_link(ipv4.gateway()), on_link(ipv6.gateway())].into_iter().flatten() {
        text.push_str(&format!("\n[Route]\nGateway={gateway}\nGatewayOnLink=yes\n"));
    }
    let path = format!("/etc/systemd/network/05-nagaya-{}.network", interface.name);
    block(path, text, 0o644)
}

fn on_link<A: ToString>(gateway: Option<Gateway<A>>) -> Option<String> {
    gateway.filter(|gateway| gateway.on_link).map(|gateway| gateway.ip.to_string())
}
