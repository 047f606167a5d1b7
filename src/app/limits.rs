//! From a configuration to the limits that this host enforces.

use std::collections::{BTreeMap, BTreeSet};

use super::context::App;
use super::error::{AppError, AppResult};
use crate::host::grants;
use crate::model::config::Config;
use crate::model::config::value::cpu_set;
use crate::model::granted::{self, Excess};
use crate::model::limits::{self, HostFacts, Limits};
use crate::model::name::{ContainerId, Name};
use crate::sys::{cgroup, hardware};

/// The limits that `config` asks for, for container `id` or one that is still to be made.
///
/// # Errors
/// Where the host cannot enforce one.
pub fn of(app: &App, config: &Config, id: Option<&ContainerId>) -> AppResult<Limits> {
    // Most containers have none, and a start is quick.
    if !config.iter().any(|(key, _)| key.starts_with("limits.")) {
        return Ok(Limits::default());
    }
    Ok(limits::resolve(config, &facts(app, id))?)
}

/// The same, taken down to what the administrator grants, which may have become less since the limits
/// were set: a container that has less is better than one that stays down.
pub fn granted(app: &App, name: &Name, config: &Config, id: &ContainerId) -> AppResult<Limits> {
    let mut limits = of(app, config, Some(id))?;
    for excess in above_grant(app, &mut limits) {
        (app.tell)(&format!("'{name}' has less than it asks for. {}", excess.told(app.instance.user())));
    }
    Ok(limits)
}

/// Refuses what is above the grant of one of the keys that `changed` names.
pub fn check_granted(app: &App, limits: &Limits, changed: impl Fn(&str) -> bool) -> AppResult<()> {
    match above_grant(app, &mut limits.clone()).iter().find(|excess| changed(&excess.key)) {
        Some(excess) => Err(AppError::Refused(excess.told(app.instance.user()))),
        None => Ok(()),
    }
}

/// Takes the limits of an ordinary user down to the grant. The broker has the last word on it.
fn above_grant(app: &App, limits: &mut Limits) -> Vec<Excess> {
    if app.instance.person().is_none() || *limits == Limits::default() {
        return Vec::new();
    }
    let grant = grants::effective(&app.instance, app.instance.user());
    grant.map_or_else(|_| Vec::new(), |grant| granted::clamp(limits, &grant))
}

fn facts(app: &App, id: Option<&ContainerId>) -> HostFacts {
    let mount = cgroup::mount_dir().ok();
    let controllers = mount.as_ref().and_then(|m| std::fs::read_to_string(m.join("cgroup.controllers")).ok());
    let (present, pinned) = pinning(app, id);
    HostFacts {
        memory: hardware::memory(),
        cpus: hardware::online_cpus(),
        controllers: controllers.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        legacy: crate::sys::limits::legacy_controllers(),
        pinned,
        present,
        disks: hardware::disks_under(&app.instance.state_dir().join("pool"), mount.as_deref()),
        most_open_files: hardware::most_open_files(),
    }
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
