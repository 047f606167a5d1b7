//! Making processes: clone3(2), waiting, and signals through process descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Context, SysError, SysResult};

/// CLONE_INTO_CGROUP of linux/sched.h, which libc has in a type too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What to make of a child.
#[derive(Default)]
pub struct CloneSpec<'a> {
    /// `CLONE_NEW…` and `CLONE_PARENT` of clone(2).
    pub flags: u64,
    /// The cgroup v2 directory in which the child is born.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Which side of a fork this is.
pub enum Forked {
    Child,
    Parent(Child),
}

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
}

/// clone3(2) without shared memory. The caller has a single thread, so that the child may use
/// everything the parent could.
///
/// # Errors
/// As clone3(2); `EBUSY` or `EACCES` where the cgroup cannot be entered.
pub fn clone3(spec: &CloneSpec<'_>) -> SysResult<Forked> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which all zeroes is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = spec.flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    // The kernel wants no exit signal together with CLONE_PARENT: the child inherits the caller's.
    if spec.flags & libc::CLONE_PARENT as u64 == 0 {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = spec.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM and no stack: the child runs on a copy of this stack, as after fork(2).
    // The process has one thread, so no lock is held by a thread that is not copied.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(SysError::last("make a process")),
        0 => Ok(Forked::Child),
        // SAFETY: the kernel has just put a new descriptor there, which nothing else owns.
        pid => Ok(Forked::Parent(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
    }
}

/// Runs `body` in a forked child, which ends with the code that it returns.
pub fn fork(spec: &CloneSpec<'_>, body: impl FnOnce() -> i32) -> SysResult<Child> {
    match clone3(spec)? {
        Forked::Parent(child) => Ok(child),
        Forked::Child => exit_now(body()),
    }
}

/// Ends the process without running destructors or exit handlers, which are the parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

impl Child {
    /// Waits for its end; for a child of this process only.
    pub fn wait(&self) -> SysResult<Exit> {
        wait_pid(self.pid)
    }

    /// The same, at most for `patience`; none when it lives on.
    pub fn wait_within(&self, patience: Duration) -> SysResult<Option<Exit>> {
        if self.ends_within(patience)? { self.wait().map(Some) } else { Ok(None) }
    }

    /// Whether it ends within `patience`, without collecting it.
    pub fn ends_within(&self, patience: Duration) -> SysResult<bool> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e).cannot(|| format!("wait for process {}", self.pid)),
            }
        }
    }

    /// SIGKILL and wait: nothing of it is left afterwards.
    pub fn kill(&self) {
        let _ = signal(&self.pidfd, libc::SIGKILL);
        let _ = self.wait();
    }
}

/// Waits for child `pid`, however often a signal interrupts.
pub fn wait_pid(pid: i32) -> SysResult<Exit> {
    let mut status = 0;
    loop {
        // SAFETY: status is a valid pointer to an int for the duration of the call.
        let got = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if got == pid {
            return Ok(exit_of(status));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(SysError::new(format!("wait for process {pid}"), error));
        }
    }
}

/// Collects one ended child, if there is any.
pub fn reap_one() -> Option<(i32, Exit)> {
    let mut status = 0;
    // SAFETY: status is a valid pointer to an int for the duration of the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, exit_of(status)))
}

fn exit_of(status: libc::c_int) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// Sends `signal` to the process behind `pidfd`; never to another that took over its number.
pub fn signal(pidfd: &OwnedFd, signal: i32) -> SysResult<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a valid descriptor, no siginfo, no flags.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if done == 0 { Ok(()) } else { Err(SysError::last(format!("send signal {signal}"))) }
}

/// A descriptor of a running process.
pub fn pidfd_open(pid: i32) -> SysResult<OwnedFd> {
    let number = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| SysError::new("use process number 0", std::io::ErrorKind::InvalidInput))?;
    rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())
        .cannot(|| format!("open process {pid}"))
}

/// How a process has ended that is not our child, which is told once its parent has collected it:
/// that is waited for, a short time. None below kernel 6.15 (`PIDFD_GET_INFO` with
/// `PIDFD_INFO_EXIT`) or when it cannot be told.
pub fn exit_of_foreign(pidfd: &OwnedFd) -> Option<Exit> {
    const TRIES: u32 = 1000;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);
    for _ in 0..TRIES {
        match ask_for_exit(pidfd) {
            Ok(None) => std::thread::sleep(PAUSE),
            Ok(exit) => return exit,
            // An older kernel: it does not know the request, or of no process that has gone.
            Err(_) => return None,
        }
    }
    None
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
    Ok((info.mask & INFO_EXIT != 0).then(|| exit_of(info.exit_code)))
}

/// Replaces this process by the program behind `exe`, a descriptor, so no path is looked up.
/// Returns only when that fails.
pub fn exec_fd(exe: BorrowedFd<'_>, argv: &[std::ffi::CString], env: &[std::ffi::CString]) -> SysError {
    let pointers = |strings: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with a null pointer and outlive the call, as do their strings.
    unsafe {
        libc::execveat(
            exe.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr().cast_mut().cast(),
            env.as_ptr().cast_mut().cast(),
            libc::AT_EMPTY_PATH,
        )
    };
    SysError::last("execute the monitor")
}

/// Puts `fds` at numbers 0, 1, 2, … and `until_exec`, which exec will close, at the numbers that
/// follow; every other descriptor is closed. Those of `until_exec` come back under their new numbers.
pub fn arrange_fds(fds: &[BorrowedFd<'_>], until_exec: &[BorrowedFd<'_>]) -> SysResult<Vec<OwnedFd>> {
    let count = (fds.len() + until_exec.len()) as i32;
    // First out of the way of the targets, then down to them.
    let duplicate = |fd: &BorrowedFd<'_>| {
        // SAFETY: duplicates a valid descriptor to the lowest free number above the targets.
        let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, count) };
        if copy < 0 { Err(SysError::last("duplicate a descriptor")) } else { Ok(copy) }
    };
    let high = fds.iter().chain(until_exec).map(duplicate).collect::<SysResult<Vec<_>>>()?;
    let mut placed = Vec::with_capacity(until_exec.len());
    for (target, copy) in (0i32..).zip(&high) {
        let is_closed_by_exec = target as usize >= fds.len();
        let flags = if is_closed_by_exec { libc::O_CLOEXEC } else { 0 };
        // SAFETY: both numbers are ours and differ; whatever was open at `target` is meant to go.
        if unsafe { libc::dup3(*copy, target, flags) } < 0 {
            return Err(SysError::last("place a descriptor"));
        }
        if is_closed_by_exec {
            // SAFETY: the number has just been made, and is owned by the value returned alone.
            placed.push(unsafe { OwnedFd::from_raw_fd(target) });
        }
    }
    close_from(count);
    Ok(placed)
}

/// Has exec close descriptor `number`. For a child about to exec, for which nothing here owns it.
pub fn close_on_exec(number: i32) {
    // SAFETY: sets a flag of a descriptor number.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Writes `error`'s number to descriptor `number`. For a child whose exec has failed.
pub fn tell_errno(number: i32, error: &SysError) {
    let bytes = error.errno().unwrap_or(libc::EIO).to_ne_bytes();
    // SAFETY: a valid buffer of the length stated.
    unsafe { libc::write(number, bytes.as_ptr().cast(), bytes.len()) };
}

/// Closes every descriptor from number 3 on but those of `kept`. For a forked child that waits for its
/// parent: it must neither hold what is the parent's to hold, locks above all, nor its own end of the
/// pipe by whose closing it hears of the parent's end.
pub fn keep_only<F: AsFd>(kept: &[F]) {
    let number = |fd: &F| fd.as_fd().as_raw_fd() as u32;
    let mut first = 3;
    // Without asking for memory: the parent may have had other threads.
    while let Some(next) = kept.iter().map(number).filter(|number| *number >= first).min() {
        if next > first {
            // SAFETY: the caller is a forked child that uses none of them again.
            unsafe { libc::syscall(libc::SYS_close_range, first, next - 1, 0) };
        }
        first = next + 1;
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Closes a descriptor that the forked child has no use for, and whose owner never runs there.
pub fn close(fd: &OwnedFd) {
    // SAFETY: the caller is a forked child, which ends without dropping what it shares.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Closes every descriptor from number `first` on.
pub fn close_from(first: i32) {
    // SAFETY: the caller is about to exec or exit; no owner of these numbers runs again.
    unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, 0) };
}
