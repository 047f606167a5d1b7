//! Devices of containers besides network interfaces: directories of the host's and device nodes.

mod disk;
mod kinds;
mod place;
pub mod proxy;
mod unix_char;

pub use disk::{DISK_KEYS, Disk, DiskSource, INODES, SIZE, inodes, quota_size};
pub use kinds::{Device, DeviceKind, DeviceType, check_all, device_key};
pub use place::is_clean_path;
pub use proxy::{PROXY_KEYS, ProxyEnds};
pub use unix_char::{UNIX_CHAR_KEYS, UnixChar};

/// The device that says how much of the disk a guest may take is called so, unless its operator says otherwise.
pub const ROOT_DEVICE: &str = "root";
