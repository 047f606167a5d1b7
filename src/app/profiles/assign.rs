//! `profile assign|add|remove`: which profiles a container uses.

use super::lookup::find;
use crate::app::config::Pending;
use crate::app::config::change;
use crate::app::containers::hot_plug;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::model::container::Container;
use crate::model::name::Name;
use crate::model::profile::ProfileName;
use crate::sys::error_text;
use crate::sys::fs::lock::Lock;

/// Lets a container use these profiles in place of its former ones. A running one gets what takes effect at once.
/// Returns what waits.
pub fn assign(app: &mut App, name: &Name, profiles: &[ProfileName]) -> AppResult<Vec<Pending>> {
    let (container, _lock) = found(app, name)?;
    put(app, &container, profiles)
}

/// One more profile, which comes after the others.
pub fn add(app: &mut App, name: &Name, profile: &ProfileName) -> AppResult<Vec<Pending>> {
    let (container, _lock) = found(app, name)?;
    let mut names = used(&container);
    if names.contains(profile) {
        return Err(AppError::advised(
            format!("'{name}' uses profile '{profile}' already"),
            format!("to change the order: nagaya profile assign {name} FIRST,SECOND"),
        ));
    }
    names.push(profile.clone());
    put(app, &container, &names)
}

pub fn remove(app: &mut App, name: &Name, profile: &ProfileName) -> AppResult<Vec<Pending>> {
    let (container, _lock) = found(app, name)?;
    let mut names = used(&container);
    let before = names.len();
    names.retain(|used| used != profile);
    if names.len() == before {
        find(app, profile)?;
        let uses = match names.is_empty() {
            true => "it uses none".to_owned(),
            false => {
                format!("it uses {}", names.iter().map(ProfileName::as_str).collect::<Vec<_>>().join(", "))
            }
        };
        return Err(AppError::Refused(format!("'{name}' does not use profile '{profile}': {uses}")));
    }
    put(app, &container, &names)
}

/// A guest that has lost its monitor gets a new one first: what its profiles have may come to it, or go.
fn found(app: &mut App, name: &Name) -> AppResult<(Container, Lock)> {
    let container = app.find(name)?;
    hot_plug::prepare(app, &container).unwrap_or_else(|e| tracing::warn!("{}", error_text(&e)));
    lock::found(app, name)
}

fn used(container: &Container) -> Vec<ProfileName> {
    container.config.profile_names().cloned().collect()
}

fn put(app: &mut App, container: &Container, names: &[ProfileName]) -> AppResult<Vec<Pending>> {
    let profiles = names.iter().map(|name| find(app, name)).collect::<AppResult<Vec<_>>>()?;
    change::put(app, container, container.config.with_profiles(profiles), &|app, container, config| {
        let names: Vec<ProfileName> = config.profile_names().cloned().collect();
        Ok(app.store.set_profiles(&container.id, &names)?)
    })
}
