//! The table by which owners are kept from one another, which all of an instance's share.

use super::check::Owned;
use super::error::FirewallResult;
use super::look::leads_in;
use crate::model::firewall::plan::Plan;
use crate::render::nft::links::links;
use crate::render::nft::owners as rules;
use crate::render::nft::table::Element;
use crate::sys::net::nft::{self, Batch};

/// Makes the list of the owner's interfaces hold exactly those of the plan.
pub fn join(batch: &mut Batch, owned: &Owned, plan: &Plan) -> FirewallResult<()> {
    let (instance, owner) = (owned.instance.as_str(), owned.owner.as_str());
    let table = rules::table_name(instance);
    if nft::has_table(&table)? {
        forget_links(batch, instance, owner)?;
    }
    // What others have left of the table is no reason to take it for whole.
    let whole = rules::table(instance);
    if !leads_in(std::slice::from_ref(&whole))? {
        batch.add(&whole);
    }
    batch.add_set(&table, &rules::own_set(owner));
    batch.put_chain(&table, &rules::own_chain(owner));
    for link in links(plan) {
        for (set, element) in rules::elements(owner, link) {
            batch.add_elements(&table, &set, &[element]);
        }
    }
    Ok(())
}

/// Removes the owner, and with the last owner the table.
pub fn leave(batch: &mut Batch, instance: &str, owner: &str) -> FirewallResult<()> {
    let table = rules::table_name(instance);
    if !nft::has_table(&table)? {
        return Ok(());
    }
    forget_links(batch, instance, owner)?;
    batch.add_chain(&table, &rules::own_chain(owner));
    batch.delete_chain(&table, &rules::own_chain(owner).name);
    batch.add_set(&table, &rules::own_set(owner));
    batch.delete_set(&table, &rules::own_set(owner).name);
    let all = nft::elements(&table, rules::ALL)?.unwrap_or_default();
    let own = nft::elements(&table, &rules::own_set(owner).name)?.unwrap_or_default();
    if all.len() == own.len() {
        batch.remove(&table);
    }
    Ok(())
}

fn forget_links(batch: &mut Batch, instance: &str, owner: &str) -> FirewallResult<()> {
    let table = rules::table_name(instance);
    let own = rules::own_set(owner).name;
    let found = nft::elements(&table, &own)?.unwrap_or_default();
    let elements: Vec<_> = found.into_iter().map(|found| Element::new(found.key)).collect();
    for set in [own.as_str(), rules::ALL, rules::OWNERS] {
        batch.delete_elements(&table, set, &elements);
    }
    Ok(())
}
