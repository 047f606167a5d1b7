//! Starting a container's monitor.

pub mod disk;
mod ending;
pub mod node;
pub mod passed;
pub mod program;
pub mod rootless_stage;
pub mod stage;
mod start;
pub mod trees;

pub use ending::Dying;
pub use start::{LauncherContext, Order, SpawnError};
