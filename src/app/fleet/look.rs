//! What a file says, compared with what there is.

use crate::app::containers::list;
use crate::app::containers::list::Row;
use crate::app::error::AppResult;
use crate::app::firewall;
use crate::app::instance::App;
use crate::model::container::Container;
use crate::model::device::{Device, DeviceType, proxy};
use crate::model::firewall::policy::Forward;
use crate::model::fleet::{self, Fleet, Present, PresentMachine, Step};
use crate::model::name::Name;
use crate::model::nic::Nic;

/// A file, and how it is known.
pub struct File {
    pub fleet: Fleet,
    /// By the name that it gives itself, or else by where it is; none where it has neither.
    pub known_as: Option<String>,
}

impl File {
    /// Errors: the first mistake in it.
    pub fn read(text: &str, place: Option<&str>) -> AppResult<Self> {
        let fleet = fleet::read(text)?;
        let known_as = fleet.name.clone().or_else(|| place.map(str::to_owned));
        Ok(Self { fleet, known_as })
    }
}

/// What is to be done so that the host matches.
pub fn plan(app: &mut App, file: &File, prune: bool) -> AppResult<Vec<Step>> {
    let present = present(app, &[])?;
    Ok(fleet::plan(&file.fleet, &present, file.known_as.as_deref(), prune))
}

/// The same for one machine, whether or not the file names it.
pub fn plan_one(app: &mut App, file: &File, name: &Name, prune: bool) -> AppResult<Option<Step>> {
    let is_there = app.store.container(name)?.is_some();
    let machines = if is_there { present(app, std::slice::from_ref(name))? } else { profiles(app)? };
    let mut alone = file.fleet.clone();
    alone.machines.retain(|machine| machine.name == *name);
    let steps = fleet::plan(&alone, &machines, file.known_as.as_deref(), prune);
    Ok(steps.into_iter().find(|step| step.kind == fleet::Kind::Machine))
}

fn profiles(app: &App) -> AppResult<Present> {
    Ok(Present { profiles: app.store.profiles()?, machines: Vec::new() })
}

/// Its own besides interfaces, by name.
pub(super) fn own_devices(container: &Container, forwards: &[Forward]) -> Vec<Device> {
    let is_own = |forward: &&Forward| forward.container == container.name.as_str() && !forward.by_profile;
    let proxy = |forward: &Forward| {
        let device = Device::of(&forward.device, DeviceType::Proxy, &proxy::config(forward));
        device.ok().filter(|device| !device.name.is_empty())
    };
    let proxies = forwards.iter().filter(is_own).filter_map(proxy);
    let mut all: Vec<Device> = container.devices.iter().cloned().chain(proxies).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Of these containers, or of all.
fn present(app: &mut App, names: &[Name]) -> AppResult<Present> {
    let fleets = app.store.fleets()?;
    let forwards = firewall::forwards(app)?;
    let machine = |row: Row| {
        let container = row.container;
        PresentMachine {
            devices: own_devices(&container, &forwards),
            fleet: fleets.get(&container.id).cloned(),
            networks: container.nics.iter().filter_map(Nic::network).map(str::to_owned).collect(),
            addresses: container.nics.iter().flat_map(Nic::addresses).collect(),
            name: container.name,
            template: container.template_name,
            storage: container.pool,
            config: container.config,
            state: row.state,
        }
    };
    let machines = list::list(app, names)?.into_iter().map(machine).collect();
    Ok(Present { machines, ..profiles(app)? })
}
