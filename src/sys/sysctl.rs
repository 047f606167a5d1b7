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

/// What a bridge of ours must not believe of its guests: router advertisements (they would move
/// the host's IPv6 default route into a guest) and redirects. Duplicate address detection is off
/// because a bridge without ports has no carrier, and the address would stay tentative.
const BRIDGE_IPV6: [(&str, &str); 4] =
    [("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0"), ("accept_dad", "0")];

/// Lets the host forward IPv4. Tells whether it did not before.
pub fn enable_ipv4_forwarding() -> Result<bool, SysctlError> {
    set("/proc/sys/net/ipv4/ip_forward", "1")
}

/// Sets what a bridge must have before it is brought up. A host without IPv6 has nothing to set
/// for it. The caller has checked that `bridge` is an interface name.
pub fn harden_bridge(bridge: &str) -> Result<(), SysctlError> {
    set(&format!("/proc/sys/net/ipv4/conf/{bridge}/accept_redirects"), "0")?;
    if Path::new("/proc/sys/net/ipv6").exists() {
        for (key, value) in BRIDGE_IPV6 {
            set(&format!("/proc/sys/net/ipv6/conf/{bridge}/{key}"), value)?;
        }
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
