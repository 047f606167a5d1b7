//! What can go wrong in a verb.

mod facts;

use std::io;

use crate::host::api::grants::GrantsError;
use crate::host::broker::forwarding::ForwardingError;
use crate::host::client::BrokerError;
use crate::host::rootless::owner::DaemonlessError;
use crate::host::setup::SetupError;
use crate::host::sources::SourceError;
use crate::model::document::{DocumentError, Place};
use crate::model::fault::{Code, Facts};
use crate::model::firewall::Problems;
use crate::model::firewall::block::BlockError;
use crate::model::keys::KeyError;
use crate::model::limits::LimitError;
use crate::model::monitor::MOST_LAYERS;
use crate::model::name::Name;
use crate::model::pool::{PoolName, VolumeName};
use crate::model::profile::ProfileName;
use crate::model::snapshot::{MOST_SNAPSHOTS, SnapshotName};
use crate::store::StoreError;
use crate::sys::SysError;
use crate::sys::fs::lock::{Holder, LockError};
use crate::sys::net::nft::NftError;

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("nagaya must be run as root for this")]
    NotRoot,
    #[error("'{0}' has no containers here")]
    NothingOf(String),
    #[error("'{0}' is a system account: containers are for ordinary users")]
    SystemAccount(String),
    #[error("there is no user '{0}' in /etc/passwd")]
    NoUser(String),
    #[error(transparent)]
    Grants(#[from] GrantsError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    #[error(transparent)]
    Daemonless(#[from] DaemonlessError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Sys(#[from] SysError),
    #[error(transparent)]
    Lock(LockError),
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("there is no network '{name}'")]
    NoNetwork { name: String, nearest: Option<String> },
    #[error("container '{container}' has no device '{device}'")]
    NoDevice { container: Name, device: String },
    #[error("profile '{profile}' has no device '{device}'")]
    NoDeviceOfProfile { profile: ProfileName, device: String },
    #[error("{wanted} overlaps {taken}, which the host uses")]
    Overlaps { wanted: String, taken: String },
    #[error("there is no container '{name}'")]
    NoContainer { name: Name, nearest: Option<String> },
    #[error("container '{container}' has no snapshot '{name}'")]
    NoSnapshot { container: Name, name: SnapshotName, nearest: Option<String> },
    #[error("container '{0}' has {MOST_SNAPSHOTS} snapshots, and cannot have more")]
    TooManySnapshots(Name),
    #[error("container '{0}' stands on {MOST_LAYERS} layers, and cannot stand on more")]
    TooManyLayers(Name),
    /// A command was killed, and what it has begun cannot be undone now.
    #[error("an earlier '{kind}' of container '{name}' is not undone yet{}", because(.error.as_deref()))]
    Unfinished { name: Name, kind: &'static str, error: Option<String> },
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{place}")]
    At { place: Place, source: Box<AppError> },
    /// Somebody has changed it while it was edited.
    #[error("{what} was changed meanwhile")]
    Outdated { what: String },
    #[error("there is no profile '{name}'")]
    NoProfile { name: ProfileName, nearest: Option<String> },
    #[error("container '{container}' cannot have profile '{profile}' so")]
    ProfileRefused { profile: ProfileName, container: Name, source: Box<AppError> },
    #[error("there is no storage pool '{name}'")]
    NoPool { name: PoolName, nearest: Option<String> },
    #[error("storage pool '{pool}' has no volume '{name}'")]
    NoVolume { pool: PoolName, name: VolumeName, nearest: Option<String> },
    #[error("volume '{name}' is used by {}", users.join(", "))]
    VolumeInUse { pool: PoolName, name: VolumeName, users: Vec<String> },
    #[error("storage pool '{name}' cannot be used")]
    PoolUnavailable { name: PoolName, source: SysError },
    #[error("there is no template '{name}'")]
    NoTemplate { name: String, nearest: Option<String> },
    #[error("container '{0}' is not running")]
    NotRunning(Name),
    #[error("container '{0}' is running already")]
    AlreadyRunning(Name),
    #[error("container '{0}' is running")]
    Running(Name),
    /// As `Running`, for verbs without `--force`.
    #[error("container '{0}' is running")]
    MustBeStopped(Name),
    /// As `Running`, for verbs that stop it if that is wanted.
    #[error("container '{0}' is running")]
    RunningAsks(Name),
    #[error("container '{0}' is paused")]
    Frozen(Name),
    #[error("container '{0}' is not paused")]
    NotFrozen(Name),
    #[error("another command is at work on container '{name}'")]
    Busy { name: Name, holder: Option<Holder> },
    #[error("nobody can tell whether container '{0}' runs: its cgroup cannot be read")]
    Unknown(Name),
    /// A clean stop that the operator has interrupted goes on in the guest.
    #[error("interrupted: the guest of container '{name}' has been asked to shut down{}",
            if *restart { ", and is not started again" } else { "" })]
    StopInterrupted { name: Name, restart: bool },
    #[error("container '{name}' has not shut down within {seconds} s")]
    StopTimeout { name: Name, seconds: u64 },
    #[error("container '{name}' has not answered within {seconds} s")]
    WaitTimeout { name: Name, seconds: u64 },
    #[error("container '{name}' has ended: {reason}")]
    Ended { name: Name, reason: String },
    #[error("cannot start container '{name}': {reason}")]
    Start {
        name: Name,
        reason: String,
        /// What the host has run out of.
        lack: Option<Code>,
    },
    #[error("container '{name}': {reason}")]
    Monitor { name: Name, reason: String },
    #[error("something of container '{name}' is left: {left}")]
    Left { name: Name, left: String },
    #[error("cannot {what}: {reason}")]
    Template {
        what: String,
        reason: String,
        hint: Option<String>,
        /// What the host lacks or has run out of.
        lack: Option<Code>,
    },
    /// What is there would be lost.
    #[error("{} is of a later nagaya than this one", .0.display())]
    Newer(std::path::PathBuf),
    #[error("no private network of this host is free for '{0}'")]
    NoSubnet(String),
    #[error("invalid firewall policy")]
    Policy(#[from] Problems),
    #[error("that would shut you out: {0}")]
    ShutOut(String),
    #[error("a policy waits to be confirmed, for {0} more")]
    Unconfirmed(String),
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error("this host has no IPv6")]
    NoIpv6,
    #[error("the host's links of {} are gone; only a restart makes them anew", names(.0))]
    CutOff(Vec<Name>),
    #[error("not all of the networks could be repaired: {0}")]
    Unrepaired(String),
    #[error("cannot prepare the terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot pass data on between here and the guest")]
    Relay(#[source] io::Error),
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    #[error("cannot pass on what was printed in the guest")]
    Printed(#[source] io::Error),
    #[error("descriptor {0} was not passed on with the request")]
    NotPassed(i32),
    #[error("interrupted")]
    Interrupted,
    #[error("instance '{instance}' stays: {reason}")]
    Stays { instance: String, reason: String, facts: Facts },
    #[error("there is no operation '{0}'")]
    NoOperation(String),
    #[error("'{0}' begins the ids of several operations")]
    SeveralOperations(String),
    #[error("{0}")]
    Refused(String),
    /// The same with what to type instead.
    #[error("{what}")]
    Advised { what: String, hint: String },
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// Containers, as they are listed in a sentence and on a command line.
fn names(all: &[Name]) -> String {
    all.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

impl AppError {
    pub fn advised(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Advised { what: what.into(), hint: hint.into() }
    }
}

pub type AppResult<T> = Result<T, AppError>;

impl From<LockError> for AppError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Sys(error) => Self::Sys(error),
            other => Self::Lock(other),
        }
    }
}
