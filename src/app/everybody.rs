//! Whose containers there are on this host.

use super::error::AppResult;
use crate::host::setup;
use crate::model::instance::Instance;
use crate::sys::{Context, passwd};

/// The owners of instances that are set up, for root: none stands for the service user, whose
/// instance `instance` is, a name for an ordinary user.
pub fn owners(instance: &Instance) -> AppResult<Vec<Option<String>>> {
    let mut owners = Vec::new();
    if setup::is_set_up(instance).is_some() {
        owners.push(None);
    }
    let dir = instance.users_state_dir();
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(owners),
        other => other.cannot(|| format!("list {}", dir.display()))?,
    };
    let text = std::fs::read_to_string("/etc/passwd").cannot(|| "read /etc/passwd")?;
    for entry in entries.flatten() {
        let Some(uid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        match passwd::users(&text).find(|user| user.uid == uid) {
            Some(user) => owners.push(Some(user.name)),
            None => tracing::warn!("{}: there is no user {uid}", entry.path().display()),
        }
    }
    Ok(owners)
}
