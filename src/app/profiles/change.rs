//! Profiles made, changed and deleted. A change reaches every container that uses the profile, or none.

use super::lookup::{find, whole};
use crate::app::config::Pending;
use crate::app::config::change;
use crate::app::containers::{given, hot_plug, running};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::app::operations;
use crate::app::storage::{quota, volumes};
use crate::model::config::Config;
use crate::model::device::Device;
use crate::model::name::Name;
use crate::model::operation::{Operation, OperationId, OperationKind};
use crate::model::profile::{Layered, Profile, ProfileName, check_description};
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
    pub device: Option<DeviceChange>,
}

/// What is to become of a device of a profile.
#[derive(Debug, Clone)]
pub enum DeviceChange {
    Add(Device),
    Set { device: String, set: Vec<(String, String)>, unset: Vec<String> },
    Remove(String),
}

/// What a running container has yet to see of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub container: Name,
    pub pending: Vec<Pending>,
}

/// Makes a profile that no container uses yet.
pub fn create(app: &mut App, name: &ProfileName, change: &Change) -> AppResult<()> {
    let nothing = Profile::new(name.clone());
    let profile = changed(&nothing, change)?;
    add(app, &profile)
}

/// Adds a profile that no container uses yet.
pub(super) fn add(app: &mut App, profile: &Profile) -> AppResult<()> {
    check_alone(app, &Profile::new(profile.name.clone()), profile)?;
    Ok(app.store.add_profile(profile)?)
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
    let profile = find(app, name)?;
    app.store.delete_profile(name)?;
    if !profile.devices().is_empty() {
        given::keep_sources_of_profiles(app);
    }
    Ok(())
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
    check_alone(app, old, new)?;
    check(app, old, new)?;
    let has_other_devices = old.devices() != new.devices();
    let operation = operations::of_profile(OperationKind::ProfileChange, new.name.as_str())?;
    for user in app.store.profile_users(&old.name)? {
        // It would tell programs of the former variables.
        running::forget(&app.instance, &user);
        if has_other_devices && let Some(container) = app.store.container(&user)? {
            // What cannot be given to a guest without a monitor waits for its next start.
            hot_plug::prepare(app, &container).unwrap_or_else(|e| tracing::warn!("{}", error_text(&e)));
        }
    }
    app.store.change_profile(&old.name, new, &operation)?;
    match spread(app, new, old) {
        Ok(waiting) => {
            app.store.end_operation(&operation.id, None)?;
            if has_other_devices {
                given::keep_sources_of_profiles(app);
            }
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
    if let Some(change) = &change.device {
        change_device(&mut new, change)?;
    }
    Ok(new)
}

fn change_device(profile: &mut Profile, change: &DeviceChange) -> AppResult<()> {
    let name = profile.name.clone();
    let devices = &mut profile.spec.devices;
    let place = |device: &str| {
        let found = devices.iter().position(|other| other.name == *device);
        found.ok_or_else(|| AppError::NoDeviceOfProfile { profile: name.clone(), device: device.to_owned() })
    };
    match change {
        DeviceChange::Add(device) if place(&device.name).is_ok() => {
            let device = &device.name;
            return Err(AppError::advised(
                format!("profile '{name}' has a device '{device}' already"),
                format!(
                    "choose another name, or change it: nagaya profile device set {name} {device} KEY=VALUE"
                ),
            ));
        }
        DeviceChange::Add(device) => devices.push(device.clone()),
        DeviceChange::Set { device, set, unset } => {
            let place = place(device)?;
            devices[place] = devices[place].changed(set, unset)?;
        }
        DeviceChange::Remove(device) => {
            let place = place(device)?;
            devices.remove(place);
        }
    }
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

/// The rules that hold whether or not a container uses it.
fn check_alone(app: &App, old: &Profile, new: &Profile) -> AppResult<()> {
    whole(&Layered::new(Config::default(), vec![new.clone()]))?;
    let is_new = |device: &&Device| old.device(&device.name) != Some(*device);
    new.devices().iter().filter(is_new).try_for_each(|device| {
        given::check(&app.instance, device)?;
        volumes::check(app, device)?;
        quota::check_anywhere(app, device)
    })
}

/// What a profile cannot have: addresses are one container's alone.
pub fn refuse_nic(device: &str) -> AppError {
    AppError::advised(
        format!("a profile cannot have the interface '{device}': its addresses are one container's alone"),
        format!("give it to the containers: nagaya device add NAME {device} nic network=NETWORK"),
    )
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
