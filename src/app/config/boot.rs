//! What a container's settings say of the host's boot and shutdown.

use std::time::Duration;

use crate::model::config::value::boolean;
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

/// The settings of one container. What is stored was checked when it was set.
pub fn boot_settings(container: &Container) -> BootSettings {
    let config = container.config.expanded();
    let number =
        |key: &str| config.effective(key).ok().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let seconds = |key: &str| Duration::from_secs(number(key).unsigned_abs());
    BootSettings {
        autostart: config.get("boot.autostart").and_then(boolean),
        autostart_priority: number("boot.autostart.priority"),
        autostart_delay: seconds("boot.autostart.delay"),
        stop_priority: number("boot.stop.priority"),
        host_shutdown_timeout: seconds("boot.host_shutdown_timeout"),
    }
}
