//! The namespace holder: a process that keeps a daemonless owner's namespaces open for the next command and
//! does nothing else. It ends when nothing of the owner has run for a while.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::host::services::scope;
use crate::host::services::systemd::{Scope, Systemd};
use crate::model::ids::IDS_PER_RANGE;
use crate::model::instance::Instance;
use crate::model::monitor::NAMESPACE_HOLDER;
use crate::model::waits;
use crate::sys::cgroup::home::Home;
use crate::sys::fs::atomic_file;
use crate::sys::fs::atomic_file::Lasting;
use crate::sys::fs::lock;
use crate::sys::process::child;
use crate::sys::process::outer_ns;
use crate::sys::process::outer_ns::{INSIDE, Outer, OuterError, Outside};
use crate::sys::process::program::Program;
use crate::sys::programs::pasta;
use crate::sys::{SysError, SysResult, cgroup, error_text, process};

const IDLE: u32 = 10;

/// An owner's namespaces, and the process that holds them.
pub struct Kept {
    pub outer: Outer,
    pub pid: i32,
}

fn record(instance: &Instance) -> PathBuf {
    instance.run_dir().join("keeper")
}

/// The file that records the pasta which is the uplink.
pub fn pasta_mark(instance: &Instance) -> PathBuf {
    instance.run_dir().join("pasta")
}

/// The owner's namespaces. Those that exist are found again, be it by a container that runs in
/// them; new ones are made only where nothing is left of any.
pub fn ensure(instance: &Instance, outside: &Outside) -> Result<Kept, OuterError> {
    if let Some(kept) = kept(instance, outside) {
        return Ok(kept);
    }
    let _lock = lock::exclusive(&instance.run_dir(), "keeper.lock", waits::LOCK_NAMESPACES)
        .map_err(SysError::from)?;
    // Another command may have been quicker.
    if let Some(kept) = kept(instance, outside) {
        return Ok(kept);
    }
    let exe = Program::own_file()?;
    let run_dir = instance.run_dir();
    let holder = Program::in_file(&exe, [OsStr::new(NAMESPACE_HOLDER), run_dir.as_os_str()])?;
    let pid = match around_containers(instance, outside) {
        Some(outer) => {
            tracing::info!("the holder of your namespaces is gone; they get a new one");
            outer_ns::restart(&outer, &holder)?
        }
        None => {
            // What carried the traffic of namespaces that are gone.
            pasta::end(&pasta_mark(instance));
            outer_ns::start(outside, &holder)?
        }
    };
    atomic_file::replace(&record(instance), format!("{pid}\n"), 0o600, Lasting::UntilPowerCut)?;
    outlive_session(instance, "keeper", pid);
    Ok(Kept { outer: Outer::of_process(pid, outside)?, pid })
}

/// The namespaces of the recorded holder, if that lives and is one.
fn kept(instance: &Instance, outside: &Outside) -> Option<Kept> {
    let pid = recorded(instance)?;
    let outer = Outer::of_process(pid, outside).inspect_err(|e| tracing::debug!("{}", error_text(e))).ok()?;
    Some(Kept { outer, pid })
}

fn recorded(instance: &Instance) -> Option<i32> {
    let text = std::fs::read_to_string(record(instance)).ok()?;
    let pid = text.trim().parse().ok()?;
    (process::argv0(pid) == NAMESPACE_HOLDER.as_bytes() && !process::is_zombie(pid)).then_some(pid)
}

fn around_containers(instance: &Instance, outside: &Outside) -> Option<Outer> {
    let home = Home::find(instance).ok()?;
    let monitors = home
        .containers()
        .into_iter()
        .flat_map(|id| cgroup::processes(&home.container_dir(&id).join("monitor")));
    monitors.into_iter().find_map(|pid| Outer::around(pid, outside).ok())
}

/// Moves a process out of the login session, which takes its processes along when it ends, into a
/// scope of the user's systemd. Without such a systemd it stays where it is.
pub fn outlive_session(instance: &Instance, what: &str, pid: i32) {
    let Some(bus) = scope::own_bus(instance) else { return };
    let unit = format!("{}-{what}.scope", instance.name());
    let slice = instance.slice_unit();
    let description = format!("nagaya: {what} of daemonless containers");
    let scope = Scope { unit: &unit, slice: &slice, description: &description, pid, before: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let made = runtime.map_err(|e| e.to_string()).and_then(|runtime| {
        let made = runtime.block_on(async { Systemd::connect(&bus).await?.start_scope(&scope).await });
        made.map_err(|e| error_text(&e))
    });
    if let Err(reason) = made {
        tracing::warn!("the {what} ends with your session: {reason}");
    }
}

/// Ends the owner's pasta and every namespace holder, also one whose record was lost.
pub fn end(instance: &Instance) -> SysResult<()> {
    pasta::end(&pasta_mark(instance));
    let run_dir = instance.run_dir();
    let is_ours = |pid: i32| {
        let words = process::command_line(pid);
        words.first().is_some_and(|name| name == NAMESPACE_HOLDER.as_bytes())
            && words.get(1).is_some_and(|dir| dir == run_dir.as_os_str().as_bytes())
    };
    for pid in process::all().filter(|pid| is_ours(*pid)) {
        let Ok(holder) = child::pidfd_open(pid) else { continue };
        // Its number may be another's by now.
        if is_ours(pid) {
            let ended = child::signal(&holder, libc::SIGKILL);
            ended.or_else(|e: SysError| if e.errno() == Some(libc::ESRCH) { Ok(()) } else { Err(e) })?;
        }
    }
    Ok(())
}

/// The whole life of a namespace holder, as the program that [`NAMESPACE_HOLDER`] names. Its one argument is the run
/// directory.
pub fn run() -> i32 {
    let Some(run_dir) = std::env::args_os().nth(1).map(PathBuf::from) else { return 2 };
    let mut idle = 0;
    while idle < IDLE {
        std::thread::sleep(waits::HOLDER_POLL);
        let record = std::fs::read_to_string(run_dir.join("keeper")).unwrap_or_default();
        if record.trim() != std::process::id().to_string() {
            // Another holder has taken its place, or the command that started it was killed.
            return 0;
        }
        idle = if is_needed() { 0 } else { idle + 1 };
    }
    pasta::end(&run_dir.join("pasta"));
    let _ = std::fs::remove_file(run_dir.join("keeper"));
    0
}

/// Whether a process runs under one of the subordinate ids, or is in the network namespace.
fn is_needed() -> bool {
    let own = std::fs::read_link("/proc/self/ns/net").ok();
    process::all().filter(|pid| process::argv0(*pid) != NAMESPACE_HOLDER.as_bytes()).any(|pid| {
        let dir = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(dir.join("status")).unwrap_or_default();
        uid(&status).is_some_and(|uid| (INSIDE..INSIDE + IDS_PER_RANGE).contains(&uid) && uid != NOBODY)
            || (own.is_some() && std::fs::read_link(dir.join("ns/net")).ok() == own)
    })
}

/// The uid that the kernel shows for users that are not mapped.
const NOBODY: u32 = 65534;

fn uid(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_keep_it() {
        assert_eq!(uid("Name:\tx\nUid:\t34\t34\t34\t34\nGid:\t1\n"), Some(34));
        assert_eq!(uid(""), None);
    }
}
