//! nftables tables of our own, as plain data.

pub mod blocks;
pub mod filter;
pub mod forwarding;
pub mod nat;
pub mod owners;
pub mod phrases;
pub mod ports;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use crate::model::firewall::Plan;

/// An owner's policy and translations, in one table.
pub fn policy_table(owner: &str, plan: &Plan) -> table::Table {
    let mut table = filter::table(owner, plan);
    nat::add(&mut table, plan);
    table
}
