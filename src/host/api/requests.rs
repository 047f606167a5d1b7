//! What each verb is asked with, and what it answers. A field that is added has a default, for the other side may
//! be of another build.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::packet::{Carries, Descriptors};
use crate::model::firewall::Change;
use crate::model::firewall::block::Hits;
use crate::model::firewall::plan::Plan;
use crate::model::firewall::traffic::{RuleCount, Traffic as Passed};
use crate::model::layer::LayerId;
use crate::model::limits::Limits;
use crate::model::monitor;
use crate::model::name::ContainerId;
use crate::model::network::Network;
use crate::model::nic::NicOrder;
use crate::render::dnsmasq::DnsLease;
use crate::sys::fs::quota::Amount;

#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {}

/// The caller's account and ids.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetUp {
    pub uid: u32,
    pub gid: u32,
    /// First and number of its subordinate ids.
    pub first_id: u32,
    pub ids: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct StorageNamespace {}

/// Comes with the descriptor `namespace`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Namespace {
    #[serde(skip)]
    pub descriptors: Descriptors,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnsureNetwork {
    pub network: Network,
}

/// Whether the caller's firewall is in place, and knows the network that was asked for; if not,
/// `ApplyFirewall` is to follow.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct InPlace {
    pub is_in_place: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RemoveNetwork {
    pub network: Network,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct EnsureNames {
    pub network: Network,
    /// All guests of the network that are to be answered for.
    pub leases: Vec<DnsLease>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FirewallInPlace {}

#[derive(Debug, Serialize, Deserialize)]
pub struct ApplyFirewall {
    pub plan: Plan,
    /// What is in place already stays, with its counts.
    #[serde(default)]
    pub if_needed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Applied {
    /// Blocks are to be told again.
    pub lacks_blocks: bool,
    /// Places that drop guests' traffic all the same.
    #[serde(default)]
    pub dropping: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeFirewall {
    pub change: Change,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RemoveFirewall {
    /// Those of the caller's networks.
    pub bridges: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ForgetContainer {
    pub container: String,
    /// Those that it had.
    pub addresses: Vec<IpAddr>,
}

/// Comes with the descriptors `add` and `remove`, sealed memory files as `model::firewall::block` writes them: lists
/// of a million blocks are no JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Block {
    /// Addresses of the containers for which alone something is blocked.
    #[serde(default)]
    pub members: Vec<(ContainerId, Vec<IpAddr>)>,
    #[serde(skip)]
    pub descriptors: Descriptors,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct BlockHits {}

#[derive(Debug, Serialize, Deserialize)]
pub struct BlockHitList {
    pub hits: Vec<Hits>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Traffic {}

/// By the host's ends of the caller's links.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrafficMap {
    pub links: BTreeMap<String, Passed>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RuleCounts {}

#[derive(Debug, Serialize, Deserialize)]
pub struct RuleCountList {
    pub rules: Vec<RuleCount>,
}

/// An interface of a running container.
#[derive(Debug, Serialize, Deserialize)]
pub struct AdjustLink {
    pub container: String,
    pub nic: NicOrder,
}

/// An interface as a running container was started with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct MendLink {
    pub container: String,
    pub nic: NicOrder,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Mended {
    /// Whether there is such a link at all.
    pub is_there: bool,
    /// What of it was not as it was made.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// The queue of the descriptors of disks and nodes.
pub const DEVICES: &str = "devices";

/// Comes with the descriptors that layers and mounts name, and `config`, a sealed memory file; `control`, a listening
/// socket; `state`, `log` and `other-log`, files open for reading and writing; those of disks and nodes may come in a queue,
/// `devices`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spawn {
    pub container: String,
    pub name: String,
    /// First of its runtime ids.
    pub first_id: u32,
    /// Its root's read-only trees, the lowest first.
    pub layers: Vec<Layer>,
    /// Other trees of the monitor's. `data`, with the overlay's `upper` and `work`, is one of them.
    pub mounts: Vec<Mount>,
    #[serde(default = "usual_devices")]
    pub devices: Vec<Device>,
    /// Besides those.
    #[serde(default)]
    pub nodes: Vec<NodeOrder>,
    #[serde(default)]
    pub disks: Vec<DiskOrder>,
    #[serde(default)]
    pub nics: Vec<NicOrder>,
    /// Process number of an init to take over; none: one is booted.
    #[serde(default)]
    pub adopt: Option<i32>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(skip)]
    pub descriptors: Descriptors,
}

/// A read-only tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Name of its descriptor; or of that of the directory that it is in, which several may share: a message on the
    /// system bus carries 16 descriptors.
    pub descriptor: String,
    /// Its name in that directory.
    #[serde(default)]
    pub name: Option<LayerId>,
}

/// A tree that the monitor has at a place of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Of the mount and of its descriptor.
    pub name: String,
    #[serde(default)]
    pub is_read_only: bool,
}

/// A device node of the guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// One of [`monitor::DEVICES`].
    pub name: String,
}

/// A device node that a guest gets where its operator asks for it. Its name is that of its descriptor too, for the
/// host's node opened for reading and writing, which an ordinary user has to pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOrder {
    pub name: String,
    /// The path of one of [`crate::model::monitor::NODES`].
    pub node: String,
    pub mode: u32,
    /// In the guest.
    pub uid: u32,
    pub gid: u32,
}

/// A directory of the host's in a guest: one that was passed as a descriptor of that name, opened for reading, or
/// for containers of root's one that root has allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOrder {
    /// Of its mount.
    pub name: String,
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default)]
    pub is_read_only: bool,
    /// The guest's root owns what its owner owns.
    #[serde(default)]
    pub shift: bool,
    /// It belongs to the storage ids, whose files the guest sees as its own.
    #[serde(default)]
    pub is_volume: bool,
    /// One that is not there is left out.
    #[serde(default)]
    pub may_be_missing: bool,
}

/// What every guest has.
pub fn usual_devices() -> Vec<Device> {
    monitor::DEVICES.iter().map(|(name, ..)| Device { name: (*name).to_owned() }).collect()
}

/// Process numbers of monitor and init.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spawned {
    pub monitor: i32,
    pub init: i32,
}

/// A device for a running container: one of the two, as `Spawn` has them.
#[derive(Debug, Serialize, Deserialize)]
pub struct LendDevice {
    pub container: String,
    /// First of its runtime ids.
    pub first_id: u32,
    #[serde(default)]
    pub disk: Option<DiskOrder>,
    #[serde(default)]
    pub node: Option<NodeOrder>,
    #[serde(skip)]
    pub descriptors: Descriptors,
}

/// Comes with the descriptor `mount`, which is attached nowhere; without it where the directory is missing and may be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lent {
    #[serde(skip)]
    pub descriptors: Descriptors,
}

/// How a quota is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The directory is new and empty: what is made in it counts from now on.
    Begins,
    /// Refused where more is taken already.
    IfItFits,
    /// Where more is taken already, nothing more can be written.
    Anyway,
    /// So that there is `ROOM`, whatever is taken.
    WithRoom,
}

/// More than overlayfs needs for its own directory when it is mounted.
pub const ROOM: Amount = Amount { bytes: 1 << 20, files: 64 };

/// How much a container, or a volume, may take of the disk. Comes with the descriptor `data`: its directory in the pool.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetDiskQuota {
    /// Empty: a volume's.
    #[serde(default)]
    pub container: String,
    /// First of the container's runtime ids.
    #[serde(default)]
    pub first_id: u32,
    pub setting: Setting,
    /// 0: no limit.
    pub bytes: u64,
    /// 0: no limit.
    pub files: u64,
    #[serde(skip)]
    pub descriptors: Descriptors,
}

/// A pool that is to be in this directory.
#[derive(Debug, Serialize, Deserialize)]
pub struct MakePool {
    pub directory: String,
}

/// A pool that is empty and no longer needed.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemovePool {
    pub directory: String,
}

/// One more interface of a running container.
#[derive(Debug, Serialize, Deserialize)]
pub struct AttachLink {
    pub container: String,
    pub nic: NicOrder,
}

/// An interface that a running container is to lose.
#[derive(Debug, Serialize, Deserialize)]
pub struct DetachLink {
    pub container: String,
    pub slot: u8,
}

/// The directories that disks of the caller's containers are made of; others need no longer be allowed.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeepSources {
    pub directories: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SetLimits {
    pub container: String,
    pub limits: Limits,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Clear {
    pub container: String,
    /// Its monitor has killed its guest: the answer need not wait until the kernel is done with what was the
    /// guest's, nor for the monitor's own end.
    #[serde(default)]
    pub is_killed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Cleared {
    /// What could not be removed.
    pub left: Vec<String>,
    /// Nothing of it executes anything any more. The rest is removed by this broker, once its caller has gone,
    /// and before anything else is done with the container.
    #[serde(default)]
    pub goes_on: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct AttachLxcfs {
    pub container: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RegisterMachine {
    pub container: String,
    pub name: String,
    /// 32 hexadecimal digits.
    pub uuid: String,
}

/// The answer of a verb that has nothing to tell.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Done {}

macro_rules! carries_descriptors {
    ($($type:ty),+) => { $(
        impl Carries for $type {
            fn descriptors(&mut self) -> Option<&mut Descriptors> {
                Some(&mut self.descriptors)
            }
        }
    )+ };
}

macro_rules! carries_none {
    ($($type:ty),+ $(,)?) => { $( impl Carries for $type {} )+ };
}

carries_descriptors!(Namespace, Block, Spawn, LendDevice, Lent, SetDiskQuota);
carries_none!(
    Setup,
    SetUp,
    StorageNamespace,
    MakePool,
    RemovePool,
    EnsureNetwork,
    InPlace,
    RemoveNetwork,
    EnsureNames,
    FirewallInPlace,
    ApplyFirewall,
    Applied,
    ChangeFirewall,
    RemoveFirewall,
    ForgetContainer,
    BlockHits,
    BlockHitList,
    Traffic,
    TrafficMap,
    RuleCounts,
    RuleCountList,
    AdjustLink,
    MendLink,
    Mended,
    Spawned,
    AttachLink,
    DetachLink,
    KeepSources,
    SetLimits,
    Clear,
    Cleared,
    AttachLxcfs,
    RegisterMachine,
    Done,
);
