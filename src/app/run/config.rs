//! Requests about a container's keys and values.

use std::collections::BTreeMap;

use super::devices::shown;
use super::door::{Listener, Perform};
use crate::api::config::{Diff, Difference, Expand, Export, Import, Pending, Set, Show, Unset, Value};
use crate::api::devices::Device;
use crate::app::config::{self, AnyDevice, devices};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::model::config::Config;
use crate::model::device::device_key;
use crate::model::profile::Origin;

impl Perform for Show {
    type Answer = Config;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Config> {
        Ok(config::show(app, &self.name)?.own().clone())
    }
}

impl Perform for Expand {
    type Answer = BTreeMap<String, Value>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<BTreeMap<String, Value>> {
        let config = config::show(app, &self.name)?;
        let value = |(key, value): (&str, &str)| {
            let profile = match config.origin(key) {
                Some(Origin::Profile(profile)) => Some(profile),
                Some(Origin::Own) | None => None,
            };
            (key.to_owned(), Value { value: value.to_owned(), profile })
        };
        let mut all: BTreeMap<String, Value> = config.expanded().iter().map(value).collect();
        for (device, profile) in devices::list(app, &self.name)? {
            // Those that a profile could have.
            let Device { device, kind, config, .. } = match device {
                AnyDevice::Nic(_) => continue,
                other => shown(&other),
            };
            let pairs = config.iter().map(|(key, value)| format!(" {key}={value}"));
            let value = format!("{kind}{}", pairs.collect::<String>());
            all.insert(device_key(&device), Value { value, profile });
        }
        Ok(all)
    }
}

impl Perform for Set {
    type Answer = Vec<Pending>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Pending>> {
        Ok(told(config::set(app, &self.name, &self.config.0)?))
    }
}

impl Perform for Unset {
    type Answer = Vec<Pending>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Pending>> {
        Ok(told(config::unset(app, &self.name, &self.keys)?))
    }
}

impl Perform for Diff {
    type Answer = Vec<Difference>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Difference>> {
        let row = |found: config::Difference| {
            let config::Difference { key, wanted, live, file, live_when } = found;
            Difference { key, wanted, live, file, holds: live_when }
        };
        Ok(config::diff(app, &self.name)?.into_iter().map(row).collect())
    }
}

impl Perform for Export {
    type Answer = String;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<String> {
        config::export(app, &self.name)
    }
}

impl Perform for Import {
    type Answer = Vec<Pending>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Pending>> {
        Ok(told(config::import(app, &self.name, &self.text, self.former.as_deref())?))
    }
}

pub(super) fn told(pending: Vec<config::Pending>) -> Vec<Pending> {
    pending.into_iter().map(|config::Pending { key, live }| Pending { key, live }).collect()
}
