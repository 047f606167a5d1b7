//! What a broker has left to do for containers whose guests were killed: nothing of them executes anything any
//! more, but the kernel has not let go of all that was theirs. A forced stop does not wait for that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::authorised::AuthorisedOwner;
use super::container_lock::ContainerLock;
use super::spawn::Dying;
use crate::model::name::ContainerId;
use crate::model::waits;
use crate::sys::error_text;
use crate::sys::net::netlink::Netlink;

/// Containers at once; a caller who clears more waits for each.
const MOST: usize = 64;

/// One container's. Nobody else works on the container until it is done.
pub struct Rest {
    pub container: ContainerId,
    pub dying: Dying,
    pub authorised: Arc<AuthorisedOwner>,
    pub lock: ContainerLock,
}

impl Rest {
    async fn finish(self, netlink: &Netlink) {
        let Self { container, dying, authorised, lock } = self;
        for line in authorised.launcher.clear_dying(&container, dying, netlink).await {
            tracing::warn!("something of container {container} is left: {line}");
        }
        drop(lock);
    }
}

/// Those of one broker.
#[derive(Clone, Default)]
pub struct Rests(Arc<Mutex<Vec<Rest>>>);

impl Rests {
    /// Whether another one may be put off.
    pub fn have_room(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() < MOST
    }

    /// Puts off what is left to do for a container.
    pub fn put_off(&self, rest: Rest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(rest);
    }

    /// Does what was put off for the container, whose lock is this broker's own until then.
    pub async fn finish(&self, container: &ContainerId, netlink: &Netlink) {
        while let Some(rest) = self.take(|rest| rest.container == *container) {
            rest.finish(netlink).await;
        }
    }

    /// Does what was put off, for a bounded time: a guest must not keep a broker. The caller has gone, so nobody
    /// may have to wait for the end of a stream that its command had. What is left is for the next command, which
    /// finds it.
    pub async fn finish_all(&self) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        let_streams_go();
        match Netlink::open() {
            Ok(netlink) => {
                let end = Instant::now() + waits::KILL;
                while Instant::now() < end
                    && let Some(rest) = self.take(|_| true)
                {
                    rest.finish(&netlink).await;
                }
            }
            Err(e) => tracing::warn!("{}", error_text(&e)),
        }
    }

    fn take(&self, which: impl Fn(&Rest) -> bool) -> Option<Rest> {
        let mut rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = rests.iter().position(which)?;
        Some(rests.swap_remove(place))
    }
}

/// Puts /dev/null in the place of standard input, output and error.
fn let_streams_go() {
    let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    let _ = rustix::stdio::dup2_stderr(&null);
}
