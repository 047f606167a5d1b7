//! `list` and `info`: what the database knows and the kernel says.

use std::collections::{BTreeMap, BTreeSet};

use super::{attached, guest_config, lifecycle, machine, state};
use crate::app::config::{self, limits};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::app::storage::quota;
use crate::app::{firewall, network};
use crate::host::rootless::owner;
use crate::model::container::{Container, Phase, State};
use crate::model::firewall::traffic::Traffic;
use crate::model::name::{ContainerId, Name};
use crate::model::natural;
use crate::model::rlimits::USUAL_FILES;
use crate::runtime::protocol::Ended;
use crate::sys::cgroup;
use crate::sys::cgroup::usage;
use crate::sys::cgroup::usage::Usage;
use crate::sys::fs::quota::Taken;
use crate::sys::process::rlimit;

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
    /// The limits that the kernel enforces, by the files of its cgroup; empty if it does not run.
    pub limits: BTreeMap<&'static str, String>,
    /// None if it does not run.
    pub usage: Option<Usage>,
    /// The traffic of its links since it was made; None if that is not counted.
    pub traffic: Option<Traffic>,
    /// What its own files take of the limit that they have.
    pub disk: Option<Taken>,
    /// How many snapshots it has.
    pub snapshots: usize,
    /// How many layers it stands on above its template.
    pub layers: usize,
    /// Remarks for the operator: what the container lacks, and how to get it.
    pub notes: Vec<String>,
}

/// All containers, or those named, sorted by name in natural order.
pub fn list(app: &mut App, names: &[Name]) -> AppResult<Vec<Row>> {
    let mut containers = if names.is_empty() {
        app.store.containers()?
    } else {
        names.iter().map(|name| app.find(name)).collect::<AppResult<Vec<_>>>()?
    };
    containers.sort_by(|a, b| natural::compare(a.name.as_str(), b.name.as_str()));
    containers.dedup_by(|a, b| a.id == b.id);
    let traces = Traces::now(app);
    let mut row = |container: Container| match traces.as_ref().is_none_or(|t| t.are_of(app, &container)) {
        true => row(app, container),
        false => Row { state: state::without_traces(&container), container, pid: None },
    };
    Ok(containers.into_iter().map(&mut row).collect())
}

/// What the kernel has of containers, looked at once for all of them: most may be stopped.
struct Traces {
    cgroups: BTreeSet<ContainerId>,
    interfaces: BTreeSet<String>,
}

impl Traces {
    /// None where they cannot be told.
    fn now(app: &App) -> Option<Self> {
        let cgroups = app.home.as_ref()?.containers().into_iter().collect();
        let interfaces = std::fs::read_dir("/sys/class/net").ok()?.flatten();
        let interfaces = interfaces.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        Some(Self { cgroups, interfaces })
    }

    fn are_of(&self, app: &App, container: &Container) -> bool {
        self.cgroups.contains(&container.id)
            || state::links(app, container).any(|link| self.interfaces.contains(&link))
    }
}

fn row(app: &mut App, container: Container) -> Row {
    let state = state::of(app, &container);
    if state == State::Stopped && container.phase == Phase::Settled {
        sweep(app, &container);
    }
    let pid = if matches!(state, State::Running | State::Frozen) {
        let record = state::record(app, &container.id);
        record.iter().for_each(|record| machine::renew(app, &container, record));
        record.map(|record| record.init_pid).or_else(|| state::find_init(app, &container.id))
    } else {
        None
    };
    Row { container, state, pid }
}

/// Removes the empty cgroup of a guest that has powered itself off: nobody was there to do it then.
fn sweep(app: &mut App, container: &Container) {
    let is_empty = || state::cgroup_dir(app, &container.id).is_none_or(|dir| !cgroup::populated(&dir));
    // Where the kernel is not done with a guest that was killed, its broker waits for that.
    if state::has_traces(app, container)
        && is_empty()
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

/// A guest's processes can have no more open files than its monitor got, unless the configuration sets a
/// limit.
fn few_files(container: &Container, monitor: i32) -> Option<String> {
    if container.config.expanded().get("limits.kernel.nofile").is_some() {
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
        let mut waiting = attached::pending(app, &row.container)?;
        waiting.extend(config::waiting(app, &row.container).into_iter().map(|key| format!("{key} changes")));
        let restart = |what| format!("{what} at the next start: nagaya restart {name}");
        notes.extend(waiting.into_iter().map(restart));
    }
    notes.extend(row.container.config.own().strangers().map(|key| limits::stranger(name, key)));
    notes.extend(monitor_pid.and_then(|pid| few_files(&row.container, pid)));
    if app.instance.is_daemonless() {
        notes.extend(owner::shortcomings(&app.instance));
    }
    let networks = network::of(app, &row.container)?;
    let resolvers = guest_config::resolvers(&app.instance, &networks);
    notes.extend(guest_config::lack_of_resolvers(name, &row.container.nics, &resolvers));
    Ok(Info {
        traffic: traffic(app, name),
        disk: quota::taken(app, &row.container),
        snapshots: app.store.snapshots(&id)?.len(),
        layers: app.store.chain(&id)?.layers.len(),
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
