//! Containers and their life.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::devices;
use super::error::Error;
use super::pairs::Pairs;
use crate::model::config::CONFIG_KEYS;
use crate::model::container::State;
use crate::model::firewall::traffic::Traffic;
use crate::model::name::{ContainerId, Name};
use crate::model::pool::PoolName;
use crate::model::profile::ProfileName;
use crate::model::time::Timestamp;
use crate::sys::cgroup::usage::Usage;
use crate::sys::fs::quota::Taken;

/// All containers, or those named; sorted by name as people do. One that is not there is an error.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct List {
    pub names: Vec<Name>,
}

/// All about one container.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    pub name: Name,
}

/// A new container from a template, which is built first if it is missing. On failure nothing of it is left.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    pub template: String,
    /// A random readable name where none is given.
    #[serde(default)]
    pub name: Option<Name>,
    /// False: it is made only.
    #[serde(default = "yes")]
    pub start: bool,
    #[serde(default)]
    pub config: Pairs,
    /// In the order in which they count; none said: `default`.
    #[serde(default)]
    pub profiles: Option<Vec<ProfileName>>,
    /// One interface on each; none said: the owner's own network. `none` stands for no network at all.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Each on the first of the networks that it is an address of.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Besides interfaces.
    #[serde(default)]
    pub devices: Vec<devices::New>,
    /// Where its files are to be; none said: `default`.
    #[serde(default)]
    pub storage: Option<PoolName>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    pub name: Name,
    /// Leave a container alone that runs, paused or not.
    #[serde(default)]
    pub if_stopped: bool,
    /// Because the host has started: whether it does so the next time stays as it is. One that runs, or is gone, is
    /// left alone.
    #[serde(default)]
    pub with_host: bool,
}

/// The containers that are to start with the host and do not run, in the order in which they do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListStarts {}

/// Shut all containers down, as when the host does: those of one stop priority at once, higher ones first. One that
/// takes too long is ended by force. Which start with the host stays as it is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopAll {}

/// How a running guest is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ending {
    /// Seconds that a guest may take to shut down. One that takes longer goes on running.
    pub timeout: u32,
    /// Without a shutdown, at once.
    pub force: bool,
}

impl Default for Ending {
    fn default() -> Self {
        Self { timeout: 60, force: false }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    pub name: Name,
    #[serde(default)]
    pub ending: Ending,
    /// Leave a container alone that does not run.
    #[serde(default)]
    pub if_running: bool,
}

/// Stop, and start again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    pub name: Name,
    #[serde(default)]
    pub ending: Ending,
    /// Leave a container alone that does not run.
    #[serde(default)]
    pub if_running: bool,
}

/// Its processes get no CPU time until it is resumed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    pub name: Name,
    /// Leave a container alone that does not run, or is paused.
    #[serde(default)]
    pub if_running: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    pub name: Name,
    /// Leave a container alone that is not paused.
    #[serde(default)]
    pub if_paused: bool,
}

/// Wait for a container that was started.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    pub name: Name,
    pub condition: Condition,
    /// Seconds.
    pub timeout: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The guest's init says that it is up.
    Running,
    /// That, and the guest's address answers.
    Network,
}

/// A container and all that is in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub name: Name,
    /// End it first if it runs.
    #[serde(default)]
    pub force: bool,
    /// Do not complain if there is none.
    #[serde(default)]
    pub if_exists: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    pub name: Name,
    pub new_name: Name,
}

/// Tell what happens to containers until nobody listens or the command is interrupted. They are looked at
/// four times a second.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {}

/// What running containers use, measured from the host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measure {
    /// How long is measured.
    pub milliseconds: u16,
}

impl Default for Measure {
    fn default() -> Self {
        Self { milliseconds: 500 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    /// Among everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub id: String,
    /// `running`, `frozen`, `stopped`, `busy` or `unknown`.
    pub state: String,
    /// The name it was launched from.
    pub template: String,
    pub template_id: String,
    /// With the prefix length of the subnet.
    pub addresses: Vec<String>,
    /// That its interfaces are on.
    pub networks: Vec<String>,
    /// Init's, on the host.
    pub pid: Option<i32>,
    pub created_at: Timestamp,
    /// The pool that its files are in.
    #[serde(default)]
    pub storage: String,
    /// In the order in which they count.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// What was set for it alone.
    pub config: BTreeMap<String, String>,
    /// That, and what its profiles say.
    #[serde(default)]
    pub expanded_config: BTreeMap<String, String>,
}

impl Container {
    /// What holds of a key of the configuration.
    pub fn effective(&self, key: &str) -> String {
        let default = CONFIG_KEYS.find(key).map(|known| known.default).unwrap_or_default();
        self.expanded_config.get(key).map_or(default, String::as_str).to_owned()
    }
}

/// A container that is to start with the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToStart {
    pub name: Name,
    /// Those of the highest are started first, and together.
    pub priority: i64,
    /// Seconds that those of a lower priority wait after its start.
    pub delay: u64,
}

/// A container that could not be done what was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failed {
    pub name: Name,
    pub error: Error,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    #[serde(flatten)]
    pub container: Container,
    pub uuid: String,
    /// It starts with the host.
    pub wanted_up: bool,
    /// Its init says that it is up.
    pub ready: bool,
    /// It was asked to stop, and has not yet.
    pub stopping: bool,
    /// How often it has booted since it was started.
    pub boots: u32,
    pub processes: usize,
    pub monitor_pid: Option<i32>,
    /// Why it ended last.
    pub ended: Option<Ended>,
    /// Its first id on the host; it has 65,536.
    pub first_id: u32,
    /// Of its first interface, like the next three.
    pub mac: Option<String>,
    pub gateway: Option<String>,
    pub bridge: Option<String>,
    pub host_link: Option<String>,
    pub nics: Vec<Nic>,
    pub cgroup: String,
    /// What the kernel holds it to, by the files of its cgroup; empty where it does not run.
    pub limits: BTreeMap<&'static str, String>,
    /// None where it does not run.
    pub usage: Option<Usage>,
    /// What its own files take of the limit that they have; none without a limit.
    pub disk: Option<Taken>,
    /// What has passed its links since it was made; none where that is not counted.
    pub traffic: Option<Traffic>,
    pub snapshots: usize,
    /// Layers that it stands on above its template.
    pub layers: usize,
    /// What the container runs without, and how to get it.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nic {
    pub device: String,
    pub interface: String,
    pub nictype: &'static str,
    pub network: Option<String>,
    pub mac: String,
    /// With the prefix length, like the next.
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ended {
    pub reason: String,
    /// The guest shut itself down, or did so when it was asked to.
    pub clean: bool,
}

/// A running container between two looks. What is not counted on this host is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    pub name: String,
    pub state: State,
    /// Of one CPU.
    pub cpu_percent: Option<f64>,
    /// Bytes in a second, like the next three.
    pub io_read_rate: Option<f64>,
    pub io_written_rate: Option<f64>,
    pub net_received_rate: Option<f64>,
    pub net_sent_rate: Option<f64>,
    pub usage: Usage,
}

/// Something that has happened to a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Happened {
    pub time: Timestamp,
    /// `created`, `started`, `ready`, `rebooted`, `frozen`, `unfrozen`, `stopped`, `renamed` or `deleted`.
    pub event: &'static str,
    pub container: Name,
    pub id: ContainerId,
    /// The name before, of one that was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Name>,
    /// Why it stopped, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
