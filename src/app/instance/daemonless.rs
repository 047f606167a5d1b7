//! What the verbs do differently in daemonless mode.

use super::App;
use super::layout;
use crate::app::error::{AppError, AppResult};
use crate::host::client::Broker;
use crate::host::halves;
use crate::host::rootless::cgroup;
use crate::host::rootless::owner;
use crate::host::rootless::owner::DaemonlessError;
use crate::host::setup::Owner;
use crate::model::instance::Instance;
use crate::sys::cgroup::home::Home;
use crate::sys::error_text;
use crate::sys::process::fork::Fork;

/// Opens it, and makes what is missing. While nothing runs there are no namespaces, nor are they made before they are
/// needed. To be called while the process has one thread.
pub fn open(instance: &Instance) -> AppResult<(Owner, Broker)> {
    let owner = owner::owner()?;
    owner::make_dirs(instance)?;
    if Home::find(instance).is_ok_and(|home| !home.containers().is_empty()) {
        // What runs does not depend on the namespace holder, but on a successor in time.
        owner::namespaces(instance, &owner)?;
    }
    let mut broker = halves::split_daemonless(instance, owner);
    if !owner::has_pool(instance, &owner) {
        broker.setup()?;
    }
    Ok((owner, broker))
}

/// Makes sure that a container can be started: that there is a cgroup for it and, if possible, an uplink.
/// It does something only for a daemonless owner.
pub fn prepare_start(app: &mut App) -> AppResult<()> {
    if !app.instance.is_daemonless() {
        return Ok(());
    }
    app.home = Some(cgroup::ensure(&app.instance).map_err(DaemonlessError::from)?);
    let kept = owner::namespaces(&app.instance, &owner::owner()?)?;
    if let Err(e) = owner::open_uplink(&app.instance, kept.pid) {
        tracing::info!("containers have no uplink: {}", error_text(&e));
    }
    Ok(())
}

/// What `probe` returns within the network that the containers are in.
pub fn in_network<T>(app: &App, probe: impl FnOnce() -> T) -> AppResult<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    if !app.instance.is_daemonless() {
        return Ok(probe());
    }
    let outer = owner::namespaces(&app.instance, &owner::owner()?)?.outer;
    let fork = Fork::new("look into your own network").keep([&outer.user, &outer.network]);
    let found: Result<T, String> =
        fork.run(|| outer.enter().map(|()| probe()).map_err(|e| error_text(&e)))?;
    found.map_err(AppError::Refused)
}

/// Removes everything of daemonless mode; the containers are gone by now.
pub fn remove(instance: &Instance) -> AppResult<Vec<String>> {
    let mut removed = Vec::new();
    owner::remove(instance, &mut removed)?;
    Ok(removed)
}

/// Whether there is something to remove.
pub fn is_there(instance: &Instance) -> bool {
    owner::is_set_up(instance) || layout::database(instance).exists()
}
