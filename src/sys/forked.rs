//! A forked child that does one thing as somebody else and says how it went. Of its parent's it has the
//! descriptors that the caller names, and no terminal.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::{ForkResult, Pid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitiesSecureBits, LinkNameSpaceType, UnshareFlags};

use super::sandbox;
use crate::model::ids::{SLICE, Slice};

/// What a child could not do, as it says itself. It holds no memory, for a child of a process with
/// several threads cannot ask for any.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// Continues the sentence "cannot …".
    pub what: &'static str,
    pub errno: Errno,
}

impl From<Failed> for super::SysError {
    fn from(failed: Failed) -> Self {
        Self::new(failed.what, failed.errno)
    }
}

/// Names the operation of a failed system call.
pub trait Doing<T> {
    /// `what` continues the sentence "cannot …".
    fn doing(self, what: &'static str) -> Result<T, Failed>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, what: &'static str) -> Result<T, Failed> {
        self.map_err(|errno| Failed { what, errno })
    }
}

/// The file that a child was at when it failed.
pub struct Subject {
    bytes: [u8; 255],
    len: usize,
}

impl Subject {
    /// No file.
    pub fn empty() -> Self {
        Self { bytes: [0; 255], len: 0 }
    }

    pub fn set(&mut self, name: &[u8]) {
        self.len = name.len().min(self.bytes.len());
        self.bytes[..self.len].copy_from_slice(&name[..self.len]);
    }
}

/// A child's failure, or that there is none to hear of.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    #[error("cannot make a child process")]
    Fork(#[source] io::Error),
    #[error("cannot {what}")]
    Child {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("the child process ended without a word")]
    Silent,
    #[error("cannot write the id map '{line}'")]
    Map {
        line: String,
        #[source]
        source: io::Error,
    },
}

impl ForkError {
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Fork(source) | Self::Child { source, .. } | Self::Map { source, .. } => {
                source.raw_os_error()
            }
            Self::Silent => None,
        }
    }
}

/// Most descriptors that a body is given.
const MOST_GIVEN: usize = 4;

/// Runs `body` in a child and waits for its end. Of the open descriptors the child has `given`, at most
/// four, and no other.
pub fn run(
    given: &[BorrowedFd<'_>],
    body: impl FnOnce(&mut Subject) -> Result<(), Failed>,
) -> Result<(), ForkError> {
    let (read, write) = pipe()?;
    let mut kept = [write.as_fd(); MOST_GIVEN + 1];
    kept[..given.len()].copy_from_slice(given);
    let child = fork(&kept, || {
        let mut subject = Subject { bytes: [0; 255], len: 0 };
        match body(&mut subject) {
            Ok(()) => report(&write, &[b"k"]),
            Err(failed) => tell_failure(&write, &failed, &subject.bytes[..subject.len]),
        }
    })?;
    drop(write);
    let mut said = Vec::new();
    let heard = File::from(read).read_to_end(&mut said);
    let _ = nix::sys::wait::waitpid(child, None);
    heard.map_err(ForkError::Fork)?;
    verdict(&said)
}

fn verdict(said: &[u8]) -> Result<(), ForkError> {
    match said {
        b"k" => Ok(()),
        [b'f', a, b, c, d, len, text @ ..] => {
            let (what, subject) = text.split_at_checked(usize::from(*len)).ok_or(ForkError::Silent)?;
            let mut what = String::from_utf8_lossy(what).into_owned();
            if !subject.is_empty() {
                what.push_str(&format!(" '{}'", String::from_utf8_lossy(subject).escape_debug()));
            }
            let source = io::Error::from_raw_os_error(i32::from_ne_bytes([*a, *b, *c, *d]));
            Err(ForkError::Child { what, source })
        }
        _ => Err(ForkError::Silent),
    }
}

fn tell_failure(pipe: &OwnedFd, failed: &Failed, subject: &[u8]) {
    let errno = failed.errno.raw_os_error().to_ne_bytes();
    let what = [u8::try_from(failed.what.len()).unwrap_or(u8::MAX)];
    report(pipe, &[b"f", &errno, &what, failed.what.as_bytes(), subject]);
}

fn report(pipe: &OwnedFd, parts: &[&[u8]]) {
    // All of it is less than a pipe takes at once. A parent that is gone needs no report.
    for part in parts {
        let _ = rustix::io::write(pipe, part);
    }
}

/// A user namespace that maps its ids from 0 on to those of `slice`. Made, as a container's is, by
/// a process that took on the slice's first id and kept its capabilities: the kernel charges what
/// the namespace uses to that id, and hosts that forbid unprivileged namespaces allow this one.
/// The caller is real root.
pub fn user_namespace(slice: Slice) -> Result<OwnedFd, ForkError> {
    let (made_read, made_write) = pipe()?;
    let (done_read, _done_write) = pipe()?;
    let child = fork(&[made_write.as_fd(), done_read.as_fd()], || match unshare_user(slice.base()) {
        Ok(()) => {
            report(&made_write, &[b"k"]);
            // Holds the namespace until the parent kills it, or has died: then the pipe ends.
            let _ = rustix::io::read(&done_read, &mut [0u8; 1]);
        }
        Err(failed) => tell_failure(&made_write, &failed, b""),
    })?;
    drop(made_write);
    let namespace = map_and_open(child, made_read, slice);
    // Not by closing the pipe: a child that another thread forked meanwhile may hold it too.
    let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
    let _ = nix::sys::wait::waitpid(child, None);
    namespace
}

fn unshare_user(id: u32) -> Result<(), Failed> {
    let bits = CapabilitiesSecureBits::NO_SETUID_FIXUP | CapabilitiesSecureBits::KEEP_CAPS;
    rustix::thread::set_capabilities_secure_bits(bits).doing("keep capabilities")?;
    become_ids(id, id)?;
    // SAFETY: this child has one thread, and its table of descriptors is not unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }.doing("make a user namespace")
}

fn map_and_open(child: Pid, made: OwnedFd, slice: Slice) -> Result<OwnedFd, ForkError> {
    // One byte when it went well; a failure is short and comes at once.
    let mut said = [0u8; 512];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&made, &mut said)).map_err(fork_error)?;
    let said = if said[0] == b'f' {
        let mut all = said[..length].to_vec();
        let _ = File::from(made).read_to_end(&mut all);
        all
    } else {
        said[..length].to_vec()
    };
    verdict(&said)?;
    let line = format!("0 {} {SLICE}", slice.base());
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{child}/{file}"), &line)
            .map_err(|source| ForkError::Map { line: line.clone(), source })?;
    }
    File::open(format!("/proc/{child}/ns/user")).map(OwnedFd::from).map_err(ForkError::Fork)
}

/// Enters `namespace` and becomes its root. For a child.
pub fn become_root_of(namespace: &OwnedFd) -> Result<(), Failed> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))
        .doing("enter a user namespace")?;
    become_ids(0, 0)
}

/// Becomes `uid` and `gid` with no supplementary group. For a child: other threads stay as they are.
pub fn become_ids(uid: u32, gid: u32) -> Result<(), Failed> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[]).doing("drop the supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing("change the group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing("change the user")
}

fn pipe() -> Result<(OwnedFd, OwnedFd), ForkError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(fork_error)
}

fn fork_error(errno: Errno) -> ForkError {
    ForkError::Fork(errno.into())
}

/// Runs `body` in a child that has left everything but `kept` behind; a child that could not ends, and
/// its parent hears nothing.
fn fork(kept: &[BorrowedFd<'_>], body: impl FnOnce()) -> Result<Pid, ForkError> {
    // SAFETY: the bodies above make system calls on memory that exists already: they neither
    // allocate nor take a lock that a thread of the parent might hold.
    match unsafe { nix::unistd::fork() }.map_err(|errno| ForkError::Fork(errno.into()))? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            if sandbox::leave_behind(kept).is_ok() {
                body();
            }
            // SAFETY: _exit(2) has no preconditions, and runs none of the parent's destructors.
            unsafe { libc::_exit(0) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_failure_comes_back_with_operation_object_and_cause() {
        let error = run(&[], |subject| {
            subject.set(b"some\nfile");
            Err(Errno::BUSY).doing("delete")
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "cannot delete 'some\\nfile'");
        assert_eq!(error.errno(), Some(libc::EBUSY));
        run(&[], |_| Ok(())).unwrap();
    }

    #[test]
    fn a_child_that_dies_is_noticed() {
        // SAFETY: _exit(2) has no preconditions.
        let error = run(&[], |_| unsafe { libc::_exit(0) }).unwrap_err();
        assert!(matches!(error, ForkError::Silent), "{error}");
    }

    #[test]
    fn root_of_a_namespace_is_the_slices_first_id_outside() {
        let slice = Slice::at(1_990_000_640).unwrap();
        let namespace = user_namespace(slice).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let top = File::open(dir.path()).unwrap();
        run(&[namespace.as_fd(), top.as_fd()], |_| {
            become_root_of(&namespace)?;
            rustix::fs::mkdirat(&top, c"made", 0o700.into()).doing("make a directory")
        })
        .unwrap();
        let made = fs::metadata(dir.path().join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (slice.base(), slice.base()));
    }

    #[test]
    fn a_child_has_what_it_is_given_and_no_session_of_ours() {
        let (read, write) = pipe().unwrap();
        let (more_read, _more_write) = pipe().unwrap();
        let mut said = Vec::new();
        std::thread::scope(|scope| {
            let child = scope.spawn(|| {
                run(&[write.as_fd(), more_read.as_fd()], |_| {
                    let itself = rustix::process::getpid().as_raw_nonzero().get();
                    rustix::io::write(&write, &itself.to_ne_bytes()).map(drop).doing("tell the number")?;
                    // Until the parent has looked, and kills it.
                    rustix::io::read(&more_read, &mut [0u8; 1]).map(drop).doing("wait")
                })
            });
            let mut pid = [0u8; 4];
            rustix::io::read(&read, &mut pid).unwrap();
            let pid = i32::from_ne_bytes(pid);
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            assert_eq!((fields[3], fields[4]), (&*pid.to_string(), "0"), "session and terminal");
            let open = |pid: &str| -> Vec<(String, String)> {
                let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
                let target = |e: &fs::DirEntry| fs::read_link(e.path()).unwrap().display().to_string();
                let mut all: Vec<_> =
                    entries.map(|e| (e.file_name().to_string_lossy().into_owned(), target(&e))).collect();
                all.sort();
                all
            };
            let mut numbers: Vec<_> = open(&pid.to_string()).into_iter().collect();
            numbers.retain(|(number, target)| {
                !(["0", "1", "2"].contains(&number.as_str()) && target == "/dev/null")
            });
            said = numbers;
            nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
            assert!(matches!(child.join().unwrap(), Err(ForkError::Silent)));
        });
        // The two, and the pipe of the report.
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said.iter().all(|(_, target)| target.starts_with("pipe:")), "{said:?}");
    }
}
