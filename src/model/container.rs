//! A container as the database and its manifest describe it.

use serde::{Deserialize, Serialize};

use super::ids::Slice;
use super::name::{ContainerId, Name};
use super::network::Lease;
use super::template::TemplateId;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub id: ContainerId,
    pub name: Name,
    pub template: TemplateId,
    /// The name it was launched from; the template may have been renamed or deleted since.
    pub template_name: String,
    /// Its runtime slice.
    pub slice: Slice,
    /// Random, for the guest's machine id: 32 hexadecimal digits.
    pub uuid: String,
    /// Seconds since 1970.
    pub created_at: i64,
    pub phase: Phase,
    /// Whether the operator wants it running.
    pub wanted_up: bool,
    pub lease: Option<Lease>,
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
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Frozen => "frozen",
            State::Stopped => "stopped",
            State::Busy => "busy",
        }
    }
}
