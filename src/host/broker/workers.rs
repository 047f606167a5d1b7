//! The broker's workers: how many each user has, and the end of those that do not end by themselves.
//! A worker does one call at a time and waits for nobody without an end; but a call may be costly,
//! and nobody may be left who wants its answer.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::model::waits;
use crate::sys::fs::lock;
use crate::sys::process;
use crate::sys::process::child;
use crate::sys::process::child::Child;

/// A worker, as the broker sees it.
pub struct Worker {
    child: Child,
    uid: u32,
    /// A copy of its connection, to see the other end close.
    peer: OwnedFd,
    alone_since: Option<Instant>,
    /// What it had used of the processor, and when that was.
    used: (Instant, Duration),
}

impl Worker {
    /// The worker `child` for user `uid`; `peer` is a copy of its connection.
    pub fn new(child: Child, uid: u32, peer: OwnedFd) -> Self {
        Self { child, uid, peer, alone_since: None, used: (Instant::now(), Duration::ZERO) }
    }

    /// Becomes ready when it ends.
    pub fn end(&self) -> &OwnedFd {
        &self.child.pidfd
    }

    /// Becomes ready when its command is gone; none once that is known.
    pub fn peer(&self) -> Option<&OwnedFd> {
        self.alone_since.is_none().then_some(&self.peer)
    }

    /// Whether it is to be ended; `has_lock` is asked only where that matters.
    fn is_overdue(&mut self, now: Instant, cpu: Option<Duration>, has_lock: impl FnOnce() -> bool) -> bool {
        if let Some(cpu) = cpu {
            let (since, before) = self.used;
            if cpu.saturating_sub(before) >= waits::WORKER_CPU {
                return true;
            }
            if now.duration_since(since) >= waits::WORKER_CPU_WITHIN {
                self.used = (now, cpu);
            }
        }
        match self.alone_since.map(|since| now.duration_since(since)) {
            Some(alone) if alone >= waits::WORKER_FINISH => true,
            Some(alone) => alone >= waits::WORKER_ALONE && !has_lock(),
            None => false,
        }
    }
}

/// All of them.
#[derive(Default)]
pub struct Workers {
    all: Vec<Worker>,
    looked: Option<Instant>,
}

impl Workers {
    /// How many workers there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is no worker.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many workers user `uid` has.
    pub fn of_user(&self, uid: u32) -> usize {
        self.all.iter().filter(|worker| worker.uid == uid).count()
    }

    /// Adds a worker.
    pub fn add(&mut self, worker: Worker) {
        self.all.push(worker);
    }

    /// All workers.
    pub fn iter(&self) -> std::slice::Iter<'_, Worker> {
        self.all.iter()
    }

    /// Collects those that have ended, and notes those whose command is gone; `is_ready` tells of a
    /// descriptor of [`Worker::end`] or [`Worker::peer`].
    pub fn settle(&mut self, is_ready: impl Fn(&OwnedFd) -> bool) {
        let now = Instant::now();
        self.all.retain_mut(|worker| {
            if is_ready(&worker.child.pidfd) {
                let _ = worker.child.wait();
                return false;
            }
            if worker.alone_since.is_none() && is_ready(&worker.peer) {
                worker.alone_since = Some(now);
            }
            true
        });
    }

    /// Ends those that have gone on for too long.
    pub fn end_overdue(&mut self) {
        let now = Instant::now();
        if self.looked.is_some_and(|then| now.duration_since(then) < waits::WORKER_POLL) {
            return;
        }
        self.looked = Some(now);
        for worker in &mut self.all {
            let pid = worker.child.pid;
            // One that is not old cannot have used much.
            let is_old = now.duration_since(worker.used.0) >= waits::WORKER_CPU;
            let cpu = is_old.then(|| process::cpu_time(pid)).flatten();
            if worker.is_overdue(now, cpu, || lock::holds_any(pid)) {
                tracing::warn!("ended a worker of user {} that did not end by itself", worker.uid);
                let _ = child::signal(&worker.child.pidfd, libc::SIGKILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_gone_on_for_too_long() {
        let child = crate::sys::process::fork::Fork::new("end at once").start(|| 0).unwrap();
        child.wait().unwrap();
        let (peer, _other) = rustix::pipe::pipe().unwrap();
        let mut worker = Worker::new(child, 1000, peer);
        let start = worker.used.0;
        let after = |seconds| start + Duration::from_secs(seconds);
        let cpu = |seconds| Some(Duration::from_secs(seconds));
        // Its command is there: only the processor counts, and only what is used in a short time.
        assert!(!worker.is_overdue(after(1000), None, || false));
        assert!(!worker.is_overdue(after(100), cpu(59), || false));
        assert!(!worker.is_overdue(after(200), cpu(110), || false));
        assert!(worker.is_overdue(after(280), cpu(171), || true));
        worker.alone_since = Some(start);
        assert!(!worker.is_overdue(after(4), None, || false));
        assert!(worker.is_overdue(after(5), None, || false));
        assert!(!worker.is_overdue(after(119), None, || true));
        assert!(worker.is_overdue(after(120), None, || true));
    }
}
