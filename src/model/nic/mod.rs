//! Interfaces of containers: their kinds, settings and keys.

mod interface;
mod keys;
mod kinds;

pub use interface::{
    MOST_NICS, Nic, NicKind, NicOrder, NicRequest, NicSettings, ROUTED_GATEWAY4, ROUTED_GATEWAY6, Wanted,
    is_device_name,
};
pub use keys::NIC_KEYS;
