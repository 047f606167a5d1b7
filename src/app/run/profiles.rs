//! Requests about profiles.

use super::config::told;
use super::door::{Listener, Perform};
use crate::api::config::Pending;
use crate::api::profiles::{
    Add, AddDevice, Assign, Copy, Create, Delete, Export, Import, List, Profile, Remove, RemoveDevice,
    Rename, Set, SetDevice, Show, Waiting,
};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::network::as_map;
use crate::app::profiles::{self, Change, DeviceChange, Used};
use crate::model::device::{Device, DeviceType};
use crate::model::profile::ProfileName;

impl From<Used> for Profile {
    fn from(Used { profile, users }: Used) -> Self {
        let config = profile.config().clone().into();
        let device = |device: &Device| {
            let mut keys = device.config();
            keys.insert("type".to_owned(), device.device_type().as_str().to_owned());
            (device.name.clone(), keys)
        };
        let devices = profile.devices().iter().map(device).collect();
        Self { name: profile.name, description: profile.description, config, devices, used_by: users }
    }
}

impl From<profiles::Waiting> for Waiting {
    fn from(waiting: profiles::Waiting) -> Self {
        Self { container: waiting.container, pending: told(waiting.pending) }
    }
}

impl Perform for List {
    type Answer = Vec<Profile>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Profile>> {
        Ok(profiles::list(app)?.into_iter().map(Profile::from).collect())
    }
}

impl Perform for Show {
    type Answer = Profile;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Profile> {
        Ok(profiles::show(app, &self.name)?.into())
    }
}

impl Perform for Create {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        let change = Change { description: self.description, set: self.config.0, ..Change::default() };
        profiles::create(app, &self.name, &change)
    }
}

impl Perform for Set {
    type Answer = Vec<Waiting>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Waiting>> {
        let Self { name, description, config, unset } = self;
        let change = Change { description, set: config.0, unset, ..Change::default() };
        Ok(profiles::set(app, &name, &change)?.into_iter().map(Waiting::from).collect())
    }
}

impl Perform for AddDevice {
    type Answer = Vec<Waiting>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Waiting>> {
        if self.device_type == DeviceType::Nic {
            return Err(profiles::refuse_nic(&self.device));
        }
        let device = Device::of(&self.device, self.device_type, &as_map(&self.config.0))?;
        change_device(app, &self.name, DeviceChange::Add(device))
    }
}

impl Perform for SetDevice {
    type Answer = Vec<Waiting>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Waiting>> {
        let Self { name, device, config, unset } = self;
        change_device(app, &name, DeviceChange::Set { device, set: config.0, unset })
    }
}

impl Perform for RemoveDevice {
    type Answer = Vec<Waiting>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Waiting>> {
        change_device(app, &self.name, DeviceChange::Remove(self.device))
    }
}

fn change_device(app: &mut App, name: &ProfileName, device: DeviceChange) -> AppResult<Vec<Waiting>> {
    let change = Change { device: Some(device), ..Change::default() };
    Ok(profiles::set(app, name, &change)?.into_iter().map(Waiting::from).collect())
}

impl Perform for Export {
    type Answer = String;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<String> {
        profiles::export(app, &self.name)
    }
}

impl Perform for Import {
    type Answer = Vec<Waiting>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Waiting>> {
        let waiting = profiles::import(app, &self.name, &self.text, self.former.as_deref())?;
        Ok(waiting.into_iter().map(Waiting::from).collect())
    }
}

impl Perform for Rename {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        let change = Change { name: Some(self.new_name), ..Change::default() };
        profiles::set(app, &self.name, &change).map(drop)
    }
}

impl Perform for Copy {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        profiles::copy(app, &self.name, &self.new_name)
    }
}

impl Perform for Delete {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        profiles::delete(app, &self.name)
    }
}

impl Perform for Assign {
    type Answer = Vec<Pending>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Pending>> {
        Ok(told(profiles::assign(app, &self.name, &self.profiles)?))
    }
}

impl Perform for Add {
    type Answer = Vec<Pending>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Pending>> {
        Ok(told(profiles::add(app, &self.name, &self.profile)?))
    }
}

impl Perform for Remove {
    type Answer = Vec<Pending>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Pending>> {
        Ok(told(profiles::remove(app, &self.name, &self.profile)?))
    }
}
