//! The one way in which this program makes processes. A child has what it is given and nothing else: no
//! descriptor that is not named, and no more rights than are asked for.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::child::Child;
use super::failed::{Doing, Failed, Subject};
use super::report::{Reporter, Running};
use super::{caps, descriptors, identity, sandbox};
use crate::sys::net::seqpacket;
use crate::sys::{Context, SysError, SysResult};

/// CLONE_INTO_CGROUP of linux/sched.h, which libc has in a type too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The exit code of a child that cannot become what it is to be, and has nobody to tell.
const NOT_BEGUN: i32 = 70;

/// Ends the process without running destructors or exit handlers, which are the parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

/// As whom a child works.
#[derive(Clone, Copy)]
enum Identity<'a> {
    /// The caller.
    Same,
    /// Root of this user namespace.
    RootOf(BorrowedFd<'a>),
    User {
        uid: u32,
        gid: u32,
    },
}

/// Where a child works.
#[derive(Clone, Copy)]
enum Place<'a> {
    Same,
    /// In this directory.
    Dir(BorrowedFd<'a>),
    /// In this directory as its root.
    Root(BorrowedFd<'a>),
}

/// A child process to make, and what it is to have. Of descriptors it has standard input, output and
/// error, and those that are named; all else that the parent has open is closed before anything else is
/// done. The rest happens in the order in which the fields stand here. The caller has one thread.
pub struct Fork<'a> {
    /// Continues the sentence "cannot …".
    what: &'static str,
    /// `CLONE_NEW…` and `CLONE_PARENT` of clone(2).
    flags: u64,
    cgroup: Option<BorrowedFd<'a>>,
    leaves_terminal: bool,
    streams: [Option<BorrowedFd<'a>>; 3],
    kept: Vec<BorrowedFd<'a>>,
    identity: Identity<'a>,
    unshared: UnshareFlags,
    place: Place<'a>,
    has_file_rights_only: bool,
    death_signal: Option<Signal>,
    leaves_keyring: bool,
    filter: Option<&'a [u8]>,
    service_capabilities: Option<u64>,
    deadline: Option<Duration>,
}

impl<'a> Fork<'a> {
    /// A child that is as its parent, but for its descriptors. `what` it does continues the sentence
    /// "cannot …".
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            flags: 0,
            cgroup: None,
            streams: [None; 3],
            leaves_terminal: false,
            kept: Vec::new(),
            identity: Identity::Same,
            unshared: UnshareFlags::empty(),
            place: Place::Same,
            has_file_rights_only: false,
            death_signal: None,
            leaves_keyring: false,
            filter: None,
            service_capabilities: None,
            deadline: None,
        }
    }

    /// The child has these descriptors too.
    pub fn keep<F: AsFd + ?Sized + 'a>(mut self, fds: impl IntoIterator<Item = &'a F>) -> Self {
        self.kept.extend(fds.into_iter().map(AsFd::as_fd));
        self
    }

    /// Its standard input, output and error; where none is given, the parent's, or /dev/null without a
    /// terminal.
    pub fn streams(mut self, streams: [Option<BorrowedFd<'a>>; 3]) -> Self {
        self.streams = streams;
        self
    }

    /// It has a session of its own, and /dev/null in place of its parent's standard input, output and error.
    pub fn without_terminal(mut self) -> Self {
        self.leaves_terminal = true;
        self
    }

    /// It is born in new namespaces, `CLONE_NEW…` of clone(2).
    pub fn namespaces(mut self, flags: libc::c_int) -> Self {
        self.flags |= flags as u64;
        self
    }

    /// It is born in this directory of the cgroup v2 hierarchy.
    pub fn cgroup(mut self, dir: BorrowedFd<'a>) -> Self {
        self.cgroup = Some(dir);
        self
    }

    /// It is a child of the caller's parent, to which its end is told.
    pub fn sibling(mut self) -> Self {
        self.flags |= libc::CLONE_PARENT as u64;
        self
    }

    /// It is root of this user namespace, and so has no right outside of it.
    pub fn root_of(mut self, namespace: &'a OwnedFd) -> Self {
        self.identity = Identity::RootOf(namespace.as_fd());
        self.kept.push(namespace.as_fd());
        self
    }

    /// It is this user, without supplementary groups.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.identity = Identity::User { uid, gid };
        self
    }

    /// It takes copies of its own of these, once it is who it will be.
    pub fn unshare(mut self, flags: UnshareFlags) -> Self {
        self.unshared = flags;
        self
    }

    /// It works in this directory.
    pub fn in_dir(mut self, dir: &'a OwnedFd) -> Self {
        self.place = Place::Dir(dir.as_fd());
        self.kept.push(dir.as_fd());
        self
    }

    /// This directory, which it keeps open, is its root.
    pub fn in_root(mut self, dir: &'a OwnedFd) -> Self {
        self.place = Place::Root(dir.as_fd());
        self.kept.push(dir.as_fd());
        self
    }

    /// It keeps the capabilities that it takes to write files of all owners, and no others.
    pub fn with_file_rights_only(mut self) -> Self {
        self.has_file_rights_only = true;
        self
    }

    /// It is killed when its parent ends.
    pub fn dies_with_parent(self) -> Self {
        self.death_signal(Signal::KILL)
    }

    /// It gets `signal` when its parent ends.
    pub fn death_signal(mut self, signal: Signal) -> Self {
        self.death_signal = Some(signal);
        self
    }

    /// It has a session keyring of its own.
    pub fn without_keyring(mut self) -> Self {
        self.leaves_keyring = true;
        self
    }

    /// It never gains rights by executing something, and makes the system calls alone that `filter`, one of
    /// [`super::seccomp`]'s, allows.
    pub fn filter(mut self, filter: &'a [u8]) -> Self {
        self.filter = Some(filter);
        self
    }

    /// What it executes has none but these capabilities, bits of capabilities(7), and never gains one.
    pub fn service_capabilities(mut self, bits: u64) -> Self {
        self.service_capabilities = Some(bits);
        self
    }

    /// Who waits for its report or its end, kills it after this time.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.deadline = Some(timeout);
        self
    }

    /// What it does, for messages.
    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.deadline
    }

    /// Starts a child that does `body`, whose result is its exit code, and goes on by itself. One that
    /// cannot get what it was to have ends with code 70.
    pub fn start(&self, body: impl FnOnce() -> i32) -> SysResult<Child> {
        self.make(None, |ready| if ready.is_ok() { body() } else { NOT_BEGUN })
    }

    /// The same with a connection between the two, of packets with descriptors: what comes back is the
    /// parent's end, and `body` is given the child's.
    pub fn start_with_socket(&self, body: impl FnOnce(OwnedFd) -> i32) -> SysResult<(Child, OwnedFd)> {
        self.start_connected(seqpacket::pair()?, body)
    }

    /// The same with a stream of bytes.
    pub fn start_with_stream(&self, body: impl FnOnce(UnixStream) -> i32) -> SysResult<(Child, UnixStream)> {
        self.start_connected(UnixStream::pair().cannot(|| "make a socket pair")?, body)
    }

    fn start_connected<S: AsRawFd>(
        &self,
        (ours, theirs): (S, S),
        body: impl FnOnce(S) -> i32,
    ) -> SysResult<(Child, S)> {
        let number = theirs.as_raw_fd();
        let child = self.make(Some(number), |ready| if ready.is_ok() { body(theirs) } else { NOT_BEGUN })?;
        Ok((child, ours))
    }

    /// Starts a child that does `body`, and goes on until its result is asked for.
    pub fn begin<T>(&self, body: impl FnOnce(&Reporter<'_>) -> T) -> SysResult<Running<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.begin_as(body)
    }

    /// What `body` returns in a child.
    ///
    /// # Errors
    /// When there is none: no child could be made, or not as it is to be, or it has died.
    pub fn run<T>(&self, body: impl FnOnce() -> T) -> SysResult<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.begin(|_| body())?.finish()
    }

    /// Does `body` in a child, which asks for no memory to tell of a failure.
    pub fn attempt(&self, body: impl FnOnce(&mut Subject) -> Result<(), Failed>) -> SysResult<()> {
        let running = self.begin_as(|_| {
            let mut subject = Subject::empty();
            let done = body(&mut subject);
            (done.map_err(|failed| (failed.what, failed.errno.raw_os_error())), subject)
        })?;
        let (done, subject): (Result<(), (String, i32)>, Vec<u8>) = running.finish()?;
        done.map_err(|(mut what, errno)| {
            if !subject.is_empty() {
                what.push_str(&format!(" '{}'", String::from_utf8_lossy(&subject).escape_debug()));
            }
            SysError::new(what, std::io::Error::from_raw_os_error(errno))
        })
    }

    fn begin_as<S, T>(&self, body: impl FnOnce(&Reporter<'_>) -> S) -> SysResult<Running<T>>
    where
        S: Serialize,
        T: DeserializeOwned,
    {
        let (ours, theirs) = seqpacket::pair()?;
        let child = self.make(Some(theirs.as_raw_fd()), |ready| {
            let reporter = Reporter::new(theirs.as_fd());
            let outcome = ready.map(|()| body(&reporter));
            let outcome = outcome.map_err(|failed| (failed.what, failed.errno.raw_os_error()));
            i32::from(reporter.outcome(&outcome).is_err())
        })?;
        Ok(Running::new(self.what, child, ours, self.deadline))
    }

    /// The child does `body`, which is told whether the child has become what it is to be, and ends.
    /// `connection` is its way to speak to its parent.
    pub(super) fn make(
        &self,
        connection: Option<RawFd>,
        body: impl FnOnce(Result<(), Failed>) -> i32,
    ) -> SysResult<Child> {
        assert_one_thread(self.what);
        // Outside of a new pid namespace its parent has no number.
        let is_init = self.flags & libc::CLONE_NEWPID as u64 != 0;
        let parent = Some(rustix::process::getpid()).filter(|_| !is_init);
        match self.clone3()? {
            Some(child) => Ok(child),
            None => exit_now(body(self.settle(parent, connection))),
        }
    }

    /// clone3(2) without shared memory; none in the child.
    fn clone3(&self) -> SysResult<Option<Child>> {
        let mut pidfd: libc::c_int = -1;
        // SAFETY: clone_args is plain integers, for which all zeroes is valid.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = self.flags | libc::CLONE_PIDFD as u64;
        args.pidfd = &raw mut pidfd as u64;
        // The kernel wants no exit signal together with CLONE_PARENT: the child inherits the caller's.
        if self.flags & libc::CLONE_PARENT as u64 == 0 {
            args.exit_signal = libc::SIGCHLD as u64;
        }
        if let Some(cgroup) = self.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        let args = &raw mut args;
        // SAFETY: no CLONE_VM and no stack: the child runs on a copy of this stack, as after fork(2).
        // The process has one thread, so no lock is held by a thread that is not copied.
        let clone = || unsafe { libc::syscall(libc::SYS_clone3, args, size_of::<libc::clone_args>()) };
        #[cfg(test)]
        let pid = test_heap::at_rest(clone);
        #[cfg(not(test))]
        let pid = clone();
        match pid {
            -1 => Err(SysError::last(format!("make a process to {}", self.what))),
            0 => Ok(None),
            // SAFETY: the kernel has just put a new descriptor there, which nothing else owns.
            pid => Ok(Some(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
        }
    }

    /// In the child: becomes what it is to be. Asks for no memory.
    fn settle(&self, parent: Option<Pid>, connection: Option<RawFd>) -> Result<(), Failed> {
        if self.leaves_terminal {
            sandbox::leave_terminal()?;
        }
        descriptors::place_streams(self.streams)?;
        descriptors::keep_only(self.kept.iter().map(AsRawFd::as_raw_fd).chain(connection));
        match self.identity {
            Identity::Same => {}
            Identity::User { uid, gid } => identity::become_ids(uid, gid)?,
            Identity::RootOf(namespace) => {
                rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::User))
                    .doing("enter a user namespace")?;
                descriptors::close(namespace);
                identity::become_ids(0, 0)?;
                rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
            }
        }
        if !self.unshared.is_empty() {
            identity::unshare(self.unshared)?;
        }
        match self.place {
            Place::Same => {}
            Place::Dir(dir) => rustix::process::fchdir(dir).doing("enter the working directory")?,
            Place::Root(dir) => rustix::process::fchdir(dir)
                .and_then(|()| rustix::process::chroot(c"."))
                .doing("change the root directory")?,
        }
        if self.has_file_rights_only {
            sandbox::keep_to_files()?;
        }
        if let Some(signal) = self.death_signal {
            sandbox::die_with(parent, signal)?;
        }
        if self.leaves_keyring {
            sandbox::leave_keyring()?;
        }
        if let Some(filter) = self.filter {
            sandbox::shut_in(filter)?;
        }
        self.service_capabilities.map_or(Ok(()), caps::confine_service)
    }
}

/// A child of a process with several threads would find locked for good what another of them had locked.
/// The threads of unit tests are let be: see `test_heap`.
fn assert_one_thread(what: &str) {
    if !cfg!(debug_assertions) || cfg!(test) {
        return;
    }
    // unshare(2): that is refused to a process with several threads, and else without effect. A thread that
    // was waited for may need a moment more to be gone.
    let is_alone =
        || nix::sched::unshare(nix::sched::CloneFlags::CLONE_THREAD) != Err(nix::errno::Errno::EINVAL);
    let is_alone = (0..100).any(|_| {
        is_alone() || {
            std::thread::sleep(Duration::from_millis(2));
            false
        }
    });
    assert!(is_alone, "a process of several threads forks to {what}");
}

#[cfg(test)]
mod test_heap;
#[cfg(test)]
mod tests;
