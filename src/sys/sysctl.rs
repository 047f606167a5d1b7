//! Kernel settings below /proc/sys/net, which show those of the calling thread's network
//! namespace.

use std::io;
use std::path::Path;

/// A kernel setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    #[error("cannot read {path}")]
    Read { path: String, source: io::Error },
    #[error("cannot write {value} to {path}")]
    Write { path: String, value: &'static str, source: io::Error },
}

const IPV6: &str = "/proc/sys/net/ipv6";

/// What a bridge of ours must not believe of its guests: router advertisements (they would move
/// the host's IPv6 default route into a guest) and redirects. Duplicate address detection is off
/// because a bridge without ports has no carrier, and the address would stay tentative.
const BRIDGE_IPV6: [(&str, &str); 4] =
    [("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0"), ("accept_dad", "0")];

/// What the host's end of a routed link must not believe of its guest, and that its packets go on.
const ROUTED_IPV6: [(&str, &str); 4] =
    [("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0"), ("forwarding", "1")];

/// Whether the kernel has IPv6.
pub fn has_ipv6() -> bool {
    Path::new(IPV6).exists()
}

/// Lets the host forward IPv4. Tells whether it did not before.
pub fn enable_ipv4_forwarding() -> Result<bool, SysctlError> {
    set("/proc/sys/net/ipv4/ip_forward", "1")
}

/// Sets what a bridge must have before it is brought up. A host without IPv6 has nothing to set
/// for it; one that has it switched off for new links gets it where the network needs it. The caller has
/// checked that `bridge` is an interface name.
pub fn harden_bridge(bridge: &str, ipv6: bool) -> Result<(), SysctlError> {
    set(&format!("/proc/sys/net/ipv4/conf/{bridge}/accept_redirects"), "0")?;
    if has_ipv6() {
        set_all(bridge, &BRIDGE_IPV6)?;
        if ipv6 {
            set_all(bridge, &[("disable_ipv6", "0")])?;
        }
    }
    Ok(())
}

/// The same for the host's end of a routed link.
pub fn harden_routed(link: &str) -> Result<(), SysctlError> {
    set(&format!("/proc/sys/net/ipv4/conf/{link}/accept_redirects"), "0")?;
    set(&format!("/proc/sys/net/ipv4/conf/{link}/forwarding"), "1")?;
    match has_ipv6() {
        true => set_all(link, &ROUTED_IPV6),
        false => Ok(()),
    }
}

/// Keeps a guest's interface, whose IPv6 address is given to it, from making itself another out of a
/// router's advertisement.
pub fn ignore_routers(link: &str) -> Result<(), SysctlError> {
    match has_ipv6() {
        true => set_all(link, &[("accept_ra", "0"), ("autoconf", "0")]),
        false => Ok(()),
    }
}

/// Lets the host answer neighbour solicitations for addresses of others on a link.
pub fn enable_proxy_ndp(link: &str) -> Result<(), SysctlError> {
    set_all(link, &[("proxy_ndp", "1")])
}

fn set_all(link: &str, values: &[(&str, &'static str)]) -> Result<(), SysctlError> {
    for (key, value) in values {
        set(&format!("{IPV6}/conf/{link}/{key}"), value)?;
    }
    Ok(())
}

/// Writes only what differs: where /proc/sys is read-only, a host set up by its administrator
/// still works.
fn set(path: &str, value: &'static str) -> Result<bool, SysctlError> {
    let found = std::fs::read_to_string(path)
        .map_err(|source| SysctlError::Read { path: path.to_owned(), source })?;
    if found.trim() == value {
        return Ok(false);
    }
    std::fs::write(path, value).map_err(|source| SysctlError::Write {
        path: path.to_owned(),
        value,
        source,
    })?;
    tracing::debug!(path, value, was = found.trim(), "kernel setting changed");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns_fixture::in_new_netns;

    #[test]
    fn forwarding_is_written_once() {
        in_new_netns(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
            assert!(enable_ipv4_forwarding().unwrap());
            assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "1\n");
            assert!(!enable_ipv4_forwarding().unwrap());
        });
    }

    #[test]
    fn a_missing_setting_is_named() {
        let error = set("/proc/sys/net/ipv4/no_such_key", "1").unwrap_err();
        assert_eq!(error.to_string(), "cannot read /proc/sys/net/ipv4/no_such_key");
    }
}
