//! A signal to the monitor, with which a service manager ends the container, or the host ends everything.
//! The monitor shuts the guest down as `nagaya stop` does, and ends it by force while there is still time
//! to record that.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::model::monitor::SCOPE_STOP_SIGNAL;
use crate::model::waits;
use crate::sys::{Context, SysResult};

pub struct HostStop {
    signals: SignalFd,
    force_at: Option<Instant>,
}

impl HostStop {
    /// From now on these signals do not end the monitor. Children that become guests' processes undo that
    /// (`init::drop_monitor_signals`).
    pub fn new() -> SysResult<Self> {
        let what = || "wait for signals";
        let of_scope = Signal::try_from(SCOPE_STOP_SIGNAL).cannot(what)?;
        let set: SigSet = [Signal::SIGTERM, of_scope].into_iter().collect();
        set.thread_block().cannot(what)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { signals: SignalFd::with_flags(&set, flags).cannot(what)?, force_at: None })
    }

    /// When `is_over` has something to say.
    pub fn wakes_at(&self) -> Option<Instant> {
        self.force_at
    }

    /// Whether a signal has come.
    pub fn hear(&mut self, now: Instant) -> bool {
        let mut has_come = false;
        while let Ok(Some(_)) = self.signals.read_signal() {
            has_come = true;
        }
        if has_come {
            self.force_at.get_or_insert(now + waits::HOST_STOP);
        }
        has_come
    }

    /// Whether the time for a clean shutdown is over: told once.
    pub fn is_over(&mut self, now: Instant) -> bool {
        self.force_at.take_if(|at| *at <= now).is_some()
    }
}

impl AsFd for HostStop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_guest_that_is_late_is_ended_once_and_before_the_monitor_is() {
        let mut stop = HostStop::new().unwrap();
        let now = Instant::now();
        assert!(!stop.hear(now) && stop.wakes_at().is_none() && !stop.is_over(now));
        for signal in [Signal::SIGTERM, Signal::SIGURG] {
            nix::sys::signal::raise(signal).unwrap();
        }
        assert!(stop.hear(now));
        let at = stop.wakes_at().unwrap();
        assert!(at < now + waits::SCOPE_STOP_WITH_HOST);
        // Another one does not put it off.
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert!(stop.hear(now + Duration::from_secs(3)) && stop.wakes_at() == Some(at));
        assert!(!stop.is_over(now) && stop.is_over(at) && !stop.is_over(at));
    }
}
