//! `setup`, and its undoing.

use super::App;
use super::{daemonless, layout, owner};
use crate::api::setup::SetUp;
use crate::app::containers::delete;
use crate::app::error::{AppError, AppResult};
use crate::app::network;
use crate::app::storage::{contents, pool_admin, pools, trash};
use crate::host::broker::forwarding;
use crate::host::setup::{self, RemoveOptions, SetupOptions};
use crate::model::fault::{Facts, Fault};
use crate::model::instance::Instance;
use crate::model::pool::PoolName;
use crate::model::subid::ID_RANGES;
use crate::sys::cgroup;
use crate::sys::cgroup::home::Home;
use crate::sys::error_text;
use crate::sys::process::fork::Fork;

/// Makes what is missing; one phrase for each thing that was.
pub fn setup(instance: &Instance, request: &SetUp) -> AppResult<Vec<String>> {
    if let Some(wanted) = request.id_ranges.filter(|wanted| !ID_RANGES.contains(wanted)) {
        let (least, most) = (ID_RANGES.start(), ID_RANGES.end());
        return Err(AppError::Refused(format!("{wanted} id ranges: it must be {least} to {most}")));
    }
    let mut created = Vec::new();
    if rustix::process::geteuid().is_root() {
        let options = request
            .id_ranges
            .map_or_else(|| SetupOptions::of(instance), |id_ranges| SetupOptions { id_ranges });
        let done = setup::setup(instance, options)?;
        let had = done.range.id_ranges();
        if request.id_ranges.is_some_and(|wanted| wanted != had) {
            let user = instance.user();
            return Err(AppError::Refused(format!("'{user}' has {had} id ranges already, which stay")));
        }
        created = done.created;
    } else if request.id_ranges.is_some() {
        // Only the administrator decides how many ids a user gets.
        return Err(AppError::NotRoot);
    }
    let mut app = super::open(instance.clone())?;
    let bridge = app.instance.bridge();
    let was_there = app.store.network(&bridge)?.is_some();
    let network = network::ensure_default(&mut app, request.subnet)?;
    if !was_there {
        let subnets = [network.ipv4.map(|net| net.to_string()), network.ipv6.map(|net| net.to_string())];
        let subnets: Vec<String> = subnets.into_iter().flatten().collect();
        created.push(format!("network {bridge} with {}", subnets.join(" and ")));
    }
    Ok(created)
}

/// Removes an instance. With `yes` it removes containers and templates too; without `yes` it fails if there
/// are any. Returns a phrase for each thing that it removed; none if nothing was set up.
pub fn remove(instance: &Instance, yes: bool) -> AppResult<Vec<String>> {
    if instance.is_daemonless() {
        return remove_daemonless(instance, yes);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(AppError::NotRoot);
    }
    let mut removed = Vec::new();
    if setup::is_set_up(instance).is_some() {
        // A removal that was cut short, or somebody by hand, may have removed what is needed to open the
        // instance and to find the rest.
        let lost = !layout::database(instance).exists();
        setup::setup(instance, SetupOptions::of(instance))?;
        empty_as_owner(instance, yes, lost)?;
        // Ordinary users' cgroups lie below the service user's.
        let shared = instance.uid_of_user().is_none() && !owner::ordinary_users(instance)?.is_empty();
        if let (false, Ok(home)) = (shared, Home::find(instance)) {
            home.remove()?;
        }
    }
    removed.extend(setup::remove(instance, RemoveOptions { delete_data: yes })?);
    if let Ok(mount) = cgroup::mount_dir() {
        // All owners' cgroups are below one: it goes with the last of them.
        let _ = std::fs::remove_dir(mount.join(instance.name()));
    }
    removed.extend(forwarding::disable()?);
    Ok(removed)
}

/// The same for the service user's instance and those of all ordinary users; the administrator's
/// grants go too.
pub fn remove_everyone(base: &Instance, yes: bool) -> AppResult<Vec<String>> {
    let mut removed = Vec::new();
    for owner in owner::ordinary_users(base)? {
        let lines = remove(&owner, yes)?;
        removed.extend(lines.into_iter().map(|line| format!("{line} (of {})", owner.user())));
    }
    removed.extend(remove(base, yes)?);
    removed.extend(setup::remove_grants(base)?);
    Ok(removed)
}

/// An ordinary user's own.
fn remove_daemonless(instance: &Instance, yes: bool) -> AppResult<Vec<String>> {
    if !daemonless::is_there(instance) {
        return Ok(Vec::new());
    }
    let lost = !layout::database(instance).exists();
    empty_as_owner(instance, yes, lost)?;
    daemonless::remove(instance)
}

/// Why the instance could not be emptied, from the process that tried.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stays {
    reason: String,
    facts: Facts,
}

/// In a child: opening an instance gives up root for good, and root is needed afterwards.
fn empty_as_owner(instance: &Instance, yes: bool, lost: bool) -> AppResult<()> {
    let outcome: Result<(), Stays> = Fork::new("empty the instance").run(|| {
        let stays = |e: AppError| Stays { reason: error_text(&e), facts: e.facts() };
        empty(instance, yes, lost).map_err(stays)
    })?;
    let instance = instance.name().to_owned();
    outcome.map_err(|Stays { reason, facts }| AppError::Stays { instance, reason, facts })
}

/// Deletes what the database knows of; if the database is lost, what is found in the kernel.
fn empty(instance: &Instance, yes: bool, lost: bool) -> AppResult<()> {
    let mut app = super::open(instance.clone())?;
    let containers = app.store.containers()?;
    let volumes = app.store.volumes(None)?;
    let would_go = data(containers.len(), volumes.len(), app.store.templates()?.len());
    if let Some(would_go) = would_go.filter(|_| !yes) {
        return Err(AppError::advised(
            format!("{would_go} would be deleted"),
            "delete all of that: the same command with --yes",
        ));
    }
    // Nothing keeps what is on disks that are not mounted.
    let present = pools::present(&app)?;
    let others = app.store.pools()?;
    let is_gone = |pool: &PoolName| !present.contains(pool);
    others.iter().filter(|pool| is_gone(&pool.name)).for_each(|pool| app.lose_pool(&pool.name));
    for container in containers {
        delete::delete(&mut app, &container.name, true)?;
    }
    // What is in the pool that is always there goes with it.
    for volume in volumes.iter().filter(|volume| !volume.pool.is_default_one()) {
        app.store.delete_volume(&volume.pool, &volume.name)?;
    }
    trash::empty_now(&mut app, &PoolName::default_one())?;
    for pool in &others {
        if !is_gone(&pool.name) {
            contents::empty(&mut app, &pool.name)?;
        }
        pool_admin::forget(&mut app, pool)?;
    }
    if lost {
        clear_unknown(&mut app)?;
    }
    let found = if lost { network::found(&app)? } else { None };
    let networks: Vec<_> = app.store.networks()?.into_iter().chain(found).collect();
    let bridges = networks.iter().map(|network| network.bridge.clone()).collect();
    for network in networks {
        app.broker.remove_network(&network)?;
    }
    app.broker.remove_firewall(bridges)?;
    if instance.is_daemonless() {
        // Files of the subordinate ids, which their owner could not delete as an ordinary user.
        contents::empty(&mut app, &PoolName::default_one())?;
        app.home.take().map_or(Ok(()), |home| home.remove())?;
    }
    Ok(())
}

/// What would be lost, in words; none if nothing would.
fn data(containers: usize, volumes: usize, templates: usize) -> Option<String> {
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        more => Some(format!("{more} {what}s")),
    };
    let parts =
        [counted(containers, "container"), counted(volumes, "volume"), counted(templates, "template")];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let (last, before) = parts.split_last()?;
    Some(if before.is_empty() { last.clone() } else { format!("{} and {last}", before.join(", ")) })
}

/// Ends every container that has a cgroup, also those that the database does not know.
fn clear_unknown(app: &mut App) -> AppResult<()> {
    for id in app.home.as_ref().map(Home::containers).unwrap_or_default() {
        let left = app.broker.clear(id.as_str())?;
        if !left.is_empty() {
            return Err(AppError::Refused(format!(
                "something of container {id} is left: {}",
                left.join("; ")
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::data;

    #[test]
    fn what_would_be_lost_is_counted() {
        assert_eq!(data(0, 0, 0), None);
        assert_eq!(data(1, 0, 0).as_deref(), Some("1 container"));
        assert_eq!(data(1, 1, 2).as_deref(), Some("1 container, 1 volume and 2 templates"));
        assert_eq!(data(23, 0, 8).as_deref(), Some("23 containers and 8 templates"));
    }
}
