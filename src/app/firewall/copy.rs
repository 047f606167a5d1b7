//! The policy's copy beside the database, from which `nagaya repair` has it.

use super::super::context::App;
use super::super::error::{AppError, AppResult};
use super::super::layout;
use crate::model::firewall::Policy;
use crate::sys::{Context, error_text};

/// Writes the copy anew. Like a container's manifest it is not waited for until it is on disk, and
/// not being able to is no reason to fail.
pub(super) fn keep(app: &App) {
    if let Err(e) = write(app) {
        tracing::warn!("{}", error_text(&e));
    }
}

fn write(app: &App) -> AppResult<()> {
    // One that is still to be confirmed is not to be kept.
    let policy = match app.store.pending_policy()? {
        Some(pending) => pending.previous,
        None => app.store.policy()?,
    };
    let text = toml::to_string(&policy).map_err(|e| AppError::Refused(e.to_string()))?;
    let path = layout::policy_copy(&app.instance);
    let temporary = path.with_extension("new");
    let write = || std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &path));
    Ok(write().cannot(|| format!("write {}", path.display()))?)
}

/// Puts the copy into a database that was made anew, without what it says of containers and networks
/// that are not there any more. A line about what was done; None: there was no policy.
///
/// # Errors
/// The database cannot be written.
pub fn restore(app: &mut App) -> AppResult<Option<String>> {
    let path = layout::policy_copy(&app.instance);
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Ok(Some(format!("left out {}: {e}", path.display()))),
        Ok(text) => text,
    };
    let mut policy: Policy = match toml::from_str(&text) {
        Ok(policy) => policy,
        Err(e) => return Ok(Some(format!("left out {}: {}", path.display(), error_text(&e)))),
    };
    let containers = app.store.containers()?;
    let gone: Vec<String> = policy
        .containers
        .keys()
        .chain(policy.forwards.iter().map(|forward| &forward.container))
        .filter(|name| containers.iter().all(|container| container.name.as_str() != name.as_str()))
        .cloned()
        .collect();
    gone.iter().for_each(|name| policy.forget(name));
    let networks = app.store.networks()?;
    policy.networks.retain(|name, _| networks.iter().any(|network| network.name == *name));
    app.store.set_policy(&policy)?;
    Ok(Some("the firewall's policy, but for blocks, which stood in the database alone".to_owned()))
}
