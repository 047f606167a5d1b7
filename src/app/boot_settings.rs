//! What a container's settings say of the host's boot and shutdown.

use std::time::Duration;

use crate::model::container::Container;

/// The settings `boot.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootSettings {
    /// Whether it starts with the host; as it was before, where nothing is set.
    pub autostart: Option<bool>,
    /// Higher ones start first.
    pub autostart_priority: i64,
    /// Time between its start and that of those with a lower priority.
    pub autostart_delay: Duration,
    /// Higher ones stop first.
    pub stop_priority: i64,
    /// For a clean shutdown, when the host shuts down.
    pub host_shutdown_timeout: Duration,
}

impl Default for BootSettings {
    fn default() -> Self {
        Self {
            autostart: None,
            autostart_priority: 0,
            autostart_delay: Duration::ZERO,
            stop_priority: 0,
            host_shutdown_timeout: Duration::from_secs(90),
        }
    }
}

/// The settings of one container.
pub fn boot_settings(_container: &Container) -> BootSettings {
    BootSettings::default()
}
