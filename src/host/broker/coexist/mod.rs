//! Other firewalls of the host: exceptions for guests, in each one's own form.

mod finding;
mod firewalld;
mod iptables;
mod others;

pub use finding::{Finding, Who};
pub use others::{Link, ensure, look, remove};
