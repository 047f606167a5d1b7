//! Names of pools and of the volumes in them.

use crate::model::label::label;

label! {
    /// A pool's name.
    PoolName, PoolNameError, "a storage pool"
}

label! {
    /// A volume's name, unique in its pool.
    VolumeName, VolumeNameError, "a volume"
}

impl PoolName {
    /// That of the pool which is always there: it holds the templates, and the containers that are put nowhere else.
    pub fn default_one() -> Self {
        Self("default".to_owned())
    }

    /// Whether it is that one's.
    pub fn is_default_one(&self) -> bool {
        self.0 == "default"
    }
}
