//! Doing what a plan says, each machine by itself.

use std::time::Duration;

use super::look::{File, plan_one};
use crate::app::Progress;
use crate::app::config::{Pending, change};
use crate::app::containers::create::{self, LaunchRequest};
use crate::app::containers::lifecycle::StopOptions;
use crate::app::containers::{delete, lifecycle};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, lock};
use crate::app::network::Connect;
use crate::app::profiles::{self, Waiting};
use crate::model::config::Config;
use crate::model::fleet::{Action, Machine};
use crate::model::name::Name;
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
            return Ok(Vec::new());
        }
        (_, Some(machine)) => settle(app, machine)?,
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
        devices: Vec::new(),
        fleet: file.known_as.clone(),
    }
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
