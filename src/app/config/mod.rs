//! The settings of containers: keys and values, devices, limits.

mod any_device;
pub mod boot;
pub mod change;
pub mod devices;
mod difference;
mod interfaces;
pub mod limits;
mod proxies;
mod text;
mod values;

pub use any_device::{AnyDevice, Changed};
pub use change::Pending;
pub use difference::{Difference, diff, waiting};
pub use text::{export, import};
pub use values::{set, show, unset};
