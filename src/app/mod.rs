//! What the verbs do.

pub mod access;
pub mod config;
pub mod containers;
pub mod doctor;
mod error;
pub mod files;
pub mod firewall;
pub mod fleet;
pub mod images;
pub mod instance;
pub mod network;
pub mod operations;
pub mod profiles;
mod progress;
pub mod run;
pub mod services;
pub mod session;
pub mod snapshots;
pub mod storage;

pub use crate::app::instance::look::Look;
pub use crate::app::instance::{App, Lazy};
pub use error::AppError;
pub use progress::Progress;
