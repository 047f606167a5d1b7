//! The network files of a guest, in the form that its own tools read.

mod alpine;
mod hostname;
mod ifcfg;
mod ifupdown;
mod inittab;
mod interface;
mod logins;
mod netplan;
mod network;
mod network_manager;
mod networkd;
mod phrases;
mod resolvers;
mod subject;
#[cfg(test)]
mod tests;

pub use hostname::{hostname_file, hosts_file};
pub use inittab::inittab;
pub use logins::{Logins, for_console, logins};
pub use network::network_files;
pub use resolvers::{asks_on_loopback, resolv_conf, resolver_files, resolvers};
pub use subject::Subject;
