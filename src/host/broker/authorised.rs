//! A caller that has ids and directories.

use std::sync::Arc;

use super::spawn::LauncherContext;
use crate::host::setup::Owner;
use crate::model::instance::Instance;

/// What the broker knows of a caller that has been set up.
pub struct AuthorisedOwner {
    pub owner: Owner,
    pub launcher: LauncherContext,
}

impl AuthorisedOwner {
    pub fn new(instance: &Instance, owner: Owner) -> Arc<Self> {
        Arc::new(Self {
            owner,
            launcher: LauncherContext { instance: instance.clone(), storage: owner.storage },
        })
    }
}
