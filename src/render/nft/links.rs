//! The interfaces by which an owner's packets come and go.

use crate::model::firewall::Plan;
use crate::model::firewall::plan::{ContainerPlan, LinkPlan};

/// Interfaces by which an owner's packets come and go.
pub const LINKS: &str = "links";

/// The interfaces that an owner's packets pass: bridges, and host links that are no ports of one.
pub fn links(plan: &Plan) -> impl Iterator<Item = &str> {
    let bridges = plan.networks.iter().map(|network| network.bridge.as_str());
    bridges.chain(plan.containers.iter().flat_map(routed_links))
}

/// Host ends that are no ports.
fn routed_links(container: &ContainerPlan) -> impl Iterator<Item = &str> {
    let alone = |link: &&LinkPlan| link.bridge.is_none();
    container.links.iter().filter(alone).map(|link| link.link.as_str())
}
