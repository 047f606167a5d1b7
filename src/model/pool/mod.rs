//! Pools: where containers' files are. Each is a directory on some file system.

mod name;
mod stored;
mod volume;

pub use name::{PoolName, VolumeName};
pub use stored::{MOST_POOLS, Pool};
pub use volume::{MOST_VOLUMES, VOLUME_KEYS, Volume, VolumeSettings};
