//! Which profiles there are, and who uses them.

use crate::app::error::AppError;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::model::config::Config;
use crate::model::field::FieldError;
use crate::model::name::Name;
use crate::model::natural;
use crate::model::profile::{Layered, Profile, ProfileName};
use crate::model::suggest;

/// A profile, and the containers that use it.
pub struct Used {
    pub profile: Profile,
    pub users: Vec<Name>,
}

/// The profile of that name.
pub fn find(app: &App, name: &ProfileName) -> AppResult<Profile> {
    if let Some(found) = app.store.profile(name)? {
        return Ok(found);
    }
    let all = app.store.profiles()?;
    let nearest = suggest::nearest(name.as_str(), all.iter().map(|profile| profile.name.as_str()));
    Err(AppError::NoProfile { name: name.clone(), nearest: nearest.map(str::to_owned) })
}

/// All of them, sorted by name as people do.
pub fn list(app: &App) -> AppResult<Vec<Used>> {
    let mut all = app.store.profiles()?;
    all.sort_by(|a, b| natural::compare(a.name.as_str(), b.name.as_str()));
    all.into_iter().map(|profile| with_users(app, profile)).collect()
}

pub fn show(app: &App, name: &ProfileName) -> AppResult<Used> {
    with_users(app, find(app, name)?)
}

fn with_users(app: &App, profile: Profile) -> AppResult<Used> {
    let mut users = app.store.profile_users(&profile.name)?;
    users.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    Ok(Used { profile, users })
}

/// The configuration of a container that has these keys of its own and uses these profiles.
pub fn expand(app: &App, own: &Config, names: &[ProfileName]) -> AppResult<Layered> {
    let profiles = names.iter().map(|name| find(app, name)).collect::<AppResult<Vec<_>>>()?;
    let layered = Layered::new(own.clone(), profiles);
    whole(&layered)?;
    Ok(layered)
}

/// Refuses what breaks the rules about the whole.
pub(super) fn whole(layered: &Layered) -> AppResult<()> {
    layered.check().map_err(|FieldError { field, value, rule }| {
        AppError::Refused(format!("{field} '{value}' is not {rule}"))
    })
}
