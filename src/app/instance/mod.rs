//! An opened instance: its owner, its directories, its locks, its set-up and its repair.

mod app;
pub mod daemonless;
pub mod later;
pub mod layout;
mod lazy;
pub mod lock;
pub mod look;
mod opening;
pub mod owner;
pub mod pool_dirs;
pub mod repair;
pub mod setup;

pub use app::App;
pub use lazy::Lazy;
pub use opening::{open, open_allowing, open_for_repair};
