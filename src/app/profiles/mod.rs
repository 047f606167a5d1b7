//! Profiles: settings that containers share.

mod assign;
mod change;
mod lookup;
mod text;

pub use assign::{add, assign, remove};
pub use change::{Change, DeviceChange, Waiting, copy, create, delete, refuse_nic, resume, set};
pub use lookup::{Used, expand, find, list, show};
pub use text::{export, import, put};
