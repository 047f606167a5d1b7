//! nftables, by netlink and without a program: changes in batches, questions, and what others change.

mod batch;
mod chains;
mod error;
mod expression;
#[cfg(test)]
mod firewall_tests;
mod listing;
mod lookup;
mod message;
mod uapi;
mod watch;

pub use batch::Batch;
pub use chains::{BaseChain, BaseHook, chains};
pub use error::NftError;
pub use listing::{FoundSet, elements, generation, has_table, rule_count, rules, sets};
pub use lookup::{ElementName, chain_uses, elements_named};
pub use watch::{Change, Kind, Transaction, Watch};
