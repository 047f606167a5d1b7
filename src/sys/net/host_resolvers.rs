//! The host's resolvers, as far as others can ask them.

use std::net::IpAddr;

use crate::render::guest_files;

/// The resolvers that listen on more than the host's loopback.
pub fn usable() -> Vec<IpAddr> {
    guest_files::resolvers(|path| std::fs::read_to_string(path).ok())
}

/// Whether the host has resolvers, and guests can reach none of them.
pub fn are_kept_to_host() -> bool {
    let own = || std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    usable().is_empty() && guest_files::asks_on_loopback(&own())
}
