//! Freezing and thawing the guest: the monitor tells the kernel, and the kernel reports when it is done.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};

use crate::model::waits;
use crate::runtime::interests::{Id, Interests, Source};
use crate::runtime::protocol::Reply;
use crate::sys::{Context, SysError, SysResult, cgroup};

struct Wish {
    client: Id,
    frozen: bool,
    until: Instant,
}

/// For whom the guest is to stay frozen.
struct Hold {
    client: Id,
    /// It is frozen for somebody else too, and stays so afterwards.
    stays: bool,
}

/// Who waits for the guest to be frozen or thawed.
#[derive(Default)]
pub struct Freezer {
    hold: Option<Hold>,
    wishes: Vec<Wish>,
    /// The cgroup's events, while somebody waits.
    events: Option<OwnedFd>,
}

/// Tells the kernel, without waiting for the result.
pub fn order(payload: &OwnedFd, frozen: bool) -> SysResult<()> {
    cgroup::write_at(payload.as_fd(), "cgroup.freeze", if frozen { "1" } else { "0" })
}

impl Freezer {
    /// Freezes or thaws for a client, which gets the result from `answers`.
    ///
    /// # Errors
    /// When the kernel cannot be told, or the guest is held.
    pub fn ask(&mut self, payload: &OwnedFd, client: Id, frozen: bool) -> SysResult<()> {
        match &mut self.hold {
            Some(hold) if frozen => hold.stays = true,
            Some(_) => return Err(refused("thaw the guest", "a snapshot of it is being made")),
            None => {}
        }
        order(payload, frozen)?;
        if self.events.is_none() {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(payload, "cgroup.events", flags, Mode::empty());
            self.events = Some(opened.cannot(|| "open cgroup.events")?);
        }
        self.wishes.push(Wish { client, frozen, until: Instant::now() + waits::FREEZE });
        Ok(())
    }

    /// Freezes for a client, until `release`.
    ///
    /// # Errors
    /// When the kernel cannot be told, or the guest is held already.
    pub fn hold(&mut self, payload: &OwnedFd, client: Id) -> SysResult<()> {
        if self.hold.is_some() {
            return Err(refused("freeze the guest", "a snapshot of it is being made"));
        }
        let before =
            rustix::fs::openat(payload, "cgroup.freeze", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .and_then(|file| {
                    let mut byte = [0u8; 1];
                    rustix::io::read(&file, &mut byte).map(|_| byte[0] == b'1')
                });
        let stays = before.cannot(|| "read cgroup.freeze")?;
        self.ask(payload, client, true)?;
        self.hold = Some(Hold { client, stays });
        Ok(())
    }

    /// Thaws what is frozen for that client alone.
    pub fn release(&mut self, payload: &OwnedFd, client: Id) {
        if self.hold.as_ref().is_some_and(|hold| hold.client == client)
            && let Some(hold) = self.hold.take()
            && !hold.stays
        {
            let _ = order(payload, false);
        }
    }

    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        if let Some(events) = &self.events {
            // The kernel reports a change of this file as an exceptional condition.
            interests.add(Source::Frozen, events.as_fd(), PollFlags::PRI);
            interests.wake(self.wishes.iter().map(|wish| wish.until).min());
        }
    }

    /// Answers for the clients whose request is done, and for those that have waited too long. A guest that
    /// cannot be frozen is thawed again.
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
                self.hold.take_if(|hold| hold.client == wish.client);
                let _ = order(payload, false);
            }
            let what = if wish.frozen { "freeze" } else { "thaw" };
            let reason =
                format!("cannot {what} the guest: it has taken more than {} s", waits::FREEZE.as_secs());
            (wish.client, Reply::failed(reason))
        });
        let answers = answers.collect();
        if self.wishes.is_empty() {
            self.events = None;
        }
        answers
    }
}

fn refused(what: &str, why: &str) -> SysError {
    SysError::new(what, std::io::Error::other(why.to_owned()))
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
        crate::sys::fs::mount::open_dir(dir.to_str().unwrap()).unwrap()
    }

    #[test]
    fn a_guest_that_is_held_is_thawed_when_its_holder_has_gone_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let payload = cgroup(dir.path());
        let order = || fs::read_to_string(dir.path().join("cgroup.freeze")).unwrap();
        let mut freezer = Freezer::default();
        freezer.hold(&payload, 1).unwrap();
        assert_eq!(order(), "1");
        assert!(freezer.hold(&payload, 2).is_err());
        assert!(freezer.ask(&payload, 2, false).is_err());
        freezer.release(&payload, 2);
        assert_eq!(order(), "1");
        freezer.release(&payload, 1);
        assert_eq!(order(), "0");
        // Paused by the operator, before or meanwhile: it stays so.
        freezer.hold(&payload, 3).unwrap();
        freezer.ask(&payload, 4, true).unwrap();
        freezer.release(&payload, 3);
        assert_eq!(order(), "1");
        freezer.hold(&payload, 5).unwrap();
        freezer.release(&payload, 5);
        assert_eq!(order(), "1");
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
        let answers = freezer.answers(&payload, Instant::now() + waits::FREEZE);
        assert!(matches!(&answers[..], [(1, Reply::Failed { .. })]), "{answers:?}");
        assert_eq!(fs::read_to_string(dir.path().join("cgroup.freeze")).unwrap(), "0");
    }
}
