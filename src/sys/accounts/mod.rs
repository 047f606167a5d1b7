//! Users, groups and subordinate ids of the host.

pub mod passwd;
pub mod subid;
