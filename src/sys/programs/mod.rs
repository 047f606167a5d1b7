//! Programs of the distribution that run beside containers.

pub mod dnsmasq;
pub mod pasta;
pub mod search;
