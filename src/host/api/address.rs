//! The addresses at which callers, hostd and the broker find one another, and bounds on their number.

use std::path::PathBuf;

use crate::model::instance::Instance;

/// hostd's name on the system bus.
pub const BUS_NAME: &str = "org.nagaya.Host1";
/// The interface of that name.
pub const INTERFACE: &str = "org.nagaya.Host1";
/// Path of the object that has the verbs, on every connection.
pub const PATH: &str = "/org/nagaya/Host1";

/// Commands of one user at once: each has a worker.
pub const WORKERS_OF_USER: usize = 64;
/// The broker's answer to the uid that hostd has named: it gets a worker.
pub const HIRED: u8 = 1;
/// The broker's answer to a uid that gets no worker: there are too many.
pub const NOT_HIRED: u8 = 0;

/// Where the broker listens for hostd.
pub fn broker_socket(instance: &Instance) -> PathBuf {
    instance.hostd_run_dir().join("broker.sock")
}
