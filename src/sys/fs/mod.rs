//! Files, mounts and locks.

pub mod atomic_file;
pub mod copy;
pub mod erase;
pub mod guest_place;
pub mod listing;
pub mod lock;
pub mod mount;
pub mod mountinfo;
pub mod pipe;
pub mod quota;
pub mod rooted;
pub mod sealed;
pub mod transfer;
pub mod usage;
