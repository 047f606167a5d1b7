//! Containers' links, and the ports of bridges whose packets are led through the host.

use std::collections::BTreeMap;

use super::{FirewallError, FirewallResult, Owned, is_in_place, policy_name, retried, traffic_names};
use crate::model::firewall::plan::{LinkPlan, Plan};
use crate::model::mac::Mac;
use crate::model::name::ContainerId;
use crate::render::nft::blocks as block_rules;
use crate::render::nft::owners as owner_rules;
use crate::render::nft::phrases;
use crate::render::nft::ports;
use crate::render::nft::table::{Element, TableName};
use crate::sys::hardware_address;
use crate::sys::nft::{self, Batch};

/// Makes a container's links known: before its every start. Of those that are known already nothing
/// changes.
pub fn add_links(owned: &Owned, id: &ContainerId, links: &[LinkPlan]) -> FirewallResult<()> {
    owned.check_links(id, links)?;
    retried(|generation| {
        if !is_in_place(&owned.instance, &owned.owner)? {
            return Err(FirewallError::NotInPlace);
        }
        let mut batch = Batch::new().only_at(generation);
        add_elements(&mut batch, owned, links)?;
        Ok(batch)
    })
}

/// The Ethernet addresses of the bridges whose ports are to be routed: those that they will have, where
/// they are not there yet.
pub(super) fn macs(plan: &Plan) -> BTreeMap<String, Mac> {
    let routed = plan.networks.iter().filter(|network| network.routed);
    let mac = |bridge: &str| {
        hardware_address::of(bridge).unwrap_or_else(|| hardware_address::of_new_bridge(bridge))
    };
    routed.map(|network| (network.bridge.clone(), mac(&network.bridge))).collect()
}

/// The bridge's address, if its ports are led to the host.
fn routing(owner: &str, bridge: &str) -> FirewallResult<Option<Mac>> {
    let Some(mac) = hardware_address::of(bridge) else { return Ok(None) };
    let chain = ports::routing_chain(bridge, mac);
    Ok((nft::rule_count(&TableName::bridge(owner), &chain)? > 0).then_some(mac))
}

pub(super) fn add_elements(batch: &mut Batch, owned: &Owned, links: &[LinkPlan]) -> FirewallResult<()> {
    let owner = owned.owner.as_str();
    let [of_ports, of_links] = traffic_names(owner);
    for link in links {
        let element = [Element::link(&link.link)];
        let traffic = if link.bridge.is_some() { &of_ports } else { &of_links };
        batch.add_elements(traffic, ports::SENT, &element);
        batch.add_elements(traffic, ports::RECEIVED, &element);
        match &link.bridge {
            None => {
                batch.add_elements(&policy_name(owner), phrases::LINKS, &element);
                batch.add_elements(&block_rules::table_name(owner), phrases::LINKS, &element);
                let table = owner_rules::table_name(&owned.instance);
                for (set, element) in owner_rules::elements(owner, &link.link) {
                    batch.add_elements(&table, &set, &[element]);
                }
            }
            Some(bridge) => route_port(batch, owner, link, bridge)?,
        }
    }
    Ok(())
}

/// A port of a bridge whose other ports are routed is routed too; one that has moved from another
/// bridge no longer as it was there.
fn route_port(batch: &mut Batch, owner: &str, link: &LinkPlan, bridge: &str) -> FirewallResult<()> {
    let table = TableName::bridge(owner);
    let key = Element::link(&link.link).key;
    let found = nft::element(&table, ports::ROUTED, &key)?;
    let mac = routing(owner, bridge)?;
    let wanted = mac.map(|mac| ports::routing_chain(bridge, mac));
    match found {
        Some(f) if f.chain == wanted => return Ok(()),
        Some(_) => batch.delete_elements(&table, ports::ROUTED, &[Element::new(key)]),
        None => {}
    }
    if let Some(mac) = mac {
        batch.add_elements(&table, ports::ROUTED, &[ports::port_element(&link.link, bridge, mac)]);
    }
    Ok(())
}
