//! One setup at a time on a host: two instances that choose ids at once would choose the same.

use std::path::Path;

use super::error::SetupError;
use crate::model::waits;
use crate::sys::fs::lock::{self, Lock};

/// In /run itself, where only root makes files: nobody can plant a link.
const DIR: &str = "/run";
const NAME: &str = "nagaya-setup.lock";

/// Held until dropped.
pub struct SetupLock {
    _lock: Lock,
}

pub fn acquire() -> Result<SetupLock, SetupError> {
    Ok(SetupLock { _lock: lock::exclusive(Path::new(DIR), NAME, waits::LOCK_SETUP)? })
}
