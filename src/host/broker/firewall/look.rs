//! What the kernel has of owners' firewalls.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Owned;
use super::error::FirewallResult;
use super::names::{policy_name, traffic_names};
use super::routing::macs;
use crate::model::firewall::plan::Plan;
use crate::model::firewall::traffic::{RuleCount, Traffic};
use crate::render::nft::table::{Element, ElementValue, Table, Verdict};
use crate::render::nft::{blocks as block_rules, links, owners as owner_rules, policy_table, ports};
use crate::sys::net::nft;

/// What has passed the owner's links.
pub fn traffic(owner: &str) -> FirewallResult<BTreeMap<String, Traffic>> {
    let mut all: BTreeMap<String, Traffic> = BTreeMap::new();
    for table in traffic_names(owner) {
        for (set, sent) in [(ports::SENT, true), (ports::RECEIVED, false)] {
            for found in nft::elements(&table, set)?.unwrap_or_default() {
                let name: Vec<u8> = found.key.iter().copied().take_while(|byte| *byte != 0).collect();
                let traffic = all.entry(String::from_utf8_lossy(&name).into_owned()).or_default();
                let count = found.count.unwrap_or_default();
                match sent {
                    true => (traffic.sent_packets, traffic.sent_bytes) = (count.packets, count.bytes),
                    false => {
                        (traffic.received_packets, traffic.received_bytes) = (count.packets, count.bytes)
                    }
                }
            }
        }
    }
    Ok(all)
}

/// What the owner's rules and defaults have decided.
pub fn rule_counts(owner: &str) -> FirewallResult<Vec<RuleCount>> {
    let mut all: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for rule in nft::rules(&policy_name(owner))? {
        if let (Some(comment), Some(count)) = (rule.comment, rule.count) {
            let sum = all.entry((rule.chain, comment)).or_default();
            *sum = (sum.0 + count.packets, sum.1 + count.bytes);
        }
    }
    let one = |((chain, rule), (packets, bytes))| RuleCount { chain, rule, packets, bytes };
    Ok(all.into_iter().map(one).collect())
}

/// Whether the owner's tables exist, and the rules that lead into them. It costs the same however much they
/// hold, and does not look at what they hold.
pub fn is_in_place(instance: &str, owner: &str) -> FirewallResult<bool> {
    // Base chains have at least these rules, whatever the plan.
    let nothing = Plan::default();
    let mut tables = vec![owner_rules::table(instance), policy_table(owner, &nothing)];
    tables.push(block_rules::table(owner, &nothing));
    tables.push(ports::routing_table(owner, &nothing, &BTreeMap::new()));
    tables.extend(ports::traffic_tables(owner, &nothing));
    leads_in(&tables)
}

/// Whether the base chains of these tables exist, each with as many rules at least.
pub fn leads_in(tables: &[Table]) -> FirewallResult<bool> {
    let bases = |table: &'_ Table| -> Vec<_> {
        let leading = table.chains.iter().filter(|chain| chain.base.is_some() && !chain.rules.is_empty());
        leading.map(|chain| (table.name.clone(), chain.name.clone(), chain.rules.len())).collect()
    };
    let wanted: Vec<_> = tables.iter().flat_map(bases).collect();
    let names: Vec<_> = wanted.iter().map(|(table, chain, _)| (table, chain.as_str())).collect();
    // Nothing can jump to a base chain, so its uses are its rules.
    let uses = nft::chain_uses(&names)?;
    Ok(wanted.iter().zip(uses).all(|((.., rules), uses)| uses.is_some_and(|uses| uses >= *rules)))
}

/// Whether every chain has as many rules in the kernel as the plan asks for, and every set and map has the
/// same elements. That is what can be compared without the nft program.
pub fn matches(owned: &Owned, plan: &Plan) -> FirewallResult<bool> {
    let owner = owned.owner.as_str();
    if !is_in_place(&owned.instance, owner)? || !matches_owners(owned, plan)? {
        return Ok(false);
    }
    let routing = ports::routing_table(owner, plan, &macs(plan));
    Ok(matches_table(&policy_table(owner, plan))? && matches_table(&routing)?)
}

fn matches_owners(owned: &Owned, plan: &Plan) -> FirewallResult<bool> {
    let owner = owned.owner.as_str();
    let table = owner_rules::table_name(&owned.instance);
    let own: BTreeSet<Vec<u8>> = links::links(plan).map(|link| Element::link(link).key).collect();
    let held = |set: &str| -> FirewallResult<BTreeSet<Vec<u8>>> {
        Ok(nft::elements(&table, set)?.unwrap_or_default().into_iter().map(|f| f.key).collect())
    };
    let chain = owner_rules::own_chain(owner);
    let led = nft::elements(&table, owner_rules::OWNERS)?.unwrap_or_default().into_iter();
    let led: BTreeSet<Vec<u8>> =
        led.filter(|found| found.chain.as_ref() == Some(&chain.name)).map(|found| found.key).collect();
    let rules = nft::rules(&table)?.iter().filter(|rule| rule.chain == chain.name).count();
    Ok(rules == chain.rules.len()
        && held(&owner_rules::own_set(owner).name)? == own
        && held(owner_rules::ALL)?.is_superset(&own)
        && led.is_superset(&own))
}

fn matches_table(table: &Table) -> FirewallResult<bool> {
    let written = table.chains.iter().filter(|chain| !chain.rules.is_empty());
    let wanted: BTreeMap<String, usize> = written.map(|c| (c.name.clone(), c.rules.len())).collect();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for rule in nft::rules(&table.name)? {
        *found.entry(rule.chain).or_default() += 1;
    }
    if wanted != found {
        return Ok(false);
    }
    for set in &table.sets {
        let own = table.elements.iter().filter(|(name, _)| *name == set.name).flat_map(|(_, all)| all);
        let wanted: BTreeSet<Entry<'_>> = own.map(entry).collect();
        let Some(found) = nft::elements(&table.name, &set.name)? else { return Ok(false) };
        if wanted != found.iter().map(|f| (&*f.key, f.chain.as_deref(), f.value.as_deref())).collect() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An element's key, and the chain or else the value that it leads to.
type Entry<'a> = (&'a [u8], Option<&'a str>, Option<&'a [u8]>);

fn entry(element: &Element) -> Entry<'_> {
    let (chain, value) = match &element.value {
        Some(ElementValue::Verdict(Verdict::Jump(chain))) => (Some(chain.as_str()), None),
        Some(ElementValue::Bytes(bytes)) => (None, Some(bytes.as_slice())),
        Some(ElementValue::Verdict(_)) | None => (None, None),
    };
    (&element.key, chain, value)
}
