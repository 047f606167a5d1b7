//! `list` and `info`: what the database knows and the kernel says.

use std::collections::BTreeMap;

use super::context::App;
use super::error::AppResult;
use super::{attached, firewall, guest_config, lifecycle, lock, machine, network, state};
use crate::host::private;
use crate::model::container::{Container, Phase, State};
use crate::model::firewall::traffic::Traffic;
use crate::model::name::Name;
use crate::model::natural;
use crate::model::rlimits::USUAL_FILES;
use crate::runtime::protocol::Ended;
use crate::sys::usage::{self, Usage};
use crate::sys::{cgroup, rlimit};

/// One container.
pub struct Row {
    pub container: Container,
    pub state: State,
    /// Init's, on the host; none for a container that does not run.
    pub pid: Option<i32>,
}

/// More of one container.
pub struct Info {
    pub row: Row,
    /// The guest's init has said that it is up.
    pub ready: bool,
    /// It was asked to stop, and has not yet.
    pub stopping: bool,
    /// How often it has booted since it was started.
    pub boots: u32,
    /// Why it does not run any more.
    pub ended: Option<Ended>,
    pub monitor_pid: Option<i32>,
    pub processes: usize,
    /// The bridges that its interfaces are on, in their order.
    pub bridges: Vec<String>,
    /// Names of its links' ends on the host, by slot.
    pub host_links: Vec<String>,
    pub cgroup: String,
    /// What the kernel holds it to, by the files of its cgroup; empty where it does not run.
    pub limits: BTreeMap<&'static str, String>,
    /// None where it does not run.
    pub usage: Option<Usage>,
    /// What has passed its links since it was made; None where that is not counted.
    pub traffic: Option<Traffic>,
    /// What the container runs without, and how to get it.
    pub notes: Vec<String>,
}

/// All containers, or those named, sorted by name as people do.
pub fn list(app: &mut App, names: &[Name]) -> AppResult<Vec<Row>> {
    let mut containers = if names.is_empty() {
        app.store.containers()?
    } else {
        names.iter().map(|name| app.find(name)).collect::<AppResult<Vec<_>>>()?
    };
    containers.sort_by(|a, b| natural::compare(a.name.as_str(), b.name.as_str()));
    containers.dedup_by(|a, b| a.id == b.id);
    Ok(containers.into_iter().map(|container| row(app, container)).collect())
}

fn row(app: &mut App, container: Container) -> Row {
    let state = state::of(app, &container);
    if state == State::Stopped && container.phase == Phase::Settled {
        sweep(app, &container);
    }
    let up = matches!(state, State::Running | State::Frozen);
    if up {
        machine::renew(app, &container);
    }
    let pid = if up {
        let recorded = state::record(app, &container.id).map(|r| r.init_pid);
        recorded.or_else(|| state::find_init(app, &container.id))
    } else {
        None
    };
    Row { container, state, pid }
}

/// A guest that has powered itself off leaves an empty cgroup, for nobody was there to remove it.
fn sweep(app: &mut App, container: &Container) {
    if state::has_traces(app, container)
        && let Ok(Some(_lock)) = lock::try_container(&app.instance, &container.id)
        && state::of(app, container) == State::Stopped
        && let Err(e) = lifecycle::clear(app, container)
    {
        tracing::warn!("{e}");
    }
}

/// Of all its links together, restarts of the container and of the host included.
fn traffic(app: &mut App, name: &Name) -> Option<Traffic> {
    let all = firewall::traffic(app)
        .inspect_err(|e| tracing::warn!("traffic is not counted: {e}"))
        .unwrap_or_default();
    let own = all.into_iter().filter(|(whose, ..)| whose == name).map(|(_, _, traffic)| traffic);
    own.reduce(|a, b| Traffic {
        sent_packets: a.sent_packets + b.sent_packets,
        sent_bytes: a.sent_bytes + b.sent_bytes,
        received_packets: a.received_packets + b.received_packets,
        received_bytes: a.received_bytes + b.received_bytes,
    })
}

/// What a monitor was given is what its guest's processes have at most, unless it was set for them.
fn few_files(container: &Container, monitor: i32) -> Option<String> {
    if container.config.get("limits.kernel.nofile").is_some() {
        return None;
    }
    let most = rlimit::files_of(monitor).filter(|most| *most < USUAL_FILES)?;
    Some(format!(
        "its processes have at most {most} files open, not {USUAL_FILES}: so much is the host's limit (nagaya doctor)"
    ))
}

pub fn info(app: &mut App, name: &Name) -> AppResult<Info> {
    let container = app.find(name)?;
    let row = row(app, container);
    let id = row.container.id.clone();
    let record = state::record(app, &id);
    let up = matches!(row.state, State::Running | State::Frozen);
    let dir = state::cgroup_dir(app, &id).unwrap_or_default();
    let monitor_pid = state::monitor_pid(app, &id);
    let mut notes = Vec::new();
    if up && monitor_pid.is_none() {
        notes.push("its monitor was killed; the next command that needs one gives it a new one".to_owned());
    }
    if up {
        notes.extend(attached::cut_off_notes(app, &row.container));
        let waiting = attached::pending(app, &row.container)?;
        let restart = |what| format!("{what} at the next start: nagaya restart {name}");
        notes.extend(waiting.into_iter().map(restart));
    }
    notes.extend(monitor_pid.and_then(|pid| few_files(&row.container, pid)));
    if app.instance.is_private() {
        notes.extend(private::shortcomings(&app.instance));
    }
    let networks = network::of(app, &row.container)?;
    let resolvers = guest_config::resolvers(&app.instance, &networks);
    notes.extend(guest_config::lack_of_resolvers(name, &row.container.nics, &resolvers));
    Ok(Info {
        traffic: traffic(app, name),
        ready: up && record.as_ref().is_some_and(|r| r.ready),
        stopping: up && record.as_ref().is_some_and(|r| r.stopping),
        boots: record.as_ref().map_or(0, |r| r.boots),
        ended: record.and_then(|r| r.ended),
        monitor_pid,
        processes: cgroup::all_processes(&dir.join("payload")).len(),
        bridges: networks.into_iter().map(|network| network.bridge).collect(),
        host_links: if up { state::host_links(app, &row.container) } else { Vec::new() },
        limits: if up { usage::limits(&dir.join("payload")) } else { BTreeMap::new() },
        usage: up.then(|| usage::read(&dir.join("payload"), &state::host_links(app, &row.container))),
        cgroup: dir.to_string_lossy().into_owned(),
        notes,
        row,
    })
}
