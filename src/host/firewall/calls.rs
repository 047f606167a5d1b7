//! The broker's verbs of the firewall: what callers send is read and checked, and errors are told as
//! the interface tells them.

use std::net::IpAddr;

use serde::de::DeserializeOwned;

use super::{
    BlockOrder, FirewallError, Owned, add_links, apply_all, apply_change, block_hits, remove_all,
    remove_container, rule_counts, traffic,
};
use crate::host::interface::HostError;
use crate::model::firewall::plan::{LinkPlan, Plan};
use crate::model::firewall::{Change, block as blocks};
use crate::model::grant::Grant;
use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::sys::error_text;

/// Longest plan, in bytes.
const MAX_JSON: usize = 64 << 20;

fn read<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, HostError> {
    let refused = |why: String| HostError::Refused(format!("that is not {what}: {why}"));
    if text.len() > MAX_JSON {
        return Err(refused(format!("it is longer than {MAX_JSON} bytes")));
    }
    serde_json::from_str(text).map_err(|e| refused(e.to_string()))
}

fn told(error: FirewallError) -> HostError {
    match error {
        FirewallError::Refused(why) => HostError::Refused(why),
        other => HostError::Failed(error_text(&other)),
    }
}

/// Whether it was in place.
fn in_place(done: Result<(), FirewallError>) -> Result<bool, HostError> {
    match done {
        Ok(()) => Ok(true),
        Err(FirewallError::NotInPlace) => Ok(false),
        Err(e) => Err(told(e)),
    }
}

fn owned_of(instance: &Instance, grant: Option<&Grant>, plan: &Plan) -> Result<Owned, HostError> {
    let links = plan.containers.iter().flat_map(|container| &container.links);
    Owned::of(instance, grant, &plan.networks, links).map_err(|e| HostError::Failed(error_text(&e)))
}

fn owned_links(instance: &Instance, grant: Option<&Grant>, links: &[LinkPlan]) -> Result<Owned, HostError> {
    Owned::of(instance, grant, &[], links.iter()).map_err(|e| HostError::Failed(error_text(&e)))
}

pub fn apply(instance: &Instance, grant: Option<&Grant>, plan: &str) -> Result<bool, HostError> {
    let plan: Plan = read(plan, "a plan of a firewall")?;
    apply_all(&owned_of(instance, grant, &plan)?, &plan).map_err(told)
}

pub fn repair(instance: &Instance, grant: Option<&Grant>, plan: &str) -> Result<bool, HostError> {
    let plan: Plan = read(plan, "a plan of a firewall")?;
    super::repair(&owned_of(instance, grant, &plan)?, &plan).map_err(told)
}

pub fn change(instance: &Instance, grant: Option<&Grant>, change: &str) -> Result<bool, HostError> {
    let change: Change = read(change, "a change of a firewall")?;
    let links = change.containers.iter().flat_map(|container| &container.links);
    let owned = Owned::of(instance, grant, &change.networks, links);
    let owned = owned.map_err(|e| HostError::Failed(error_text(&e)))?;
    in_place(apply_change(&owned, &change))
}

pub fn links(
    instance: &Instance,
    grant: Option<&Grant>,
    id: &ContainerId,
    links: &str,
    routed: &str,
) -> Result<bool, HostError> {
    let links: Vec<LinkPlan> = read(links, "a list of links")?;
    let routed: Vec<String> = read(routed, "a list of bridges")?;
    in_place(add_links(&owned_links(instance, grant, &links)?, id, &links, &routed))
}

pub fn forget(
    instance: &Instance,
    grant: Option<&Grant>,
    id: &ContainerId,
    links: &str,
    addresses: &str,
) -> Result<(), HostError> {
    let links: Vec<String> = read(links, "a list of links")?;
    let addresses: Vec<IpAddr> = read(addresses, "a list of addresses")?;
    remove_container(&owned_links(instance, grant, &[])?, id, &links, &addresses).map_err(told)
}

pub fn block(
    instance: &Instance,
    grant: Option<&Grant>,
    add: &[u8],
    remove: &[u8],
    members: &str,
) -> Result<bool, HostError> {
    let list = |bytes| {
        let list = blocks::decode(bytes);
        list.ok_or_else(|| HostError::Refused("that is not a list of blocks".to_owned()))
    };
    let members = read(members, "a list of containers' addresses")?;
    let order = BlockOrder { add: list(add)?, remove: list(remove)?, members };
    in_place(super::block(&owned_links(instance, grant, &[])?, &order))
}

pub fn counts(instance: &Instance, what: &str) -> Result<String, HostError> {
    let owner = instance.nft_table();
    let text = match what {
        "traffic" => serde_json::to_string(&traffic(&owner).map_err(told)?),
        "rules" => serde_json::to_string(&rule_counts(&owner).map_err(told)?),
        "blocks" => serde_json::to_string(&block_hits(&owner).map_err(told)?),
        _ => return Err(HostError::Refused(format!("nothing is counted of '{what}'"))),
    };
    text.map_err(|e| HostError::Failed(e.to_string()))
}

pub fn remove(instance: &Instance) -> Result<(), HostError> {
    remove_all(instance.name(), &instance.nft_table()).map_err(told)
}
