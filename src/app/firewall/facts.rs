//! What a plan of the firewall is made from: the containers and networks that there are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::model::container::{Container, Phase};
use crate::model::firewall::{Block, Facts, Member, Plan, Policy};
use crate::model::name::{ContainerId, Name};
use crate::model::nic::Nic;
use crate::sys::kernel::clock::now;

/// Leaves out containers that are being deleted: the kernel may have forgotten them, and nobody would
/// remove them again.
pub(super) fn facts(app: &App) -> AppResult<Facts> {
    facts_with(app, None)
}

/// The same, with one container that is being deleted.
pub(super) fn facts_with(app: &App, deleted: Option<&ContainerId>) -> AppResult<Facts> {
    let mut containers = app.store.containers()?;
    containers.retain(|c| c.phase != Phase::Deleting || Some(&c.id) == deleted);
    let containers = containers.into_iter().map(|container| member(app, container)).collect();
    Ok(Facts { networks: app.store.networks()?, containers })
}

pub(super) fn member(app: &App, container: Container) -> Member {
    let link = |nic: &Nic| (app.instance.host_link(&container.id, nic.slot), nic.clone());
    Member { nics: container.nics.iter().map(link).collect(), id: container.id, name: container.name }
}

/// Routes packets between neighbours where blocks are about them.
pub(super) fn routed(mut plan: Plan, blocks: &[Block]) -> Plan {
    let each = blocks.iter().map(|block| (block.address, block.container.as_ref().map(Name::as_str)));
    plan.route_for_blocks(each);
    plan
}

/// The plan that the kernel has to have.
pub(super) fn wanted(app: &App) -> AppResult<Plan> {
    let blocks = app.store.blocks(now())?;
    Ok(routed(Plan::of_stored(&app.store.policy()?, &facts(app)?), &blocks))
}

/// Containers that have blocks of their own, with the addresses at which the host sees them.
pub(super) fn addressed(facts: &Facts, blocks: &[Block]) -> Vec<(ContainerId, Vec<IpAddr>)> {
    let alone: BTreeSet<&Name> = blocks.iter().filter_map(|block| block.container.as_ref()).collect();
    if alone.is_empty() {
        return Vec::new();
    }
    let plan = Plan::of_stored(&Policy::default(), facts);
    let own = plan.containers.into_iter().filter(|container| alone.contains(&container.name));
    own.map(|container| (container.id, container.addresses)).collect()
}
