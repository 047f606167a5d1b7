//! One setup at a time on a host: two instances that choose ids at once would choose the same.

use std::path::Path;
use std::time::Duration;

use super::SetupError;
use crate::sys::lock::{self, Lock};

/// In /run itself, where only root makes files: nobody can plant a link.
const DIR: &str = "/run";
const NAME: &str = "nagaya-setup.lock";
const PATIENCE: Duration = Duration::from_secs(60);

/// Held until dropped.
pub struct SetupLock {
    _lock: Lock,
}

pub fn acquire() -> Result<SetupLock, SetupError> {
    Ok(SetupLock { _lock: lock::exclusive(Path::new(DIR), NAME, PATIENCE)? })
}
