//! Owners' firewalls, checked and put into the kernel.

mod apply;
mod blocks;
mod bounds;
mod change;
mod check;
mod error;
mod forwards;
mod links;
mod look;
mod names;
mod owners;
#[cfg(test)]
mod packet_tests;
mod retry;
mod routing;

pub use apply::{apply_all, remove_all, repair};
pub use blocks::{BlockOrder, block, block_hits};
pub use bounds::Bounds;
pub use change::{apply_change, remove_container};
pub use check::{Owned, Ports};
pub use error::FirewallError;
pub use forwards::leads_to;
pub use links::add_links;
pub use look::{is_in_place, rule_counts, traffic};
