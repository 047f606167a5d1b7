//! A container as the database and its manifest describe it.

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::device::{self, Device, ProxyEnds};
use super::field::FieldError;
use super::ids::IdRange;
use super::layer::LayerId;
use super::name::{ContainerId, Name};
use super::nic::{MOST_NICS, Nic, NicRequest};
use super::pool::PoolName;
use super::profile::{Layered, ProfileName};
use super::snapshot::Snapshot;
use super::template::{TemplateId, is_template_name};

/// What is being done to a container, recorded before it is done. A phase other than `Settled`
/// whose lock nobody holds belongs to a command that died: the next one finishes or undoes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Being made: undone when found abandoned.
    Creating,
    /// Nothing under way.
    Settled,
    /// Being started: what is left is killed when found abandoned.
    Starting,
    /// Being deleted: finished when found abandoned.
    Deleting,
}

/// Everything stored of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Never changes, and names what belongs to the container on the host.
    pub id: ContainerId,
    /// What the operator calls it.
    pub name: Name,
    /// The content that it uses.
    pub template: TemplateId,
    /// The name it was launched from; the template may have been renamed or deleted since.
    pub template_name: String,
    /// Where its own files are, and the layers that it stands on above its template.
    pub pool: PoolName,
    /// Its runtime ids.
    pub id_range: IdRange,
    /// Random, for the guest's machine id: 32 hexadecimal digits.
    pub uuid: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// What is being done to it.
    pub phase: Phase,
    /// Whether the operator wants it running.
    pub wanted_up: bool,
    /// By slot.
    pub nics: Vec<Nic>,
    /// Those besides interfaces, by name.
    pub devices: Vec<Device>,
    /// Keys that were set for it, and those of its profiles.
    pub config: Layered,
}

/// The last second of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

impl Container {
    /// The rules that the fields' types do not enforce. Whatever is stored has passed here, and so
    /// has whatever is read from a manifest: one cannot hold what the other refuses.
    pub fn check(&self) -> Result<(), FieldError> {
        let rule = |good: bool, field, value: &dyn ToString, rule| {
            if good { Ok(()) } else { Err(FieldError { field, value: value.to_string(), rule }) }
        };
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        rule(
            is_template_name(&self.template_name),
            "template_name",
            &self.template_name,
            "a template's name",
        )?;
        rule(
            self.uuid.len() == 32 && self.uuid.bytes().all(hex),
            "uuid",
            &self.uuid,
            "32 hexadecimal digits in lower case",
        )?;
        rule(
            (0..=LAST_SECOND).contains(&self.created_at),
            "created_at",
            &self.created_at,
            "a time from 1970 to 9999",
        )?;
        // An id range read by serde has not been through its constructor.
        let base = self.id_range.base();
        rule(IdRange::at(base).is_some(), "slice", &base, "the first id of an id range")?;
        self.config.check()?;
        let most = usize::from(MOST_NICS);
        rule(self.nics.len() <= most, "nics", &self.nics.len(), "a number of interfaces up to 6")?;
        self.nics.iter().try_for_each(Nic::check)?;
        for (n, nic) in self.nics.iter().enumerate() {
            let before = &self.nics[..n];
            rule(before.iter().all(|b| b.slot < nic.slot), "slot", &nic.slot, "above the one before")?;
            rule(before.iter().all(|b| b.device != nic.device), "device", &nic.device, "another name")?;
            rule(before.iter().all(|b| b.name != nic.name), "name", &nic.name, "another interface's name")?;
        }
        device::check_all(&self.devices, &self.nics)?;
        let all: Vec<Device> = self.all_devices().into_iter().map(|(device, _)| device.clone()).collect();
        device::check_all(&all, &self.nics)
    }

    /// Its devices besides interfaces, each with the profile that it is of: its own, and those of its profiles that
    /// have no name of its own. By name.
    pub fn all_devices(&self) -> Vec<(&Device, Option<&ProfileName>)> {
        let own = self.devices.iter().filter(|device| device.is_there()).map(|device| (device, None));
        let shared = self.config.devices(|name| self.has_device(name)).into_iter();
        let mut all: Vec<_> = own.chain(shared.map(|(profile, device)| (device, Some(profile)))).collect();
        all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        all
    }

    /// What its guest has as mounts: directories and nodes.
    pub fn mounted(&self) -> Vec<Device> {
        let all = self.all_devices().into_iter().map(|(device, _)| device);
        all.filter(|device| device.is_mounted()).cloned().collect()
    }

    /// The proxies that its profiles have, by name.
    pub fn shared_proxies(&self) -> Vec<(&str, &ProxyEnds)> {
        let all = self.config.devices(|name| self.has_device(name)).into_iter();
        all.filter_map(|(_, device)| Some((device.name.as_str(), device.proxy()?))).collect()
    }

    /// Whether it has a device of its own of that name, or says that it has none. Its own proxies are not here.
    pub fn has_device(&self, name: &str) -> bool {
        self.nics.iter().any(|nic| nic.device == name) || self.devices.iter().any(|own| own.name == name)
    }

    /// The address by which the host knows it: the first of its first interface that has one.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.nics.iter().find_map(|nic| nic.addresses().next())
    }
}

/// What a container is made of. Its ids and, unless they are asked for, its addresses are picked when it is
/// stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContainer {
    /// Drawn by the caller.
    pub id: ContainerId,
    /// What the operator calls it.
    pub name: Name,
    /// The content that it uses.
    pub template: TemplateId,
    /// The name under which the template was found.
    pub template_name: String,
    /// The layers above it, the lowest first. Those that are not recorded yet are about to be made.
    pub layers: Vec<LayerId>,
    /// Where they are, and its own files.
    pub pool: PoolName,
    /// Those that it has from its beginning.
    pub snapshots: Vec<Snapshot>,
    /// Random, for the guest's machine id: 32 hexadecimal digits.
    pub uuid: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// `Creating`, or a later phase to save the commit that would set it.
    pub phase: Phase,
    /// Whether the operator wants it running.
    pub wanted_up: bool,
    /// Its interfaces, in the order of their slots.
    pub nics: Vec<NicRequest>,
    /// Its other devices.
    pub devices: Vec<Device>,
    /// Keys of its own.
    pub config: Config,
    /// Those that it uses, in their order.
    pub profiles: Vec<ProfileName>,
    /// The file that describes it, if it is made from one.
    pub fleet: Option<String>,
}

/// What the kernel says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Frozen,
    Stopped,
    /// Between stop and start, or being made or deleted.
    Busy,
    /// The kernel does not tell whether it runs: it is neither started nor deleted.
    Unknown,
}

impl State {
    /// As users see it and JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Frozen => "frozen",
            State::Stopped => "stopped",
            State::Busy => "busy",
            State::Unknown => "unknown",
        }
    }
}
