//! What a running container has of its own, copied: most of it while the guest runs, and what has changed since while
//! it is frozen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::hook::Hook;
use crate::app::Progress;
use crate::app::containers::monitor;
use crate::app::containers::monitor::Connection;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, layout};
use crate::app::storage::worker;
use crate::model::container::Container;
use crate::runtime::protocol::Request;
use crate::sys::fs::copy::Rounds;
use crate::sys::process::interrupt;
use crate::sys::process::report::Watch;
use crate::sys::{Context, SysError};

/// What the worker tells besides how many bytes are done: that the guest is to be frozen, and that it need not be
/// any more.
const FREEZE: u64 = u64::MAX;
const THAW: u64 = u64::MAX - 1;

/// Copies what the container has written to `target` below the pool, which is made. Returns for how long the guest
/// was frozen.
pub fn copy(
    app: &mut App,
    container: &Container,
    target: &str,
    progress: &dyn Progress,
) -> AppResult<Duration> {
    let connection = monitor::connect(app, container)?;
    let hook = Hook::of(app, container);
    if let Some(hook) = &hook {
        hook.check(app, container)?;
    }
    let (input, feed) = std::io::pipe().cannot(|| "make a pipe")?;
    let input = OwnedFd::from(input);
    let mut freezing = Freezing {
        connection: Some(connection),
        hook,
        has_begun: false,
        complaint: None,
        feed: Some(OwnedFd::from(feed)),
        progress,
        since: None,
        frozen: Duration::ZERO,
        error: None,
    };
    let data = layout::data_in_pool(&container.id);
    let done = worker::copying_from(app, &container.pool, &[input.as_fd()], &mut freezing, |pool, tell| {
        worker::make_parents(pool, target)?;
        // What is made among what the container has counts against its quota, wherever it is put then. A worker that
        // is killed in between leaves an empty directory, which the next one removes.
        let next = format!("{data}/next");
        worker::delete_tree(pool, &next)?;
        worker::make_dir(pool, &next, 0o700)?;
        rustix::fs::renameat(pool, &*next, pool, target).cannot(|| format!("put {target} in its place"))?;
        let source = worker::open_tree(pool, &format!("{data}/upper"))?;
        let copy = worker::open_tree(pool, target)?;
        let mut rounds = Rounds::new(&source, &copy);
        rounds.ahead(tell)?;
        tell(FREEZE);
        let mut byte = [0u8; 1];
        match rustix::io::retry_on_intr(|| rustix::io::read(&input, &mut byte)) {
            Ok(1) => {}
            other => {
                let why =
                    other.map(|_| std::io::ErrorKind::BrokenPipe.into()).unwrap_or_else(std::io::Error::from);
                return Err(SysError::new("wait for the guest to be frozen", why));
            }
        }
        rounds.last(&mut |_| {})?;
        tell(THAW);
        rustix::fs::syncfs(&copy).cannot(|| "write the copy to disk")
    });
    // Also where the copy has failed, or nobody wants it any more.
    freezing.thaw();
    if let Some(complaint) = freezing.complaint.take() {
        (app.tell)(&complaint);
    }
    match freezing.error.take() {
        Some(error) => Err(error),
        None => done.map(|()| freezing.frozen),
    }
}

struct Freezing<'a> {
    /// While it lives, the guest stays frozen.
    connection: Option<Connection>,
    /// The guest's own program, which gets ready for that.
    hook: Option<Hook>,
    /// It has been told to, and not yet that it is over.
    has_begun: bool,
    /// What went wrong when it was told that.
    complaint: Option<String>,
    feed: Option<OwnedFd>,
    progress: &'a dyn Progress,
    since: Option<Instant>,
    frozen: Duration,
    error: Option<AppError>,
}

impl Freezing<'_> {
    fn freeze(&mut self) -> AppResult<()> {
        let (Some(connection), Some(feed)) = (&self.connection, &self.feed) else { return Ok(()) };
        if let Some(hook) = &self.hook {
            self.has_begun = true;
            hook.freeze()?;
        }
        self.since = Some(Instant::now());
        connection.ask(&Request::Hold, &[]).map_err(|error| match error {
            AppError::Monitor { ref name, .. } if monitor::is_unknown(&error) => AppError::advised(
                format!("container '{name}' was started by an older nagaya, which cannot freeze it for this"),
                format!("stop it for that, or restart it first: nagaya restart {name}"),
            ),
            other => other,
        })?;
        rustix::io::write(feed, b"f").cannot(|| "tell the file worker").map_err(AppError::from)?;
        Ok(())
    }

    fn thaw(&mut self) {
        drop(self.connection.take());
        if let Some(since) = self.since.take() {
            self.frozen = since.elapsed();
        }
        if std::mem::take(&mut self.has_begun) {
            self.complaint = self.hook.as_ref().and_then(Hook::thaw);
        }
    }
}

impl Watch for Freezing<'_> {
    fn progress(&mut self, done: u64) -> bool {
        match done {
            FREEZE => {
                self.error = self.freeze().err();
                self.error.is_none()
            }
            THAW => {
                self.thaw();
                true
            }
            done => {
                self.progress.bytes(done, None);
                !interrupt::pending()
            }
        }
    }

    fn side(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn side_ready(&mut self) {}
}
