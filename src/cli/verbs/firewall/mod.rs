//! `firewall` and the verbs below it.

mod apply;
mod blocks;
mod caution;
mod groups;
pub(super) mod rules;
mod sets;
mod verb;

pub use caution::caution;
pub use verb::{FirewallArgs, run};
