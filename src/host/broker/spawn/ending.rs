//! Ending a container: its processes, its cgroup and its links.

use std::time::Instant;

use super::start::LauncherContext;
use crate::host::services::scope;
use crate::model::name::ContainerId;
use crate::model::nic::MOST_NICS;
use crate::model::waits;
use crate::sys::cgroup;
use crate::sys::cgroup::home::Home;
use crate::sys::error_text;
use crate::sys::net::netlink::{Netlink, NetlinkError};
use crate::sys::process::child::Child;
use crate::sys::process::fork::Fork;

/// A container of which nothing executes anything any more, while the kernel is not done with it.
pub struct Dying {
    /// The process that removes its links. They are gone, but the kernel has it wait until they are freed.
    remover: Child,
}

impl LauncherContext {
    /// Whether a guest that its monitor has killed is only dying. None where it has gone by itself meanwhile, or
    /// may live on: it is then for `clear_killed`.
    pub fn dying(&self, container: &ContainerId, netlink: &Netlink) -> Option<Dying> {
        let dir = Home::find(&self.instance).ok()?.container_dir(container);
        let links = self.links(container);
        // While the guest dies. One that still runs loses its way out thereby, and nothing else.
        let remove = || -> Result<(), NetlinkError> { Netlink::open()?.detach_all(&links) };
        let remover = Fork::new("remove links").without_terminal();
        let dying = Dying { remover: remover.start(|| i32::from(remove().is_err())).ok()? };
        let end = Instant::now() + waits::KILL_ALONGSIDE;
        let is_empty = cgroup::wait_empty(&dir, waits::KILL_ALONGSIDE).is_ok();
        let is_over = || netlink.are_gone(&links).unwrap_or(false) && cgroup::is_dying(&dir.join("payload"));
        if !is_empty && until(end + waits::KILL_ALONGSIDE, is_over) {
            return Some(dying);
        }
        let _ = dying.remover.wait();
        None
    }

    /// As `clear_killed`, for one that was found dying.
    pub async fn clear_dying(&self, container: &ContainerId, dying: Dying, netlink: &Netlink) -> Vec<String> {
        let left = self.clear_killed(container, netlink).await;
        let _ = dying.remover.wait();
        left
    }

    /// As `clear`, for one whose monitor has killed its guest: the monitor ends by itself, once it has recorded
    /// the guest's end.
    pub async fn clear_killed(&self, container: &ContainerId, netlink: &Netlink) -> Vec<String> {
        if let Ok(home) = Home::find(&self.instance) {
            let _ = cgroup::wait_empty(&home.container_dir(container), waits::KILL);
        }
        self.clear(container, netlink).await
    }

    /// The host's ends of its links, and what limits their rates.
    fn links(&self, container: &ContainerId) -> Vec<(String, String)> {
        let pair =
            |slot| (self.instance.host_link(container, slot), self.instance.shaper_link(container, slot));
        (0..MOST_NICS).map(pair).collect()
    }

    /// Ends every process of the container and removes its cgroup and links. Idempotent; what
    /// cannot be removed now is found again by the next call.
    pub async fn clear(&self, container: &ContainerId, netlink: &Netlink) -> Vec<String> {
        let mut failures = Vec::new();
        let mut note = |what: Result<(), String>| failures.extend(what.err());
        match Home::find(&self.instance) {
            Ok(home) => {
                let dir = home.container_dir(container);
                note(cgroup::kill(&dir, waits::KILL).map_err(|e| error_text(&e)));
                match home.scope(container) {
                    None => note(cgroup::remove(&dir).map_err(|e| error_text(&e))),
                    Some(unit) => {
                        note(scope::dismiss(&self.instance, &unit, &dir).await.map_err(|e| error_text(&e)))
                    }
                }
            }
            // Its processes may still live where this command cannot see them.
            Err(e) => note(Err(error_text(&e))),
        }
        note(netlink.detach_all(&self.links(container)).map_err(|e| error_text(&e)));
        failures
    }
}

/// Looks until it is so, or until `end`.
fn until(end: Instant, is_so: impl Fn() -> bool) -> bool {
    while !is_so() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(waits::KILL_POLL);
    }
    true
}
