//! nagaya: long-lived full-OS containers, rootless. Layers, topmost first; a layer uses only
//! those below it: `cli`, `engine`, `app`, `api`, `template`, `runtime`, `guest`, `store`, `host`,
//! `sys`, `render`, `model`.

mod api;
mod app;
mod cli;
mod engine;
mod guest;
mod host;
mod model;
mod render;
mod runtime;
mod store;
mod sys;
mod template;

/// What this program can be, by the name that it is started under: `main.rs` chooses.
pub mod entry {
    pub use crate::cli::main as command;
    pub use crate::host::rootless::holder::run as namespace_holder;
    pub use crate::host::services::machined::run as registrar;
    pub use crate::model::monitor::{ARGV0 as MONITOR, NAMESPACE_HOLDER, REGISTRAR};
    pub use crate::runtime::monitor::run as monitor;
}

/// What a caller of the broker says, for tests that call it as a stranger would.
pub mod broker {
    pub use crate::host::api::line::Line;
    pub use crate::host::api::packet::{Carries, Descriptors, Packet};
    pub use crate::host::api::verbs::Verb;
    pub use crate::model::limits::{IoMax, Limits, Rlimit};
    pub use crate::model::mac::Mac;
    pub use crate::model::network::Network;
    pub use crate::model::nic::{Nic, NicKind, NicOrder, NicSettings};
    pub use crate::sys::fs::lock::closed_dir;
}
