//! The one way to what the verbs do: a request is performed, and its answer comes back as data. `run` works on an
//! opened instance, `run_with` on descriptors too, `on_host` before one is opened.

mod answers;
mod config;
mod containers;
mod devices;
mod door;
mod events;
mod files;
mod firewall;
mod fleet;
mod host;
mod members;
mod networks;
mod operations;
mod passed;
mod profiles;
mod schedules;
mod sessions;
mod snapshots;
mod storage;
mod templates;

pub use door::{Listener, Perform, run};
pub use host::{PerformOnHost, Place, on_host};
pub use passed::{Passed, PerformWith, run_with};
