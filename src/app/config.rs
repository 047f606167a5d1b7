//! `config`: a container's keys and values, changed all together or not at all.

use super::context::App;
use super::error::{AppError, AppResult};
use super::{launch, limits, lock, state};
use crate::model::config::{Config, ConfigError, Live, find};
use crate::model::container::State;
use crate::model::name::Name;

/// A change that a running container has yet to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub key: String,
    pub live: Live,
}

/// Sets `pairs`. They are stored once a running container has got those that it can have at once;
/// returns the others.
pub fn set(app: &mut App, name: &Name, pairs: &[(String, String)]) -> AppResult<Vec<Pending>> {
    change(app, name, |config| pairs.iter().try_for_each(|(key, value)| config.set(key, value)))
}

/// Back to the defaults, in the same way.
pub fn unset(app: &mut App, name: &Name, keys: &[String]) -> AppResult<Vec<Pending>> {
    change(app, name, |config| keys.iter().try_for_each(|key| config.unset(key)))
}

/// What was set.
pub fn show(app: &App, name: &Name) -> AppResult<Config> {
    Ok(app.find(name)?.config)
}

/// Whether two keys are of the same limit: `limits.memory` and `limits.memory.enforce`.
fn of_one_limit(key: &str, other: &str) -> bool {
    other.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn change(
    app: &mut App,
    name: &Name,
    edit: impl FnOnce(&mut Config) -> Result<(), ConfigError>,
) -> AppResult<Vec<Pending>> {
    let (mut container, _lock) = lock::found(app, name)?;
    let old = container.config.clone();
    edit(&mut container.config)?;
    let changed: Vec<String> = container.config.changed(&old).into_iter().map(str::to_owned).collect();
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    // Also for one that does not run: it is to be known now, not at its next start.
    let new_limits = limits::of(app, &container.config, Some(&container.id))?;
    limits::check_granted(app, &new_limits, |key| changed.iter().any(|other| of_one_limit(key, other)))?;
    let lives = state::of(app, &container) != State::Stopped;
    let live = |key: &String| find(key).map_or(Live::None, |known| known.live);
    let apply = lives && changed.iter().any(|key| key.starts_with("limits.") && live(key) == Live::Now);
    if apply {
        let limits = limits::granted(app, name, &container.config, &container.id)?;
        app.broker.set_limits(container.id.as_str(), limits)?;
    }
    let stored = app
        .store
        .set_config(&container.id, &container.config)
        .map_err(AppError::from)
        .and_then(|()| launch::write_manifest(app, &container));
    if let Err(e) = stored {
        // What holds is to be what is stored.
        let back = app.store.set_config(&container.id, &old).map_err(AppError::from);
        let limits = limits::granted(app, name, &old, &container.id);
        let back = back.and(limits).and_then(|limits| match apply {
            true => Ok(app.broker.set_limits(container.id.as_str(), limits)?),
            false => Ok(()),
        });
        if let Err(undo) = back {
            tracing::warn!("cannot go back to the former configuration of '{name}': {undo}");
        }
        return Err(e);
    }
    let late = changed.into_iter().map(|key| Pending { live: live(&key), key });
    Ok(late.filter(|p| lives && matches!(p.live, Live::NextStart | Live::NewPrograms)).collect())
}
