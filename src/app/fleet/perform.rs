//! Doing what a plan says, each machine by itself.

use std::time::Duration;

use super::look::{File, own_devices, plan_one};
use crate::app::Progress;
use crate::app::config::{Pending, change, devices};
use crate::app::containers::create::{self, LaunchRequest};
use crate::app::containers::lifecycle::StopOptions;
use crate::app::containers::{delete, lifecycle};
use crate::app::error::{AppError, AppResult};
use crate::app::firewall::{self, Caution};
use crate::app::instance::{App, lock};
use crate::app::network::Connect;
use crate::app::profiles::{self, Waiting};
use crate::model::config::Config;
use crate::model::device::{Device, device_key};
use crate::model::fleet::{Action, Machine};
use crate::model::keys::Live;
use crate::model::name::Name;
use crate::model::pool::PoolName;
use crate::model::profile::Layered;

/// How long a machine that is to be stopped may take.
const STOP: Duration = Duration::from_secs(60);

/// Makes the profiles of a file what it says. Returns what waits.
pub fn apply_profiles(app: &mut App, file: &File) -> AppResult<Vec<Waiting>> {
    let mut waiting = Vec::new();
    for profile in &file.fleet.profiles {
        waiting.extend(profiles::put(app, profile)?);
    }
    Ok(waiting)
}

/// Does what there is to do about one machine. Returns what waits for its restart.
pub fn apply_machine(
    app: &mut App,
    file: &File,
    name: &Name,
    prune: bool,
    progress: &dyn Progress,
) -> AppResult<Vec<Pending>> {
    let Some(step) = plan_one(app, file, name, prune)? else { return Ok(Vec::new()) };
    let wanted = file.fleet.machines.iter().find(|machine| machine.name == *name);
    let pending = match (step.action, wanted) {
        (Action::Delete, _) => {
            delete::delete(app, name, true)?;
            Vec::new()
        }
        (Action::Conflict, _) => return Err(AppError::Refused(step.reason.unwrap_or_default())),
        (Action::Create, Some(machine)) => {
            // It is started with it.
            create::launch(app, &request(machine, file), progress)?;
            return settle_devices(app, machine);
        }
        (_, Some(machine)) => {
            let mut pending = settle(app, machine)?;
            pending.extend(settle_devices(app, machine)?);
            pending
        }
        (_, None) => Vec::new(),
    };
    if step.action == Action::Stop {
        lifecycle::stop(app, name, StopOptions { timeout: STOP, force: false })?;
        return Ok(Vec::new());
    }
    if step.start {
        lifecycle::start(app, name)?;
    }
    Ok(pending)
}

fn request(machine: &Machine, file: &File) -> LaunchRequest {
    LaunchRequest {
        template: machine.template.clone(),
        name: Some(machine.name.clone()),
        start: machine.run == crate::model::fleet::Run::Running,
        config: machine.config.clone(),
        profiles: machine.profiles.clone(),
        connect: Connect {
            networks: machine.networks.clone().unwrap_or_default(),
            addresses: machine.addresses.clone(),
        },
        // Proxies lead to its addresses, which it gets first.
        devices: machine.devices.iter().filter(|device| device.proxy().is_none()).cloned().collect(),
        fleet: file.known_as.clone(),
        pool: machine.storage.clone().unwrap_or_else(PoolName::default_one),
    }
}

/// Its own devices: what is not in the file goes first, so that its name and its place are free.
fn settle_devices(app: &mut App, machine: &Machine) -> AppResult<Vec<Pending>> {
    let name = &machine.name;
    let present = own_devices(&app.find(name)?, &firewall::forwards_of(app, name)?);
    let find = |all: &[Device], device: &Device| all.iter().find(|other| other.name == device.name).cloned();
    let is_other = |old: &Device, new: &Device| old.device_type() != new.device_type();
    for old in &present {
        if find(&machine.devices, old).is_none_or(|new| is_other(old, &new)) {
            devices::remove(app, name, &old.name, false)?;
        }
    }
    let mut waiting = Vec::new();
    for new in &machine.devices {
        let pairs: Vec<(String, String)> = new.config().into_iter().collect();
        let changed = match find(&present, new).filter(|old| !is_other(old, new)) {
            Some(old) if old == *new => continue,
            Some(old) => {
                let lacks = |key: &String| pairs.iter().all(|(known, _)| known != key);
                let unset: Vec<String> = old.config().into_keys().filter(lacks).collect();
                devices::set(app, name, &new.name, &pairs, &unset, &Caution::default())?
            }
            None => devices::add(app, name, &new.name, new.device_type(), &pairs, &Caution::default())?,
        };
        if changed.pending {
            waiting.push(Pending { key: device_key(&new.name), live: Live::NextStart });
        }
    }
    Ok(waiting)
}

/// Its keys and its profiles.
fn settle(app: &mut App, machine: &Machine) -> AppResult<Vec<Pending>> {
    let (container, _lock) = lock::found(app, &machine.name)?;
    let found = machine.profiles.iter().map(|name| profiles::find(app, name)).collect::<AppResult<_>>()?;
    // What a later version has stored cannot be written.
    let own = Config::merged([&container.config.own().of_strangers(), &machine.config]);
    let text = app.store.config_text(&container.id)?;
    change::put(app, &container, Layered::new(own, found), &|app, container, config| {
        Ok(app.store.set_settings(&container.id, config, text.as_deref())?)
    })
}
