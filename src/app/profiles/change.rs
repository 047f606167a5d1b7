//! Profiles made, changed and deleted. A change reaches every container that uses the profile, or none.

use super::lookup::find;
use crate::app::config::Pending;
use crate::app::config::change;
use crate::app::containers::running;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::app::operations;
use crate::model::name::Name;
use crate::model::operation::{Operation, OperationId, OperationKind};
use crate::model::profile::{Profile, ProfileName, check_description};
use crate::store::StoreError;
use crate::sys::error_text;

/// What is to become of a profile. What is not said stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub name: Option<ProfileName>,
    pub description: Option<String>,
    pub set: Vec<(String, String)>,
    /// Keys that it says nothing of any more.
    pub unset: Vec<String>,
}

/// What a running container has yet to see of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub container: Name,
    pub pending: Vec<Pending>,
}

/// Makes a profile that no container uses yet.
pub fn create(app: &mut App, name: &ProfileName, change: &Change) -> AppResult<()> {
    let profile = changed(&Profile::new(name.clone()), change)?;
    Ok(app.store.add_profile(&profile)?)
}

/// Makes another profile that says the same.
pub fn copy(app: &mut App, from: &ProfileName, to: &ProfileName) -> AppResult<()> {
    let profile = Profile { name: to.clone(), ..find(app, from)? };
    Ok(app.store.add_profile(&profile)?)
}

/// Deletes a profile that no container uses.
pub fn delete(app: &mut App, name: &ProfileName) -> AppResult<()> {
    if name.is_default_one() {
        return Err(stays("deleted"));
    }
    let _lock = lock::profiles(&app.instance)?;
    find(app, name)?;
    Ok(app.store.delete_profile(name)?)
}

/// Changes a profile: running containers that use it get at once what takes effect at once. Where one of them cannot
/// have the change, nothing is changed. Returns what waits.
pub fn set(app: &mut App, name: &ProfileName, change: &Change) -> AppResult<Vec<Waiting>> {
    if name.is_default_one() && change.name.as_ref().is_some_and(|to| to != name) {
        return Err(stays("renamed"));
    }
    let _lock = lock::profiles(&app.instance)?;
    let old = find(app, name)?;
    let new = changed(&old, change)?;
    replace(app, &old, &new)
}

/// Puts `new` in the place of `old`. The caller holds the profiles' lock.
pub(super) fn replace(app: &mut App, old: &Profile, new: &Profile) -> AppResult<Vec<Waiting>> {
    if new == old {
        return Ok(Vec::new());
    }
    check(app, old, new)?;
    let operation = operations::of_profile(OperationKind::ProfileChange, new.name.as_str())?;
    for user in app.store.profile_users(&old.name)? {
        // It would tell programs of the former variables.
        running::forget(&app.instance, &user);
    }
    app.store.change_profile(&old.name, new, &operation)?;
    match spread(app, new, old) {
        Ok(waiting) => {
            app.store.end_operation(&operation.id, None)?;
            Ok(waiting)
        }
        Err(e) => {
            take_back(app, old, new, &operation.id, &error_text(&e))?;
            Err(e)
        }
    }
}

/// Goes on with a change that is recorded, up to its end. The command at hand may be about something else, so it does
/// not wait: where another one works on a container, a later command goes on.
pub fn resume(app: &mut App, operation: &Operation) -> AppResult<()> {
    let name = ProfileName::new(&operation.subject).map_err(|e| AppError::Refused(e.to_string()))?;
    for user in app.store.profile_users(&name)? {
        let Some(found) = app.store.container(&user)? else { continue };
        let Some(_lock) = lock::try_container(&app.instance, &found.id)? else { return Ok(()) };
        if let Some(container) = app.store.container_by_id(&found.id)? {
            change::follow(app, &container, None)?;
        }
    }
    Ok(app.store.end_operation(&operation.id, None)?)
}

fn stays(what: &str) -> AppError {
    AppError::advised(
        format!("profile 'default' cannot be {what}: new containers use it"),
        "to launch without it: --no-profiles, or --profile NAME",
    )
}

fn changed(old: &Profile, change: &Change) -> AppResult<Profile> {
    let mut new = old.clone();
    if let Some(name) = &change.name {
        new.name = name.clone();
    }
    if let Some(description) = &change.description {
        check_description(description)?;
        new.description = description.clone();
    }
    for key in &change.unset {
        new.spec.config.unset(key)?;
    }
    for (key, value) in &change.set {
        refuse_profiles(key)?;
        new.spec.config.set(key, value)?;
    }
    Ok(new)
}

/// So no profile can contain itself.
fn refuse_profiles(key: &str) -> AppResult<()> {
    match key {
        "profiles" | "profile" => Err(AppError::advised(
            "a profile cannot use other profiles",
            "a container can use several, in an order: nagaya profile assign NAME FIRST,SECOND",
        )),
        _ => Ok(()),
    }
}

/// Whether every container that uses it can have the change.
fn check(app: &App, old: &Profile, new: &Profile) -> AppResult<()> {
    for user in app.store.profile_users(&old.name)? {
        let Some(container) = app.store.container(&user)? else { continue };
        let wanted = container.config.with_profile(&old.name, new);
        change::check(app, &container, &wanted).map_err(|source| AppError::ProfileRefused {
            profile: old.name.clone(),
            container: user,
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// Brings to each container what is stored, one after the other. A container that is being started has read it
/// before or after it was stored, and is waited for.
fn spread(app: &mut App, now: &Profile, before: &Profile) -> AppResult<Vec<Waiting>> {
    let mut all = Vec::new();
    for user in app.store.profile_users(&now.name)? {
        let (container, _lock) = match lock::found(app, &user) {
            Err(AppError::NoContainer { .. }) => continue,
            other => other?,
        };
        let old = container.config.with_profile(&now.name, before);
        let pending = change::follow(app, &container, Some(&old))?;
        if !pending.is_empty() {
            all.push(Waiting { container: user, pending });
        }
    }
    Ok(all)
}

fn take_back(
    app: &mut App,
    old: &Profile,
    new: &Profile,
    operation: &OperationId,
    why: &str,
) -> Result<(), StoreError> {
    app.store.take_back_profile(&new.name, old, operation, why)?;
    if let Err(undo) = spread(app, old, new) {
        tracing::warn!("cannot go back to what profile '{}' was: {undo}", old.name);
    }
    Ok(())
}
