//! Arguments that several verbs share, their completion, and the help made of them.

pub mod complete;
pub mod connect;
pub mod deferred;
pub mod devices;
pub mod keys;
pub mod man;
pub mod names;
pub mod profiles;
pub mod usage;
pub mod wait;
