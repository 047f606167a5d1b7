//! Owners' firewalls: plans, which the broker's callers send and which are therefore checked again,
//! put into the kernel. One owner has the tables
//!
//! - `inet OWNER`: policy and translated addresses,
//! - `inet OWNER-blocks`: blocked addresses,
//! - `bridge OWNER`: what leads packets between neighbours through the host,
//! - `bridge OWNER-traffic` and `inet OWNER-traffic`: counts of what passed each link,
//!
//! and a part in `inet INSTANCE-owners`, by which owners are kept from one another.

use super::check::Owned;
use super::error::FirewallResult;
use super::look::matches;
use super::names::all_names;
use super::retry::retried;
use super::{links, owners, routing};
use crate::model::firewall::plan::Plan;
use crate::render::nft::{blocks as block_rules, policy_table, ports};
use crate::sys::net::nft::{self, Batch};

/// Puts the whole plan in the place of whatever was there, in one transaction. Blocks and counts of traffic
/// stay; counts of rules begin anew. Bridges must exist to have their ports routed. Returns whether the
/// table of blocks was made anew, so that the caller has to send the blocks again.
pub fn apply_all(owned: &Owned, plan: &Plan) -> FirewallResult<bool> {
    owned.check(plan)?;
    let owner = owned.owner.as_str();
    let mut anew = false;
    retried(|generation| {
        let mut batch = Batch::new().only_at(generation);
        owners::join(&mut batch, owned, plan)?;
        batch.replace(&policy_table(owner, plan));
        batch.replace(&ports::routing_table(owner, plan, &routing::macs(plan)));
        links::prune(&mut batch, owned, &links::names(&plan.containers), true)?;
        for table in ports::traffic_tables(owner, plan) {
            match nft::has_table(&table.name)? {
                false => batch.add(&table),
                true => {
                    table.elements.iter().for_each(|(set, all)| batch.add_elements(&table.name, set, all))
                }
            }
        }
        let blocks = block_rules::table(owner, plan);
        anew = !nft::has_table(&blocks.name)?;
        match !anew {
            false => batch.add(&blocks),
            true => {
                for (set, elements) in &blocks.elements {
                    batch.flush_set(&blocks.name, set);
                    batch.add_elements(&blocks.name, set, elements);
                }
            }
        }
        Ok(batch)
    })?;
    Ok(anew)
}

/// Puts the plan in place where it is not. Returns whether that had to be done.
pub fn repair(owned: &Owned, plan: &Plan) -> FirewallResult<bool> {
    owned.check(plan)?;
    if matches(owned, plan)? {
        return Ok(false);
    }
    apply_all(owned, plan)?;
    Ok(true)
}

/// Removes everything of the owner's.
pub fn remove_all(instance: &str, owner: &str) -> FirewallResult<()> {
    retried(|generation| {
        let mut batch = Batch::new().only_at(generation);
        all_names(owner).iter().for_each(|name| batch.remove(name));
        owners::leave(&mut batch, instance, owner)?;
        Ok(batch)
    })
}
