//! What may pass to and from containers, as plain data: the policy that people write, the plan that
//! the kernel is given, single blocked addresses, and what would become of a packet.

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

pub use address::merged;
pub use block::Block;
pub use change::Change;
pub use check::{Facts, Member, Problem, Problems, is_label};
pub use plan::Plan;
pub use policy::Policy;
