//! The bridges whose ports' packets are led through the host.

use std::collections::BTreeMap;

use super::error::FirewallResult;
use crate::model::firewall::plan::Plan;
use crate::model::mac::Mac;
use crate::render::nft::ports;
use crate::render::nft::table::TableName;
use crate::sys::net::{hardware_address, nft};

/// The Ethernet addresses of the bridges whose ports are to be routed: those that they will have, where
/// they are not there yet.
pub fn macs(plan: &Plan) -> BTreeMap<String, Mac> {
    let routed = plan.networks.iter().filter(|network| network.routed);
    let mac = |bridge: &str| {
        hardware_address::of(bridge).unwrap_or_else(|| hardware_address::of_new_bridge(bridge))
    };
    routed.map(|network| (network.bridge.clone(), mac(&network.bridge))).collect()
}

/// The bridge's address, if its ports are led to the host.
pub fn led_by(owner: &str, bridge: &str) -> FirewallResult<Option<Mac>> {
    let Some(mac) = hardware_address::of(bridge) else { return Ok(None) };
    let chain = ports::routing_chain(bridge, mac);
    Ok((nft::rule_count(&TableName::bridge(owner), &chain)? > 0).then_some(mac))
}
