//! `config`: a container's own keys and values, changed all together or not at all.

use super::change;
use super::pending::Pending;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::model::config::Config;
use crate::model::keys::KeyError;
use crate::model::name::Name;
use crate::model::profile::Layered;

/// Sets `pairs`. A running container gets those that take effect at once; then all are stored. Returns the
/// others.
pub fn set(app: &mut App, name: &Name, pairs: &[(String, String)]) -> AppResult<Vec<Pending>> {
    change(app, name, |config| pairs.iter().try_for_each(|(key, value)| config.set(key, value)))
}

/// Back to what the profiles say, or to the defaults, in the same way.
pub fn unset(app: &mut App, name: &Name, keys: &[String]) -> AppResult<Vec<Pending>> {
    change(app, name, |config| keys.iter().try_for_each(|key| config.unset(key)))
}

/// What was set, and what the container's profiles say.
pub fn show(app: &App, name: &Name) -> AppResult<Layered> {
    Ok(app.find(name)?.config)
}

fn change(
    app: &mut App,
    name: &Name,
    edit: impl FnOnce(&mut Config) -> Result<(), KeyError>,
) -> AppResult<Vec<Pending>> {
    let (container, _lock) = lock::found(app, name)?;
    let mut own = container.config.own().clone();
    edit(&mut own)?;
    change::put(app, &container, container.config.with_own(own), &|app, container, config| {
        Ok(app.store.set_config(&container.id, config.own())?)
    })
}
