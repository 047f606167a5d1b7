//! The settings of containers: keys and values, devices, limits.

mod any_device;
pub mod boot;
pub mod change;
pub mod devices;
mod difference;
mod interfaces;
pub mod limits;
mod pending;
pub mod proxies;
pub mod shared;
mod text;
mod values;

pub use any_device::{AnyDevice, Changed};
pub use difference::{Difference, diff, waiting};
pub use pending::Pending;
pub use text::{export, import};
pub use values::{set, show, unset};
