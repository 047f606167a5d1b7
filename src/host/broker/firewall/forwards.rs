//! Ports of the host's that lead to guests, as the kernel has them.

use std::net::IpAddr;

use super::error::FirewallResult;
use super::names::policy_name;
use crate::render::nft::nat;
use crate::render::nft::table::address_bytes;
use crate::sys::net::nft;

/// Whether a port of the host's leads to one of these addresses.
pub fn leads_to(owner: &str, addresses: &[IpAddr]) -> FirewallResult<bool> {
    let table = policy_name(owner);
    for v4 in [true, false] {
        let own: Vec<Vec<u8>> =
            addresses.iter().filter(|ip| ip.is_ipv4() == v4).map(|ip| address_bytes(*ip)).collect();
        if own.is_empty() {
            continue;
        }
        for map in nat::maps(v4) {
            let found = nft::elements(&table, map)?.unwrap_or_default();
            if found.iter().filter_map(|f| f.value.as_ref()).any(|to| own.iter().any(|ip| to.starts_with(ip)))
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
