//! What the kernel and the monitor's record say of a container, as opposed to the database.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::app::instance::App;
use crate::app::instance::layout;
use crate::model::container::{Container, Phase, State};
use crate::model::name::ContainerId;
use crate::runtime::protocol::StateRecord;
use crate::sys::process::userns;
use crate::sys::{cgroup, error_text};

/// A container's cgroup; none on a host without the hierarchy, where nothing runs.
pub fn cgroup_dir(app: &App, id: &ContainerId) -> Option<PathBuf> {
    app.home.as_ref().map(|home| home.container_dir(id))
}

/// Whether processes of the guest live; not those that were killed on the operator's behalf and execute
/// nothing any more.
pub fn guest_lives(app: &App, id: &ContainerId) -> bool {
    cgroup_dir(app, id)
        .map(|dir| dir.join("payload"))
        .is_some_and(|payload| cgroup::populated(&payload) && !is_killed(app, id, &payload))
}

/// Whether the operator has had the guest killed, and the kernel is still clearing away what was its. Whoever
/// has the broker do something with the container waits for the end of that.
fn is_killed(app: &App, id: &ContainerId, payload: &Path) -> bool {
    is_stopping(app, id) && cgroup::is_dying(payload)
}

/// Whether the operator has asked for the guest's end: it is not booted again then.
fn is_stopping(app: &App, id: &ContainerId) -> bool {
    record(app, id).is_some_and(|record| record.stopping)
}

/// The living monitor, if there is one.
pub fn monitor_pid(app: &App, id: &ContainerId) -> Option<i32> {
    cgroup_dir(app, id).and_then(|dir| cgroup::processes(&dir.join("monitor")).first().copied())
}

/// Whether anything of the container is left in the kernel.
pub fn has_traces(app: &App, container: &Container) -> bool {
    cgroup_dir(app, &container.id).is_some_and(|dir| dir.exists())
        || links(app, container).any(|link| Path::new("/sys/class/net").join(link).exists())
}

/// The host's ends of its links, and the interfaces that limit their rates: those are removed after the link.
pub fn links(app: &App, container: &Container) -> impl Iterator<Item = String> {
    let linked = container.nics.iter().filter(|nic| nic.has_host_end());
    let shapers = linked.map(|nic| app.instance.shaper_link(&container.id, nic.slot));
    host_links(app, container).into_iter().chain(shapers)
}

/// The host's ends of its links, by slot.
pub fn host_links(app: &App, container: &Container) -> Vec<String> {
    let linked = container.nics.iter().filter(|nic| nic.has_host_end());
    linked.map(|nic| app.instance.host_link(&container.id, nic.slot)).collect()
}

/// The state of a container of which nothing is in the kernel.
pub fn without_traces(container: &Container) -> State {
    match container.phase {
        Phase::Creating | Phase::Deleting => State::Busy,
        _ => State::Stopped,
    }
}

/// The state that users see.
pub fn of(app: &App, container: &Container) -> State {
    if without_traces(container) == State::Busy {
        return State::Busy;
    }
    let Some(payload) = cgroup_dir(app, &container.id).map(|dir| dir.join("payload")) else {
        return State::Stopped;
    };
    match cgroup::events(&payload) {
        // Asked in this order, for it is seldom so: who wants it down has stored that first.
        Ok(Some(events))
            if events.populated && !container.wanted_up && is_killed(app, &container.id, &payload) =>
        {
            State::Stopped
        }
        Ok(Some(events)) if events.populated && events.frozen => State::Frozen,
        Ok(Some(events)) if events.populated => State::Running,
        // A monitor without a guest is about to boot it again, or to end.
        Ok(Some(_)) if monitor_pid(app, &container.id).is_some() => {
            match !container.wanted_up && is_stopping(app, &container.id) {
                true => State::Stopped,
                false => State::Busy,
            }
        }
        Ok(_) => State::Stopped,
        Err(e) => {
            tracing::warn!("{}", error_text(&e));
            State::Unknown
        }
    }
}

/// The monitor's latest record; none where there is none, or while one is half written.
pub fn record(app: &App, id: &ContainerId) -> Option<StateRecord> {
    let file = std::fs::File::open(layout::state_record(&app.instance, id)).ok()?;
    let mut text = [0u8; StateRecord::SIZE];
    let length = file.read_at(&mut text, 0).ok()?;
    StateRecord::from_bytes(&text[..length])
}

/// The guest's process 1 as the host numbers it: the one of the record if it is alive and right,
/// else whichever in the guest's cgroup is process 1 of a namespace directly below the host's.
pub fn find_init(app: &App, id: &ContainerId) -> Option<i32> {
    let home = app.home.as_ref()?;
    let payload = home.container_dir(id).join("payload");
    let is_init = |pid: i32| userns::pid_namespace_depth(pid) == Some((2, 1));
    let below = format!("{}/payload", home.path(id));
    if let Some(pid) = record(app, id).map(|r| r.init_pid)
        && cgroup::holds(&below, pid)
        && is_init(pid)
    {
        return Some(pid);
    }
    cgroup::all_processes(&payload).into_iter().find(|pid| is_init(*pid))
}
