//! What systemd-machined is told of containers.

use super::context::App;
use super::state;
use crate::host::machined;
use crate::model::container::Container;

/// Tells it of a container that has just been started.
pub fn register(app: &mut App, container: &Container) {
    // systemd-machined takes nothing from an ordinary user.
    if app.instance.is_private() || !machined::is_there() {
        return;
    }
    let told = app.broker.register_machine(container.id.as_str(), container.name.as_str(), &container.uuid);
    if let Err(e) = told {
        tracing::warn!("machinectl will not know '{}': {e}", container.name);
    }
}

/// Tells it of the new init of a guest that has rebooted. Cheap where there is nothing to tell.
pub fn renew(app: &mut App, container: &Container) {
    let Some(record) = state::record(app, &container.id).filter(|r| r.boots > 1 && r.ended.is_none()) else {
        return;
    };
    let known = machined::leader(&app.instance.machine_name(&container.name));
    if known.is_some_and(|leader| leader != record.init_pid) {
        register(app, container);
    }
}
