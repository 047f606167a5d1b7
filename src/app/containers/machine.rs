//! What systemd-machined is told of containers.

use crate::app::instance::App;
use crate::host::services::machined;
use crate::model::container::Container;
use crate::runtime::protocol::StateRecord;

/// Tells it of a container that has just been started.
pub fn register(app: &mut App, container: &Container) {
    // systemd-machined takes nothing from an ordinary user.
    if app.instance.is_daemonless() || !machined::is_there() {
        return;
    }
    let told = app.broker.register_machine(container.id.as_str(), container.name.as_str(), &container.uuid);
    if let Err(e) = told {
        tracing::warn!("machinectl will not know '{}': {e}", container.name);
    }
}

/// Tells it of the new init of a guest that has rebooted. Cheap where there is nothing to tell.
pub fn renew(app: &mut App, container: &Container, record: &StateRecord) {
    if record.boots <= 1 || record.ended.is_some() {
        return;
    }
    let known = machined::leader(&app.instance.machine_name(&container.name));
    if known.is_some_and(|leader| leader != record.init_pid) {
        register(app, container);
    }
}
