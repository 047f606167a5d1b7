//! How much of a firewall an ordinary user has the kernel keep. Calls change a firewall piece by
//! piece, under names that the caller gives, so it is not enough to bound each call: what the kernel
//! has already counts too.

use std::collections::BTreeSet;

use super::error::{FirewallError, FirewallResult};
use super::names::policy_name;
use crate::model::firewall::Change;
use crate::model::firewall::plan::{ContainerPlan, ForwardPlan, GroupPlan, NetworkPlan, Plan, RulesPlan};
use crate::model::firewall::policy::Direction;
use crate::model::nic::MOST_NICS;
use crate::render::nft::filter;
use crate::sys::net::nft;

/// Addresses of one container: each interface has one of each family.
pub const MOST_ADDRESSES: usize = 2 * MOST_NICS as usize;
const MOST_GROUPS: usize = 64;
const MOST_SETS: usize = 64;
/// Subnets in all sets together.
const MOST_NETS: usize = 65_536;
/// Rules of one container, group or network, with the addresses, ports and sets that they name.
const MOST_RULES: usize = 2048;
const MOST_FORWARDS: usize = 4096;

/// What an ordinary user's firewall may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Containers that may have rules.
    pub containers: usize,
}

fn at_most(number: usize, most: usize, what: &str) -> FirewallResult<()> {
    match number <= most {
        true => Ok(()),
        false => {
            Err(FirewallError::Refused(format!("{number} {what} are more than the {most} that you can have")))
        }
    }
}

fn weight(rules: &RulesPlan) -> usize {
    let rules = rules.inward.iter().chain(&rules.outward);
    rules.map(|rule| 1 + rule.nets.len() + rule.ports.len() + rule.sets.len()).sum()
}

impl Bounds {
    /// Checks a whole plan. Errors: it holds more than an ordinary user may have.
    pub fn check(self, plan: &Plan) -> FirewallResult<()> {
        at_most(plan.sets.len(), MOST_SETS, "sets")?;
        at_most(plan.sets.values().map(Vec::len).sum(), MOST_NETS, "subnets in sets")?;
        self.check_parts(&plan.containers, &plan.groups, &plan.networks)?;
        Self::check_forwards(&plan.forwards)
    }

    /// Checks the change by itself; `check_kept` checks what it adds to.
    pub fn check_change(self, change: &Change) -> FirewallResult<()> {
        self.check_parts(&change.containers, &change.groups, &change.networks)?;
        Self::check_forwards(change.forwards.as_deref().unwrap_or_default())?;
        at_most(change.gone_sets.len(), MOST_SETS, "sets")?;
        at_most(change.gone_groups.len(), MOST_GROUPS, "groups")?;
        at_most(change.gone_containers.len(), self.containers, "containers")?;
        at_most(change.former.len(), 2 * self.containers, "containers")?;
        change.former.iter().try_for_each(|(_, ips)| at_most(ips.len(), MOST_ADDRESSES, "addresses"))
    }

    fn check_parts(
        self,
        containers: &[ContainerPlan],
        groups: &[GroupPlan],
        networks: &[NetworkPlan],
    ) -> FirewallResult<()> {
        at_most(containers.len(), self.containers, "containers")?;
        at_most(groups.len(), MOST_GROUPS, "groups")?;
        for container in containers {
            at_most(container.groups.len(), MOST_GROUPS, "groups of one container")?;
        }
        let of_containers = containers.iter().map(|container| &container.rules);
        let rules =
            of_containers.chain(groups.iter().map(|g| &g.rules)).chain(networks.iter().map(|n| &n.rules));
        rules.into_iter().try_for_each(|rules| at_most(weight(rules), MOST_RULES, "rules in one place"))
    }

    fn check_forwards(forwards: &[ForwardPlan]) -> FirewallResult<()> {
        at_most(forwards.len(), MOST_FORWARDS, "forwards")
    }

    /// Whether the owner's table, which is there, may hold what the change adds to it.
    pub fn check_kept(self, owner: &str, change: &Change) -> FirewallResult<()> {
        let table = policy_name(owner);
        if !change.sets.is_empty() {
            let names = |name: &str| [true, false].map(|v4| filter::address_set(name, v4));
            let replaced: BTreeSet<String> =
                change.sets.keys().chain(&change.gone_sets).flat_map(|n| names(n)).collect();
            let (mut sets, mut nets) = (BTreeSet::new(), change.sets.values().map(Vec::len).sum::<usize>());
            for set in nft::sets(&table)? {
                let Some(name) = filter::name_of_set(&set.name).filter(|_| !replaced.contains(&set.name))
                else {
                    continue;
                };
                sets.insert(name.to_owned());
                nets += set.ranges(&table)?;
            }
            at_most(sets.len() + change.sets.len(), MOST_SETS, "sets")?;
            at_most(nets, MOST_NETS, "subnets in sets")?;
        }
        if change.groups.is_empty() && change.containers.iter().all(|container| !container.has_policy()) {
            return Ok(());
        }
        let (groups, containers) = kept_chains(owner, change)?;
        at_most(groups, MOST_GROUPS, "groups")?;
        at_most(containers, self.containers, "containers with rules")
    }
}

/// How many groups and containers have chains once the change is made.
fn kept_chains(owner: &str, change: &Change) -> FirewallResult<(usize, usize)> {
    let chains = nft::chains()?.into_iter().filter(|chain| chain.family == "inet" && chain.table == owner);
    let mut names: BTreeSet<String> = chains.map(|chain| chain.name).collect();
    let of_containers = change.containers.iter().map(|container| &container.id);
    let groups = change.groups.iter().map(|group| &group.name);
    names.extend(of_containers.map(|id| filter::container_chain(id, Direction::In)));
    names.extend(groups.map(|name| filter::group_chain(name, Direction::In)));
    for id in &change.gone_containers {
        names.remove(&filter::container_chain(id, Direction::In));
    }
    for name in &change.gone_groups {
        names.remove(&filter::group_chain(name, Direction::In));
    }
    let of = |kind: &str| {
        let end = format!("-{}", Direction::In.as_str());
        names.iter().filter(|name| name.starts_with(kind) && name.ends_with(&end)).count()
    };
    Ok((of("g-"), of("c-")))
}
