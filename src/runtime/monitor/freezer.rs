//! Freezing and thawing the guest: the kernel is told, and says when it is done.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};

use crate::runtime::interests::{Id, Interests, Source};
use crate::runtime::protocol::Reply;
use crate::sys::{Context, SysResult, cgroup};

/// How long a guest may take to be frozen or thawed.
const PATIENCE: Duration = Duration::from_secs(2);

struct Wish {
    client: Id,
    frozen: bool,
    until: Instant,
}

/// Who waits for the guest to be frozen or thawed.
#[derive(Default)]
pub struct Freezer {
    wishes: Vec<Wish>,
    /// The cgroup's events, while somebody waits.
    events: Option<OwnedFd>,
}

/// Tells the kernel, without waiting for what comes of it.
pub fn order(payload: &OwnedFd, frozen: bool) -> SysResult<()> {
    cgroup::write_at(payload.as_fd(), "cgroup.freeze", if frozen { "1" } else { "0" })
}

impl Freezer {
    /// Freezes or thaws for a client, which hears of it by `answers`.
    ///
    /// # Errors
    /// When the kernel cannot be told.
    pub fn ask(&mut self, payload: &OwnedFd, client: Id, frozen: bool) -> SysResult<()> {
        order(payload, frozen)?;
        if self.events.is_none() {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(payload, "cgroup.events", flags, Mode::empty());
            self.events = Some(opened.cannot(|| "open cgroup.events")?);
        }
        self.wishes.push(Wish { client, frozen, until: Instant::now() + PATIENCE });
        Ok(())
    }

    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        if let Some(events) = &self.events {
            // The kernel reports a change of this file as an exceptional condition.
            interests.add(Source::Frozen, events.as_fd(), PollFlags::PRI);
            interests.wake(self.wishes.iter().map(|wish| wish.until).min());
        }
    }

    /// Those whose wish is fulfilled, and those who have waited for too long. A guest that cannot be
    /// frozen is thawed again.
    pub fn answers(&mut self, payload: &OwnedFd, now: Instant) -> Vec<(Id, Reply)> {
        let Some(events) = &self.events else { return Vec::new() };
        let mut text = [0u8; 256];
        let length = rustix::io::pread(events, &mut text, 0).unwrap_or(0);
        let is_frozen = String::from_utf8_lossy(&text[..length]).contains("frozen 1");
        let over = |wish: &mut Wish| wish.frozen == is_frozen || wish.until <= now;
        let answers = self.wishes.extract_if(.., over).map(|wish| {
            if wish.frozen == is_frozen {
                return (wish.client, Reply::Done);
            }
            if wish.frozen {
                let _ = order(payload, false);
            }
            let what = if wish.frozen { "freeze" } else { "thaw" };
            let reason = format!("cannot {what} the guest: it has taken more than {} s", PATIENCE.as_secs());
            (wish.client, Reply::failed(reason))
        });
        let answers = answers.collect();
        if self.wishes.is_empty() {
            self.events = None;
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Files of a cgroup that obeys only when the test writes to `cgroup.events`.
    fn cgroup(dir: &Path) -> OwnedFd {
        fs::write(dir.join("cgroup.freeze"), "0").unwrap();
        fs::write(dir.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        crate::sys::mount::open_dir(dir.to_str().unwrap()).unwrap()
    }

    #[test]
    fn who_asks_is_answered_when_the_kernel_has_done_it() {
        let dir = tempfile::tempdir().unwrap();
        let payload = cgroup(dir.path());
        let mut freezer = Freezer::default();
        freezer.ask(&payload, 1, true).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("cgroup.freeze")).unwrap(), "1");
        assert_eq!(freezer.answers(&payload, Instant::now()), []);
        freezer.ask(&payload, 2, true).unwrap();
        fs::write(dir.path().join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert_eq!(freezer.answers(&payload, Instant::now()), [(1, Reply::Done), (2, Reply::Done)]);
        assert!(freezer.events.is_none());
    }

    #[test]
    fn a_guest_that_cannot_be_frozen_is_thawed_again_after_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let payload = cgroup(dir.path());
        let mut freezer = Freezer::default();
        freezer.ask(&payload, 1, true).unwrap();
        let answers = freezer.answers(&payload, Instant::now() + PATIENCE);
        assert!(matches!(&answers[..], [(1, Reply::Failed { .. })]), "{answers:?}");
        assert_eq!(fs::read_to_string(dir.path().join("cgroup.freeze")).unwrap(), "0");
    }
}
