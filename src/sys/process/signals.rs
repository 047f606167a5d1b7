//! Signals as descriptors to wait for, while a program in a guest gets them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that a program in a guest gets in our place.
pub const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Signals about our terminal: its size has changed; it is ours again.
pub const OF_TERMINAL: [Signal; 2] = [Signal::SIGWINCH, Signal::SIGCONT];

/// Signals that wait here instead of acting; they act again once this is dropped.
pub struct Signals {
    waiting: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Takes `wanted`, but those that whoever started us wants ignored (nohup(1), a shell's
    /// background job): a signal that is blocked would not be ignored any more.
    pub fn take(wanted: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        let ignored = ignored();
        let set: SigSet = wanted.into_iter().filter(|s| ignored & (1 << (*s as i32 - 1)) == 0).collect();
        let waiting = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = SigSet::thread_get_mask()?;
        set.thread_block()?;
        Ok(Self { waiting, before })
    }

    /// One that has come, if any has.
    pub fn next(&self) -> Option<Signal> {
        let info = self.waiting.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo as i32).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// Whether `signal` asks for our end.
pub fn ends(signal: Signal) -> bool {
    matches!(signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT)
}

/// Bit n - 1 stands for signal n. sigaction(2) would tell too, but not without `unsafe`.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status)
}

fn ignored_in(status: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_as_the_kernel_writes_them() {
        // SIGHUP, SIGINT and SIGPIPE, as nohup and a background job of sh leave them.
        let mask = ignored_in("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\n");
        assert_eq!(mask, 1 | 2 | 1 << 12);
        assert_eq!(ignored_in(""), 0);
    }

    #[test]
    fn a_taken_signal_waits() {
        let signals = Signals::take([Signal::SIGUSR2]).unwrap();
        assert_eq!(signals.next(), None);
        nix::sys::signal::raise(Signal::SIGUSR2).unwrap();
        assert_eq!(signals.next(), Some(Signal::SIGUSR2));
        assert_eq!(signals.next(), None);
    }
}
