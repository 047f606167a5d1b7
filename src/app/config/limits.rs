//! From a configuration to the limits that this host enforces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::storage::pools;
use crate::host::api::grants;
use crate::model::config::Config;
use crate::model::config::value::cpu_set;
use crate::model::granted::{self, Excess};
use crate::model::limits::{self, Disk, HostFacts, Limits};
use crate::model::name::{ContainerId, Name};
use crate::model::pool::PoolName;
use crate::sys::cgroup;
use crate::sys::kernel::hardware;

/// The limits that `config` asks for, for container `id` or one that is still to be made.
///
/// # Errors
/// Where the host cannot enforce one.
pub fn of(app: &App, config: &Config, id: Option<&ContainerId>) -> AppResult<Limits> {
    // Most containers have no limits, and their starts need not look at the host.
    if !config.iter().any(|(key, _)| key.starts_with("limits.")) {
        return Ok(Limits::default());
    }
    Ok(limits::resolve(config, &facts(app, config, id))?)
}

/// The same, reduced to what the administrator grants. The grant may have become smaller since the limits
/// were set, and a container with less is better than one that does not start.
pub fn granted(app: &App, name: &Name, config: &Config, id: &ContainerId) -> AppResult<Limits> {
    for key in config.strangers() {
        (app.tell)(&stranger(name, key));
    }
    let mut limits = of(app, config, Some(id))?;
    for excess in above_grant(app, &mut limits) {
        (app.tell)(&format!("'{name}' has less than it asks for. {}", excess.told(app.instance.user())));
    }
    Ok(limits)
}

/// The same, without telling anything.
pub fn within_grant(app: &App, config: &Config, id: &ContainerId) -> AppResult<Limits> {
    let mut limits = of(app, config, Some(id))?;
    above_grant(app, &mut limits);
    Ok(limits)
}

/// What is said of a key that a later version has stored.
pub fn stranger(name: &Name, key: &str) -> String {
    format!(
        "'{key}' of '{name}' has no effect: it is of a later nagaya. It is kept for that, unless: nagaya config \
         unset {name} {key}"
    )
}

/// Refuses what is above the grant of one of the keys that `changed` names.
pub fn check_granted(app: &App, limits: &Limits, changed: impl Fn(&str) -> bool) -> AppResult<()> {
    match above_grant(app, &mut limits.clone()).iter().find(|excess| changed(&excess.key)) {
        Some(excess) => Err(AppError::Refused(excess.told(app.instance.user()))),
        None => Ok(()),
    }
}

/// Reduces an ordinary user's limits to the grant. The broker checks them again.
fn above_grant(app: &App, limits: &mut Limits) -> Vec<Excess> {
    if app.instance.uid_of_user().is_none() || *limits == Limits::default() {
        return Vec::new();
    }
    let grant = grants::effective(&app.instance, app.instance.user());
    grant.map_or_else(|_| Vec::new(), |grant| granted::clamp(limits, &grant))
}

fn facts(app: &App, config: &Config, id: Option<&ContainerId>) -> HostFacts {
    let mount = cgroup::mount_dir().ok();
    // Looking at every container is for those alone that are pinned, too.
    let is_pinned = config.get("limits.cpu").is_some();
    let (present, pinned) = if is_pinned { pinning(app, id) } else { Default::default() };
    HostFacts {
        memory: hardware::memory(),
        cpus: hardware::online_cpus(),
        controllers: mount.as_deref().map(cgroup::limits::controllers).unwrap_or_default(),
        legacy: cgroup::limits::legacy_controllers(),
        pinned,
        present,
        disks: disks(app, id, mount.as_deref()),
        most_open_files: hardware::most_open_files(),
    }
}

/// The disks that its files are on: its template's, and its own where they are in another pool.
fn disks(app: &App, id: Option<&ContainerId>, mount: Option<&Path>) -> Result<Vec<Disk>, String> {
    let under = |pool: &PoolName| {
        let path = pools::path(app, pool).map_err(|e| e.to_string())?;
        hardware::disks_under(&path, mount)
    };
    let container = id.and_then(|id| app.store.container_by_id(id).ok().flatten());
    let mut disks = under(&PoolName::default_one())?;
    if let Some(container) = container.filter(|container| !container.pool.is_default_one()) {
        for disk in under(&container.pool)? {
            if disks.iter().all(|other| (other.major, other.minor) != (disk.major, disk.minor)) {
                disks.push(disk);
            }
        }
    }
    Ok(disks)
}

/// The CPUs of container `id`, and how many others are pinned to each.
fn pinning(app: &App, id: Option<&ContainerId>) -> (BTreeSet<u32>, BTreeMap<u32, u32>) {
    let (mut present, mut pinned) = (BTreeSet::new(), BTreeMap::new());
    let Some(home) = &app.home else { return (present, pinned) };
    for other in home.containers() {
        let file = home.container_dir(&other).join("payload/cpuset.cpus");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let cpus = cpu_set(text.trim()).unwrap_or_default();
        if id == Some(&other) {
            present = cpus;
        } else {
            cpus.into_iter().for_each(|cpu| *pinned.entry(cpu).or_insert(0) += 1);
        }
    }
    (present, pinned)
}
