//! Requests about containers.

use std::time::Duration;

use super::door::{Listener, Perform, Told};
use crate::api::containers::{
    Condition, Container, Delete, Details, Ended, Ending, Failed, Launch, List, ListStarts, Nic, Pause,
    Rename, Restart, Resume, Show, Start, Stop, StopAll, ToStart, WaitFor,
};
use crate::api::devices;
use crate::app::containers::lifecycle::StopOptions;
use crate::app::containers::list::{Info, Row};
use crate::app::containers::{create, delete, lifecycle, list, rename};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::network::Connect;
use crate::app::services::{autostart, autostop};
use crate::model::config::Config;
use crate::model::device::Device;
use crate::model::name::Name;
use crate::model::nic;
use crate::model::pool::PoolName;
use crate::model::profile::ProfileName;
use crate::model::text;
use crate::model::time::Timestamp;

impl Perform for List {
    type Answer = Vec<Container>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Container>> {
        Ok(list::list(app, &self.names)?.iter().map(Container::from).collect())
    }
}

impl Perform for Show {
    type Answer = Box<Details>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Box<Details>> {
        Ok(Box::new(Details::from(&list::info(app, &self.name)?)))
    }
}

impl Perform for Launch {
    type Answer = Name;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<Name> {
        let request = create::LaunchRequest {
            template: self.template,
            name: self.name,
            start: self.start,
            config: Config::of(self.config.0.iter().map(|(key, value)| (key.as_str(), value.as_str())))?,
            profiles: self.profiles.unwrap_or_else(|| vec![ProfileName::default_one()]),
            fleet: None,
            pool: self.storage.unwrap_or_else(PoolName::default_one),
            connect: Connect { networks: self.networks, addresses: self.addresses },
            devices: self.devices.iter().map(new_device).collect::<AppResult<_>>()?,
        };
        create::launch(app, &request, &Told::to(listener))
    }
}

fn new_device(new: &devices::New) -> AppResult<Device> {
    let pairs = new.config.0.iter().cloned().collect();
    Ok(Device::of(&new.device, new.device_type, &pairs)?)
}

impl Perform for Start {
    type Answer = bool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<bool> {
        if self.with_host {
            return autostart::start(app, &self.name);
        }
        match lifecycle::start(app, &self.name) {
            Err(AppError::AlreadyRunning(_) | AppError::Frozen(_)) if self.if_stopped => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Perform for ListStarts {
    type Answer = Vec<ToStart>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<ToStart>> {
        autostart::candidates(app)
    }
}

impl Perform for StopAll {
    type Answer = Vec<Failed>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Failed>> {
        let failed = autostop::stop_all(app)?.into_iter();
        Ok(failed.map(|(name, error)| Failed { name, error: error.into() }).collect())
    }
}

impl From<Ending> for StopOptions {
    fn from(ending: Ending) -> Self {
        Self { timeout: Duration::from_secs(ending.timeout.into()), force: ending.force }
    }
}

impl Perform for Stop {
    type Answer = bool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<bool> {
        match lifecycle::stop(app, &self.name, self.ending.into()) {
            Err(AppError::NotRunning(_)) if self.if_running => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Perform for Restart {
    type Answer = bool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<bool> {
        match self.if_running {
            true => lifecycle::restart_running(app, &self.name, self.ending.into()),
            false => lifecycle::restart(app, &self.name, self.ending.into()).map(|()| true),
        }
    }
}

impl Perform for Pause {
    type Answer = bool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<bool> {
        match lifecycle::pause(app, &self.name) {
            Err(AppError::NotRunning(_) | AppError::Frozen(_)) if self.if_running => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Perform for Resume {
    type Answer = bool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<bool> {
        match lifecycle::resume(app, &self.name) {
            Err(AppError::NotRunning(_) | AppError::NotFrozen(_)) if self.if_paused => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Perform for WaitFor {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        let what = match self.condition {
            Condition::Running => lifecycle::WaitFor::Running,
            Condition::Network => lifecycle::WaitFor::Network,
        };
        lifecycle::wait(app, &self.name, what, Duration::from_secs(self.timeout.into()))
    }
}

impl Perform for Delete {
    type Answer = bool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<bool> {
        match delete::delete(app, &self.name, self.force) {
            Err(AppError::NoContainer { .. }) if self.if_exists => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Perform for Rename {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        rename::rename(app, &self.name, &self.new_name)
    }
}

impl From<&Row> for Container {
    fn from(row: &Row) -> Self {
        let container = &row.container;
        Self {
            name: container.name.to_string(),
            id: container.id.to_string(),
            owner: None,
            state: row.state.as_str().to_owned(),
            template: text::line(&container.template_name),
            template_id: container.template.to_string(),
            addresses: container.nics.iter().flat_map(with_prefix).collect(),
            networks: container.nics.iter().filter_map(nic::Nic::network).map(str::to_owned).collect(),
            storage: container.pool.to_string(),
            profiles: container.config.profile_names().map(ProfileName::to_string).collect(),
            config: container.config.own().clone().into(),
            expanded_config: container.config.expanded().clone().into(),
            pid: row.pid,
            created_at: Timestamp(container.created_at),
        }
    }
}

/// Its addresses with their prefix lengths.
fn with_prefix(nic: &nic::Nic) -> impl Iterator<Item = String> {
    let (ipv4, ipv6) = (nic.ipv4.map(|net| net.to_string()), nic.ipv6.map(|net| net.to_string()));
    ipv4.into_iter().chain(ipv6)
}

impl From<&nic::Nic> for Nic {
    fn from(nic: &nic::Nic) -> Self {
        Self {
            device: nic.device.clone(),
            interface: nic.name.clone(),
            nictype: nic.kind.as_str(),
            network: nic.network().map(str::to_owned),
            mac: nic.mac.to_string(),
            ipv4: nic.ipv4.map(|net| net.to_string()),
            ipv6: nic.ipv6.map(|net| net.to_string()),
        }
    }
}

impl From<&Info> for Details {
    fn from(info: &Info) -> Self {
        let container = &info.row.container;
        let first = container.nics.first();
        Self {
            container: Container::from(&info.row),
            uuid: container.uuid.clone(),
            wanted_up: container.wanted_up,
            ready: info.ready,
            stopping: info.stopping,
            boots: info.boots,
            processes: info.processes,
            monitor_pid: info.monitor_pid,
            ended: info.ended.as_ref().map(|e| Ended { reason: text::line(&e.reason), clean: e.clean }),
            first_id: container.id_range.base(),
            mac: first.map(|nic| nic.mac.to_string()),
            gateway: first.and_then(|nic| nic.gateway4).map(|ip| ip.to_string()),
            bridge: info.bridges.first().cloned(),
            host_link: info.host_links.first().cloned(),
            nics: container.nics.iter().map(Nic::from).collect(),
            cgroup: info.cgroup.clone(),
            limits: info.limits.clone(),
            usage: info.usage.clone(),
            traffic: info.traffic,
            disk: info.disk,
            snapshots: info.snapshots,
            layers: info.layers,
            notes: info.notes.iter().map(|note| text::line(note)).collect(),
        }
    }
}
