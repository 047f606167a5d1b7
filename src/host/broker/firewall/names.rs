//! The names of an owner's tables.

use crate::render::nft::table::TableName;
use crate::render::nft::{blocks, ports};

pub fn policy_name(owner: &str) -> TableName {
    TableName::inet(owner)
}

pub fn traffic_names(owner: &str) -> [TableName; 2] {
    let name = ports::traffic_name(owner);
    [TableName::bridge(name.clone()), TableName::inet(name)]
}

pub fn all_names(owner: &str) -> Vec<TableName> {
    let mut names = vec![policy_name(owner), blocks::table_name(owner), TableName::bridge(owner)];
    names.extend(traffic_names(owner));
    names
}
