//! Changes of a running guest's devices. A child enters the guest for each, for what the guest has mounted may never
//! answer; the monitor goes on meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::thread::ThreadNameSpaceType;

use crate::model::monitor::GuestMount;
use crate::model::nic::Nic;
use crate::model::waits;
use crate::runtime::devices::{Loose, Places};
use crate::runtime::interests::{Id, Interests, Source};
use crate::sys::net::seqpacket;
use crate::sys::process::child;
use crate::sys::process::child::Child;
use crate::sys::process::fork::Fork;
use crate::sys::process::{caps, interrupt, sandbox};
use crate::sys::{Context, SysError, SysResult, error_text};

/// Changes at once.
const MOST: usize = 4;
/// Mounts and interfaces of a guest.
const MOST_MOUNTS: usize = 64;

/// What is to be so once the child has done its part.
pub enum Change {
    Mount(GuestMount),
    Unmount(String),
    SetUp(Nic),
}

struct Pending {
    id: Id,
    client: Id,
    child: Child,
    report: OwnedFd,
    until: Instant,
    change: Change,
}

#[derive(Default)]
pub struct Changes {
    pending: Vec<Pending>,
    /// Children that have done their part, or are killed.
    ending: Vec<(Id, Child)>,
    last_id: Id,
    pub places: Places,
}

impl Changes {
    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        for pending in &self.pending {
            interests.read(Source::Change(pending.id), &pending.report);
            interests.wake(Some(pending.until));
        }
        for (id, child) in &self.ending {
            interests.read(Source::Change(*id), &child.pidfd);
        }
    }

    /// The process numbers of children.
    pub fn children(&self) -> impl Iterator<Item = i32> {
        let pending = self.pending.iter().map(|pending| pending.child.pid);
        pending.chain(self.ending.iter().map(|(_, child)| child.pid))
    }

    /// # Errors
    /// When there are too many at once, or `mounts` that the guest has.
    pub fn check_room(&self, mounts: usize) -> SysResult<()> {
        let refused = |why: &str| {
            Err(SysError::new("change the guest's devices", std::io::Error::other(why.to_owned())))
        };
        match (self.pending.len() < MOST, mounts < MOST_MOUNTS) {
            (true, true) => Ok(()),
            (false, _) => refused("other changes are under way"),
            (_, false) => refused("it has as many as it can"),
        }
    }

    /// Begins the guest's part of a change, in these namespaces of the guest's.
    pub fn begin(
        &mut self,
        client: Id,
        change: Change,
        init: &OwnedFd,
        namespaces: ThreadNameSpaceType,
        kept: Option<&Loose>,
        work: impl FnOnce() -> SysResult<()>,
    ) -> SysResult<()> {
        // What enters holds what the guest gets, and nothing else.
        let fork = Fork::new("change the guest's devices").keep([init]).keep(kept.map(Loose::mount));
        let (child, report) = fork.start_with_socket(|report| {
            caps::undumpable();
            interrupt::reset();
            let _ = sandbox::leave_keyring();
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
            let entered = rustix::thread::move_into_thread_name_spaces(init.as_fd(), namespaces);
            let done = entered.cannot(|| "enter the guest").and_then(|()| work());
            let told: Result<(), String> = done.map_err(|e| error_text(&e));
            i32::from(seqpacket::send(&report, &told, &[]).is_err())
        })?;
        self.last_id += 1;
        let (id, until) = (self.last_id, Instant::now() + waits::DEVICE_CHANGE);
        self.pending.push(Pending { id, client, child, report, until, change });
        Ok(())
    }

    /// Of the child with this number, which has told how its change has gone, or has ended.
    pub fn heard(&mut self, id: Id) -> Vec<(Id, Change, Result<(), String>)> {
        let is_over =
            |(other, child): &mut (Id, Child)| *other == id && !matches!(child.try_wait(), Ok(None));
        self.ending.retain_mut(|ending| !is_over(ending));
        self.ended(|pending| pending.id == id)
    }

    /// Gives up changes that the guest holds up.
    pub fn late(&mut self, now: Instant) -> Vec<(Id, Change, Result<(), String>)> {
        self.ended(|pending| pending.until <= now)
    }

    fn ended(&mut self, is_due: impl Fn(&Pending) -> bool) -> Vec<(Id, Change, Result<(), String>)> {
        let due: Vec<Pending> = self.pending.extract_if(.., |pending| is_due(pending)).collect();
        let outcome = |Pending { id, client, child, report, change, .. }| {
            let heard = seqpacket::recv_now::<Result<(), String>>(&report);
            // One that has told it ends by itself, and one that waits for the guest when it is killed.
            let _ = child::signal(&child.pidfd, libc::SIGKILL);
            let outcome = match heard {
                Ok(Some((outcome, _))) => outcome,
                _ => Err("the guest's file systems do not answer".to_owned()),
            };
            self.ending.push((id, child));
            (client, change, outcome)
        };
        due.into_iter().map(outcome).collect()
    }
}
