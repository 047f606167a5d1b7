//! The claims registry: what the broker has given to whom.

pub mod holdings;
pub mod ports;
pub mod subnets;
