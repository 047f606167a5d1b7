//! A profile as a text that is edited.

use super::change::{Waiting, add, replace};
use super::lookup::find;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::model::config::Config;
use crate::model::document::{profile_text, read_profile};
use crate::model::profile::{Profile, ProfileName, ProfileSpec};

/// The text of a profile, with the comments that somebody has written into an earlier one.
pub fn export(app: &App, name: &ProfileName) -> AppResult<String> {
    text_of(app, &find(app, name)?)
}

fn text_of(app: &App, profile: &Profile) -> AppResult<String> {
    Ok(profile_text(app.store.profile_text(&profile.name)?.as_deref(), profile))
}

/// Makes a profile what a text says. With `former`, which was exported before, it is refused where the profile was
/// changed since. Returns what waits.
pub fn import(
    app: &mut App,
    name: &ProfileName,
    text: &str,
    former: Option<&str>,
) -> AppResult<Vec<Waiting>> {
    let _lock = lock::profiles(&app.instance)?;
    let old = find(app, name)?;
    if former.is_some() && former != Some(&text_of(app, &old)?) {
        return Err(AppError::Outdated { what: format!("profile '{name}'") });
    }
    let read = read_profile(text)?;
    // What a later version has stored cannot be typed.
    let config = Config::merged([&old.config().of_strangers(), &read.spec.config]);
    let spec = ProfileSpec { config, ..read.spec };
    let new = Profile { name: name.clone(), description: read.description, spec };
    let waiting = replace(app, &old, &new)?;
    let is_plain = profile_text(None, &new) == text;
    app.store.set_profile_text(name, Some(text).filter(|_| !is_plain))?;
    Ok(waiting)
}

/// Makes a profile, or makes the one of its name this. Returns what waits.
pub fn put(app: &mut App, profile: &Profile) -> AppResult<Vec<Waiting>> {
    let _lock = lock::profiles(&app.instance)?;
    match app.store.profile(&profile.name)? {
        None => {
            add(app, profile)?;
            Ok(Vec::new())
        }
        Some(old) => {
            let config = Config::merged([&old.config().of_strangers(), profile.config()]);
            let spec = ProfileSpec { config, ..profile.spec.clone() };
            replace(app, &old, &Profile { spec, ..profile.clone() })
        }
    }
}
