//! `setup`, and its undoing.

use ipnetwork::Ipv4Network;

use super::context::App;
use super::error::{AppError, AppResult, Kind};
use super::{delete, layout, network, owner, pool, private_way};
use crate::host::forwarding;
use crate::host::setup::{self, RemoveOptions, SetupOptions};
use crate::model::instance::Instance;
use crate::sys::error_text;
use crate::sys::{cgroup, cgroup_home::Home, clone, seqpacket};

/// What may be chosen.
pub struct SetupRequest {
    /// How many id slices a new range has, the storage slice included.
    pub slices: Option<u32>,
    /// The host's address on the bridge, with the prefix; one that is free where none is given.
    pub ipv4: Option<Ipv4Network>,
}

/// Makes what is missing; one phrase for each thing that was.
pub fn setup(instance: &Instance, request: &SetupRequest) -> AppResult<Vec<String>> {
    let mut created = Vec::new();
    if rustix::process::geteuid().is_root() {
        let options =
            request.slices.map_or_else(|| SetupOptions::of(instance), |slices| SetupOptions { slices });
        let done = setup::setup(instance, options)?;
        let had = done.range.slices();
        if request.slices.is_some_and(|wanted| wanted != had) {
            let user = instance.user();
            return Err(AppError::Refused(format!("'{user}' has {had} slices already, which stay")));
        }
        created = done.created;
    } else if request.slices.is_some() {
        // How many ids somebody gets is the administrator's to say.
        return Err(AppError::NotRoot);
    }
    let mut app = App::open(instance.clone())?;
    let bridge = app.instance.bridge();
    let was_there = app.store.network(&bridge)?.is_some();
    let network = network::ensure_default(&mut app, request.ipv4)?;
    if !was_there {
        let subnets = [network.ipv4.map(|net| net.to_string()), network.ipv6.map(|net| net.to_string())];
        let subnets: Vec<String> = subnets.into_iter().flatten().collect();
        created.push(format!("network {bridge} with {}", subnets.join(" and ")));
    }
    Ok(created)
}

/// Takes an instance away. With `yes` also its containers and templates; without, their being
/// there is an error. One phrase for each thing that went; none where it was not set up.
pub fn remove(instance: &Instance, yes: bool) -> AppResult<Vec<String>> {
    if instance.is_private() {
        return remove_private(instance, yes);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(AppError::NotRoot);
    }
    let mut removed = Vec::new();
    if setup::is_set_up(instance).is_some() {
        // A removal that was cut short, or somebody by hand, may have taken away what is needed to
        // open the instance, and so to find what else there is.
        let lost = !layout::database(instance).exists();
        setup::setup(instance, SetupOptions::of(instance))?;
        empty_as_owner(instance, yes, lost)?;
        // Ordinary users' cgroups lie below the service user's.
        let shared = instance.person().is_none() && !owner::persons(instance)?.is_empty();
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
    for person in owner::persons(base)? {
        let lines = remove(&person, yes)?;
        removed.extend(lines.into_iter().map(|line| format!("{line} (of {})", person.user())));
    }
    removed.extend(remove(base, yes)?);
    removed.extend(setup::remove_grants(base)?);
    Ok(removed)
}

/// An ordinary user's own.
fn remove_private(instance: &Instance, yes: bool) -> AppResult<Vec<String>> {
    if !private_way::is_there(instance) {
        return Ok(Vec::new());
    }
    let lost = !layout::database(instance).exists();
    empty_as_owner(instance, yes, lost)?;
    private_way::remove(instance)
}

/// Why the instance stays, from the process that tried to empty it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stays {
    reason: String,
    hint: Option<String>,
    kind: Kind,
}

/// In a child: opening an instance gives up root for good, and root is needed afterwards.
fn empty_as_owner(instance: &Instance, yes: bool, lost: bool) -> AppResult<()> {
    let (ours, theirs) = seqpacket::pair()?;
    let child = clone::fork(&clone::CloneSpec::default(), || {
        let outcome = empty(instance, yes, lost).map_err(|e| Stays {
            reason: error_text(&e),
            hint: e.hint(),
            kind: e.kind(),
        });
        i32::from(seqpacket::send(&theirs, &outcome, &[]).is_err())
    })?;
    drop(theirs);
    let outcome = seqpacket::recv::<Result<(), Stays>>(&ours)?;
    child.wait()?;
    match outcome {
        Some((Ok(()), _)) => Ok(()),
        Some((Err(Stays { reason, hint, kind }), _)) => {
            Err(AppError::Stays { instance: instance.name().to_owned(), reason, hint, kind })
        }
        None => Err(AppError::Refused("the process that empties the instance died".to_owned())),
    }
}

/// What the database knows of, and what is found in the kernel of a database that is lost.
fn empty(instance: &Instance, yes: bool, lost: bool) -> AppResult<()> {
    let mut app = App::open(instance.clone())?;
    let containers = app.store.containers()?;
    let would_go = data(containers.len(), app.store.templates()?.len());
    if let Some(would_go) = would_go.filter(|_| !yes) {
        return Err(AppError::advised(
            format!("{would_go} would be deleted"),
            "delete all of that: the same command with --yes",
        ));
    }
    for container in containers {
        delete::delete(&mut app, &container.name, true)?;
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
    if instance.is_private() {
        // Files of the subordinate ids, which their owner could not delete as an ordinary user.
        pool::empty(&mut app)?;
        app.home.take().map_or(Ok(()), |home| home.remove())?;
    }
    Ok(())
}

/// What would be lost, in words; none where that is nothing.
fn data(containers: usize, templates: usize) -> Option<String> {
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        more => Some(format!("{more} {what}s")),
    };
    let parts = [counted(containers, "container"), counted(templates, "template")];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// Ends every container that has a cgroup, whatever it was.
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
        assert_eq!(data(0, 0), None);
        assert_eq!(data(1, 0).as_deref(), Some("1 container"));
        assert_eq!(data(23, 8).as_deref(), Some("23 containers and 8 templates"));
    }
}
