//! Requests about the devices of containers.

use super::door::{Listener, Perform};
use crate::api::devices::{Add, Changed, Device, List, Remove, Set};
use crate::app::config::{self, AnyDevice, devices};
use crate::app::error::AppResult;
use crate::app::instance::App;

impl Perform for List {
    type Answer = Vec<Device>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Device>> {
        let listed = |(device, profile)| Device { profile, ..shown(&device) };
        Ok(devices::list(app, &self.name)?.into_iter().map(listed).collect())
    }
}

impl Perform for Add {
    type Answer = Changed;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Changed> {
        Ok(devices::add(
            app,
            &self.name,
            &self.device,
            self.device_type,
            &self.config.0,
            &self.caution.into(),
        )?
        .into())
    }
}

impl Perform for Set {
    type Answer = Changed;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Changed> {
        Ok(devices::set(app, &self.name, &self.device, &self.config.0, &self.unset, &self.caution.into())?
            .into())
    }
}

impl Perform for Remove {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        devices::remove(app, &self.name, &self.device, self.force)
    }
}

pub(super) fn shown(device: &AnyDevice) -> Device {
    match device {
        AnyDevice::Nic(nic) => nic.into(),
        AnyDevice::Other(other) => other.into(),
        AnyDevice::Proxy(forward) => forward.into(),
    }
}

impl From<config::Changed> for Changed {
    fn from(changed: config::Changed) -> Self {
        Self { device: shown(&changed.device), pending: changed.pending }
    }
}
