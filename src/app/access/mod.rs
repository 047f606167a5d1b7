//! The administrator's grants to users.

pub mod grants;
