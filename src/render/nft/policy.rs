//! An owner's own table.

use super::table::Table;
use super::{filter, nat};
use crate::model::firewall::Plan;

/// An owner's policy and translations, in one table.
pub fn policy_table(owner: &str, plan: &Plan) -> Table {
    let mut table = filter::table(owner, plan);
    nat::add(&mut table, plan);
    table
}
