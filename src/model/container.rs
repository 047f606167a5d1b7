//! A container as the database and its manifest describe it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::ids::Slice;
use super::lan::{Lease, is_bridge_name};
use super::mac::Mac;
use super::name::{ContainerId, Name};
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
    pub config: Config,
}

/// A field of a container that holds what it may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} '{value}' is not {rule}")]
pub struct FieldError {
    pub field: &'static str,
    pub value: String,
    pub rule: &'static str,
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
        // A slice read by serde has not been through its constructor.
        let base = self.slice.base();
        rule(Slice::at(base).is_some(), "slice", &base, "the first id of a slice")?;
        let Some(lease) = &self.lease else { return Ok(()) };
        let network = lease.network();
        rule(is_bridge_name(&lease.bridge), "bridge", &lease.bridge, "1 to 15 of a-z, 0-9 and '-'")?;
        rule(lease.mac.0[0] & 1 == 0 && lease.mac.0 != [0; 6], "mac", &lease.mac, "a unicast address")?;
        rule(network.has_guest_addresses(), "gateway", &network.ipv4, "a host's address on a network")?;
        rule(
            network.is_guest_address(lease.ipv4.ip()),
            "ipv4",
            &lease.ipv4,
            "a guest's address on its gateway's network",
        )
    }
}

/// What a container is to be made of; its slice and, unless one is asked for, its address are
/// picked when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContainer {
    pub id: ContainerId,
    pub name: Name,
    pub template: TemplateId,
    pub template_name: String,
    pub uuid: String,
    pub created_at: i64,
    /// `Creating`, or a later phase to save the commit that would set it.
    pub phase: Phase,
    pub wanted_up: bool,
    pub nic: Option<NicRequest>,
    pub config: Config,
}

/// The interface a container is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicRequest {
    pub bridge: String,
    pub mac: Mac,
    /// None: the lowest free address of the network.
    pub ipv4: Option<Ipv4Addr>,
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
