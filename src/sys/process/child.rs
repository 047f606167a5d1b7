//! A process that was made: waiting for it, and signals through its descriptor.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus};

use crate::model::waits;
use crate::sys::{Context, SysError, SysResult, timespec};

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// In the caller's pid namespace.
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// As a shell counts: 128 + n for a signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    /// Whether all went well.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }

    /// Of a wait status.
    fn of(status: libc::c_int) -> Self {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "it ended with code {code}"),
            Exit::Signal(signal) => write!(f, "it was killed by signal {signal}"),
        }
    }
}

impl Child {
    /// Waits for its end; for a child of this process only.
    pub fn wait(&self) -> SysResult<Exit> {
        let status =
            rustix::io::retry_on_intr(|| rustix::process::waitpid(number(self.pid)?, WaitOptions::empty()));
        ended(self.pid, status)?.ok_or_else(|| lost(self.pid))
    }

    /// Collects it if it has ended; none when it lives on, and while somebody traces it.
    pub fn try_wait(&self) -> SysResult<Option<Exit>> {
        try_wait_pid(self.pid)
    }

    /// The same, at most for `timeout`; none when it lives on.
    pub fn wait_within(&self, timeout: Duration) -> SysResult<Option<Exit>> {
        if self.ends_within(timeout)? { self.wait().map(Some) } else { Ok(None) }
    }

    /// Whether it ends within `timeout`, without collecting it.
    pub fn ends_within(&self, timeout: Duration) -> SysResult<bool> {
        ends_within(&self.pidfd, timeout)
    }

    /// Asks it to end (SIGTERM) until it has, at most for `timeout`; whether it has. It may have looked whether it was
    /// asked just before it was, and wait for something else by then.
    pub fn end(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        loop {
            if signal(&self.pidfd, libc::SIGTERM).is_err()
                || !matches!(self.wait_within(waits::ASKED_TO_END_POLL), Ok(None))
            {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
        }
    }

    /// SIGKILL and wait: nothing of it is left afterwards.
    pub fn kill(&self) {
        let _ = signal(&self.pidfd, libc::SIGKILL);
        let _ = self.wait();
    }
}

/// Whether the process behind `pidfd`, anybody's child, ends within `timeout`.
pub fn ends_within(pidfd: &OwnedFd, timeout: Duration) -> SysResult<bool> {
    let end = Instant::now() + timeout;
    loop {
        let timeout = timespec(end.saturating_duration_since(Instant::now()));
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).cannot(|| "wait for a process"),
        }
    }
}

fn number(pid: i32) -> rustix::io::Result<Option<Pid>> {
    // None would be any child.
    Pid::from_raw(pid).map(Some).ok_or(rustix::io::Errno::INVAL)
}

fn ended(pid: i32, status: rustix::io::Result<Option<(Pid, WaitStatus)>>) -> SysResult<Option<Exit>> {
    let status = status.cannot(|| format!("wait for process {pid}"))?;
    Ok(status.map(|(_, status)| Exit::of(status.as_raw())))
}

fn lost(pid: i32) -> SysError {
    SysError::new(format!("wait for process {pid}"), std::io::ErrorKind::NotFound)
}

/// Collects child `pid` if it has ended. While another process traces it, it cannot be collected: waiting
/// for it would be waiting for the tracer.
pub fn try_wait_pid(pid: i32) -> SysResult<Option<Exit>> {
    ended(pid, number(pid).and_then(|pid| rustix::process::waitpid(pid, WaitOptions::NOHANG)))
}

/// Collects children that have ended and that `known` does not know.
pub fn reap_strays(known: impl Fn(i32) -> bool) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Some(pid) = waitid(Id::All, look).ok().and_then(|status| status.pid()) {
        if known(pid.as_raw()) || !matches!(try_wait_pid(pid.as_raw()), Ok(Some(_))) {
            return;
        }
    }
}

/// Sends `signal` to the process behind `pidfd`; never to another that took over its number. 0 sends
/// nothing, and fails where the process has gone.
pub fn signal(pidfd: &OwnedFd, signal: i32) -> SysResult<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a valid descriptor, no siginfo, no flags. rustix knows neither signal 0 nor those between
    // its named ones and the real-time ones that it can send.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if done == 0 { Ok(()) } else { Err(SysError::last(format!("send signal {signal}"))) }
}

/// A descriptor of a running process.
pub fn pidfd_open(pid: i32) -> SysResult<OwnedFd> {
    let number = Pid::from_raw(pid)
        .ok_or_else(|| SysError::new("use process number 0", std::io::ErrorKind::InvalidInput))?;
    rustix::process::pidfd_open(number, PidfdFlags::empty()).cannot(|| format!("open process {pid}"))
}

/// What the kernel tells of the end of a process that is not our child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Its parent has not collected it.
    NotYet,
    Ended(Exit),
    /// Before Linux 6.15 (`PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`).
    Unknown,
}

/// How a process that is not our child has ended, which is told once its parent has collected it.
pub fn exit_of_foreign(pidfd: &OwnedFd) -> Foreign {
    match ask_for_exit(pidfd) {
        Ok(None) => Foreign::NotYet,
        Ok(Some(exit)) => Foreign::Ended(exit),
        // An older kernel: it does not know the request, or of no process that has gone.
        Err(_) => Foreign::Unknown,
    }
}

/// None while its parent has not collected it.
fn ask_for_exit(pidfd: &OwnedFd) -> std::io::Result<Option<Exit>> {
    /// struct pidfd_info of include/uapi/linux/pidfd.h, size 64 (6.13) and larger.
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
        rest: [u32; 4],
    }
    const INFO_EXIT: u64 = 1 << 3;
    let mut info = PidfdInfo { mask: INFO_EXIT, ..Default::default() };
    // PIDFD_GET_INFO = _IOWR(0xFF, 11, struct pidfd_info)
    let request = (3u64 << 30) | ((size_of::<PidfdInfo>() as u64) << 16) | (0xff << 8) | 11;
    // SAFETY: the kernel reads and writes at most the size that the request number states.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), request, &raw mut info) };
    if done != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok((info.mask & INFO_EXIT != 0).then(|| Exit::of(info.exit_code)))
}
