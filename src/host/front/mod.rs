//! nagaya-hostd: the front end on the system bus. It runs unprivileged, and passes calls on to the broker.

pub mod bounded_bus;
pub mod callers;
pub mod hostd;
pub mod polkit;
