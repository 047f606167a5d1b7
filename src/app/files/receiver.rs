//! The caller's side of a pull: a process that writes what a guest sends. It never has root's rights: where root pulls,
//! it is the owner of the containers, and to it root's directory is a mount of its own, which maps that owner to the
//! directory's. It holds the directory and the stream, and cannot leave either.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::Signal;

use super::agent::told_by;
use crate::app::error::AppError;
use crate::model::file_job::{Counts, Failed, FailedKind};
use crate::model::waits;
use crate::sys::fs::mount::{self, NODEV, NOSUID};
use crate::sys::fs::transfer::{Base, Owners, Rules, Trouble, unpack, unpack_to};
use crate::sys::process::fork::Fork;
use crate::sys::process::report::Running;
use crate::sys::process::rlimit::Ceilings;
use crate::sys::process::userns::{self, Creator};
use crate::sys::process::{interrupt, sandbox, seccomp};
use crate::sys::{Context, SysResult};

/// Where what is pulled goes to.
pub enum Sink {
    /// Into this directory, under the name that it has in the guest or under another.
    Directory { dir: OwnedFd, name: Option<Vec<u8>> },
    /// The content of one file.
    Stream(OwnedFd),
}

/// The process that writes it.
pub struct Receiver {
    running: Running<Result<Counts, Failed>>,
}

/// The directory as user `uid` and group `gid` may write to it: what they write in it belongs to the directory's own
/// owner and group. For root, before root is given up.
///
/// # Errors
/// Where its file system cannot map ids.
pub fn mapped(dir: &OwnedFd, uid: u32, gid: u32) -> SysResult<OwnedFd> {
    let stat = rustix::fs::fstat(dir).cannot(|| "look at the directory")?;
    let helper = userns::start(Creator::Caller, false, Ceilings::NONE)?;
    let map =
        helper.map_lines(&format!("{} {uid} 1\n", stat.st_uid), &format!("{} {gid} 1\n", stat.st_gid))?;
    mount::idmapped(dir.as_fd(), &map, NODEV | NOSUID)
}

/// Begins to write what comes, as frames, into the pipe that is returned. Where root begins it, the process becomes
/// `user`, a uid and gid.
pub fn begin(sink: Sink, umask: u32, user: Option<(u32, u32)>) -> SysResult<(Receiver, OwnedFd)> {
    let (input, stream) = std::io::pipe().cannot(|| "make a pipe")?;
    let input = OwnedFd::from(input);
    let filter = seccomp::copier_filter()?;
    let place = match &sink {
        Sink::Directory { dir, .. } => dir,
        Sink::Stream(output) => output,
    };
    let mut fork = Fork::new("write what is pulled")
        // What ends the command's whole process group lets it tidy up.
        .without_terminal()
        .keep([place])
        .keep([&input])
        // It tidies up first.
        .death_signal(Signal::TERM);
    if user.is_none() {
        fork = fork.filter(&filter);
    }
    let running = fork.begin(|_| {
        interrupt::arm();
        let confined = user.map_or(Ok(()), |user| confine(&sink, user, &filter));
        let opened = confined.and_then(|()| input.try_clone().cannot(|| "keep a descriptor"));
        opened
            .map_err(Trouble::from)
            .and_then(|input| write(input, &sink, umask))
            .map_err(|trouble| trouble.told())
    })?;
    Ok((Receiver { running }, stream.into()))
}

/// Leaves root's rights and root's tree for good.
fn confine(sink: &Sink, (uid, gid): (u32, u32), filter: &[u8]) -> SysResult<()> {
    if let Sink::Directory { dir, .. } = sink {
        rustix::process::fchdir(dir)
            .and_then(|()| rustix::process::chroot(c"."))
            .cannot(|| "enter the directory")?;
    }
    userns::become_user(uid, gid)?;
    // A change of ids undoes it.
    sandbox::die_with(None, Signal::TERM)?;
    sandbox::shut_in(filter)?;
    Ok(())
}

fn write(input: OwnedFd, sink: &Sink, umask: u32) -> Result<Counts, Trouble> {
    match sink {
        Sink::Stream(output) => unpack_to(input, output, &mut |_| {}),
        Sink::Directory { dir, name } => {
            let dir = dir.try_clone().cannot(|| "keep a descriptor")?;
            let base = Base { dir, name: name.clone() };
            // Nothing from a guest is set-user-id here.
            let rules = Rules { owners: Owners::Mine, mode: None, mask: 0o777 & !umask, keep: false };
            unpack(input, &base, rules, &mut |_| {})
        }
    }
}

impl Receiver {
    /// The end of a pull: what the guest's side says, unless this side is the reason of a failure. Also returns what was
    /// written. The caller has closed the stream.
    pub fn conclude<T, E: From<AppError>>(self, pulled: Result<T, E>) -> Result<(T, Counts), E> {
        if interrupt::pending() {
            self.running.end(waits::FILES_TIDIED);
            return Err(pulled.err().unwrap_or_else(|| AppError::Interrupted.into()));
        }
        match (pulled, self.running.finish().map_err(AppError::from)) {
            (Err(error), Ok(Err(failed))) if failed.kind == FailedKind::Cut => Err(error),
            (_, Ok(Err(failed))) => Err(told_by(&failed).into()),
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(error.into()),
            (Ok(pulled), Ok(Ok(written))) => Ok((pulled, written)),
        }
    }
}
