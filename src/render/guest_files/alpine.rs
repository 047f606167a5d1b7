//! Alpine's networking service: busybox's ifupdown, and ifupdown-ng which reads the same.

use super::ifupdown;
use super::interface::{Interface, Setting};
use super::phrases::block;
use crate::model::guest_file::GuestFile;

/// busybox knows no `inet6 auto` or `dhcp` and takes one that it does not know for an error in the
/// whole file; nor does it keep the kernel from making addresses of advertisements. It fails to give
/// `lo` the address that the kernel has given it.
pub fn file(interfaces: &[Interface<'_>]) -> GuestFile {
    let mut text = String::from(
        "\
         auto lo\n\
         iface lo inet loopback\n    \
             pre-up ip addr del 127.0.0.1/8 dev lo 2>/dev/null || true\n",
    );
    for interface in interfaces {
        let name = interface.name;
        text.push_str(&format!("\nauto {name}\n"));
        text.push_str(&ifupdown::ipv4(interface, "dhcp"));
        match interface.ipv6 {
            Setting::Asks => {
                text.push_str(&format!("iface {name} inet6 manual\n"));
                text.push_str(&accept_ra(name, 1));
                text.push_str(&format!("    up ip link set dev {name} up\n"));
            }
            Setting::Static { net, gateway } => {
                text.push_str(&ifupdown::ipv6(name, net, gateway));
                text.push_str(&accept_ra(name, 0));
            }
            Setting::Off => {}
        }
    }
    block(ifupdown::PATH, text, 0o644)
}

fn accept_ra(name: &str, value: u8) -> String {
    format!("    pre-up echo {value} >/proc/sys/net/ipv6/conf/{name}/accept_ra || true\n")
}
