//! The policy's copy beside the database, from which `nagaya repair` has it.

use std::path::Path;

use super::super::context::App;
use super::super::error::{AppError, AppResult};
use super::super::layout;
use crate::model::firewall::Policy;
use crate::sys::atomic_file::{self, Lasting};
use crate::sys::{Context, SysError, error_text};

/// Brings the copy from one policy to another, of which only pieces that differ are written. Like
/// containers' manifests they are not waited for until they are on disk, and not being able to write
/// them is no reason to fail.
pub(super) fn keep(app: &App, old: &Policy, new: &Policy) {
    if let Err(e) = write(app, old, new) {
        tracing::warn!("{}", error_text(&e));
    }
}

fn write(app: &App, old: &Policy, new: &Policy) -> AppResult<()> {
    let (old, new) = (old.parts(), new.parts());
    let dir = layout::policy_copy(&app.instance);
    std::fs::create_dir_all(&dir).cannot(|| format!("make {}", dir.display()))?;
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let differing = new.iter().filter(|(name, part)| old.get(*name) != Some(part));
    for (name, part) in differing {
        let text = toml::to_string(part).map_err(|e| AppError::Refused(e.to_string()))?;
        let path = dir.join(file_name(name));
        atomic_file::replace(&path, text, 0o600, Lasting::UntilPowerCut)?;
    }
    gone.map(|name| dir.join(file_name(name))).try_for_each(|path| remove(&path))
}

fn remove(path: &Path) -> AppResult<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(SysError::new(format!("remove {}", path.display()), e).into())
        }
        _ => Ok(()),
    }
}

/// Makes the copy what `policy` says, whatever it was.
pub(super) fn renew(app: &App, policy: &Policy) -> AppResult<()> {
    write(app, &Policy::default(), policy)?;
    let names: Vec<String> = policy.parts().keys().map(|part| file_name(part)).collect();
    let all = std::fs::read_dir(layout::policy_copy(&app.instance)).into_iter().flatten().flatten();
    let strange = all.filter(|entry| !names.iter().any(|name| entry.file_name() == **name));
    strange.map(|entry| entry.path()).try_for_each(|path| remove(&path))
}

/// Takes away what it has about a container that is deleted.
pub(super) fn drop(app: &App, container: &str) {
    if let Err(e) = remove(&layout::policy_copy(&app.instance).join(file_name(container))) {
        tracing::warn!("{}", error_text(&e));
    }
}

/// No container's name has a '_'.
fn file_name(part: &str) -> String {
    if part.is_empty() { "_.toml".to_owned() } else { format!("{part}.toml") }
}

/// Puts the copy into a database that was made anew, without what it says of containers and networks
/// that are not there any more. Lines about what was done; none: there was no policy.
///
/// # Errors
/// The database cannot be written.
pub fn restore(app: &mut App) -> AppResult<Vec<String>> {
    let (mut policy, mut lines) = (Policy::default(), Vec::new());
    let entries = std::fs::read_dir(layout::policy_copy(&app.instance)).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.extension() == Some("toml".as_ref())) {
        let read = std::fs::read_to_string(&path).map_err(|e| e.to_string());
        match read.and_then(|text| toml::from_str(&text).map_err(|e| e.to_string())) {
            Ok(part) => policy.join(part),
            Err(e) => lines.push(format!("left out {}: {}", path.display(), e.trim_end())),
        }
    }
    let containers = app.store.containers()?;
    let is_there = |name: &str| containers.iter().any(|container| container.name.as_str() == name);
    policy.containers.retain(|name, _| is_there(name));
    policy.forwards.retain(|forward| is_there(&forward.container));
    let networks = app.store.networks()?;
    policy.networks.retain(|name, _| networks.iter().any(|network| network.name == *name));
    if policy != Policy::default() {
        app.store.set_policy(&policy)?;
        lines.push("the firewall's policy".to_owned());
    }
    Ok(lines)
}
