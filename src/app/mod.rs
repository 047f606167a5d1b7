//! What the verbs do.

mod attached;
pub mod autostart;
pub mod autostop;
mod boot_settings;
pub mod config;
pub mod console;
mod context;
pub mod delete;
pub mod device;
pub mod doctor;
mod error;
pub mod events;
pub mod exec;
pub mod firewall;
pub mod grant;
mod guest_config;
pub mod launch;
mod layout;
pub mod lifecycle;
mod limits;
pub mod list;
mod lock;
pub mod look;
pub mod lxcfs;
mod machine;
pub mod mending;
mod monitor;
pub mod network;
pub mod owner;
mod pool;
mod private_way;
mod reconcile;
pub mod rename;
pub mod repair;
pub mod run;
pub mod setup;
mod state;
mod template_builder;
mod template_record;
pub mod templates;
pub mod top;
pub mod watch;

pub use context::App;
pub use error::{AppError, AppResult, Kind};
pub use look::Look;

/// Progress of slow work, for whoever shows it. The app itself never prints.
pub trait Progress {
    /// A new stage of work, with how far the whole has come (0 to 100) where that is known.
    fn stage(&self, text: &str, percent: Option<u8>);
    /// Bytes done, of a total where that is known.
    fn bytes(&self, done: u64, total: Option<u64>);
}
