//! A container's settings as a text that is edited.

use super::change;
use super::pending::Pending;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::app::profiles;
use crate::model::config::Config;
use crate::model::container::Container;
use crate::model::document::{container_text, read_container};
use crate::model::name::Name;
use crate::model::profile::{Layered, Profile};

/// The text of a container's settings, with the comments that somebody has written into an earlier one.
pub fn export(app: &App, name: &Name) -> AppResult<String> {
    text_of(app, &app.find(name)?)
}

fn text_of(app: &App, container: &Container) -> AppResult<String> {
    Ok(container_text(app.store.config_text(&container.id)?.as_deref(), &container.config))
}

/// Gives a container the settings that a text says: all of them, or none. With `former`, which was exported before, it
/// is refused where they were changed since. Returns what waits.
pub fn import(app: &mut App, name: &Name, text: &str, former: Option<&str>) -> AppResult<Vec<Pending>> {
    let (container, _lock) = lock::found(app, name)?;
    if former.is_some() && former != Some(&text_of(app, &container)?) {
        return Err(AppError::Outdated { what: format!("container '{name}'") });
    }
    let read = read_container(text)?;
    let profiles = match read.profiles {
        None => container.config.profiles().to_vec(),
        Some(names) => {
            let at = |(name, place)| {
                let found = profiles::find(app, &name);
                found.map_err(|source| AppError::At { place, source: Box::new(source) })
            };
            names.into_iter().map(at).collect::<AppResult<Vec<Profile>>>()?
        }
    };
    // What a later version has stored cannot be typed.
    let own = Config::merged([&container.config.own().of_strangers(), &read.config]);
    let new = Layered::new(own, profiles);
    let kept = Some(text).filter(|text| container_text(None, &new) != *text);
    if new == container.config {
        app.store.set_settings(&container.id, &new, kept)?;
        return Ok(Vec::new());
    }
    change::put(app, &container, new, &|app, container, config| {
        Ok(app.store.set_settings(&container.id, config, kept)?)
    })
}
