//! Files on their way into a guest's tree and out of it. Two processes work on one stream: one reads a tree, the other
//! writes one. Neither trusts what the other sends, and each works below directories that it holds open: what is on
//! either side a link, or becomes one meanwhile, is never followed.

mod agent;
mod frame;
mod pack;
mod target;
#[cfg(test)]
mod tests;
mod trouble;
mod unpack;

pub use agent::{refuse, serve};
pub use frame::Meta;
pub use pack::Packer;
pub use trouble::Trouble;
pub use unpack::{Base, Owners, Rules, unpack, unpack_to};
