//! A device of any type, and the result of changing one.

use crate::model::device::Device;
use crate::model::firewall::policy::Forward;
use crate::model::nic::Nic;

/// A device of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyDevice {
    Nic(Nic),
    Other(Device),
    Proxy(Forward),
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub device: AnyDevice,
    /// The container runs and sees it at its next start only.
    pub pending: bool,
}
