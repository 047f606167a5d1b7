//! What may pass to and from containers, as plain data: the policy that users write, the plan for the
//! kernel, blocked addresses, and what would happen to a packet.

mod address;
pub mod block;
pub mod change;
mod check;
mod covers;
pub mod difference;
pub mod duration;
#[cfg(test)]
pub(crate) mod fixture;
pub mod operator;
pub mod plan;
pub mod policy;
pub mod trace;
pub mod traffic;

pub use address::merged;
pub use block::Block;
pub use change::Change;
pub use check::{Facts, Member, Problems, is_label};
pub use plan::Plan;
pub use policy::Policy;
