//! nftables tables of our own, as plain data.

pub mod blocks;
pub mod filter;
pub mod forwarding;
pub mod links;
pub mod nat;
pub mod owners;
pub mod phrases;
mod policy;
pub mod ports;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;
mod text;

pub use policy::policy_table;
