//! Networks: their settings, keys and subnets.

mod keys;
mod names;
mod settings;
mod subnet;

pub use keys::NETWORK_KEYS;
pub use names::{is_interface_name, is_network_name};
pub use settings::{DEFAULT_MTU, Nat, Network};
pub use subnet::{bridge_address, pick_subnet, pick_ula};
