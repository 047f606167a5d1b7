//! File work as the storage slice: in a forked child that is uid 0 of a user namespace over that
//! slice, so it can touch the slice's files and nothing else of the host.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::thread::LinkNameSpaceType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clone::{self, CloneSpec, Exit};
use super::{Context, SysError, SysResult, error_text, interrupt, seqpacket, userns};

/// What a worker says.
#[derive(Serialize, serde::Deserialize)]
enum Word<T> {
    /// How far it is; for `run_with`.
    Progress(u64),
    Outcome(T),
}

/// Tells how far the work is.
pub type Tell<'a> = &'a mut dyn FnMut(u64);

/// Runs `body` in the storage slice behind `namespace` and hands back what it returns. The caller
/// has a single thread. A child that dies in between is an error.
pub fn run<T, E, F>(namespace: &OwnedFd, body: F) -> SysResult<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce(Tell<'_>) -> Result<T, E>,
{
    run_with(namespace, body, &mut Unwatched)
}

/// Follows long work.
pub trait Watch {
    /// How far the worker is; false ends it.
    fn progress(&mut self, done: u64) -> bool;
    /// Something else to wait for meanwhile.
    fn side(&self) -> Option<BorrowedFd<'_>>;
    /// That has become readable, or was closed.
    fn side_ready(&mut self);
}

struct Unwatched;

impl Watch for Unwatched {
    fn progress(&mut self, _: u64) -> bool {
        true
    }
    fn side(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn side_ready(&mut self) {}
}

/// Waits until the worker has said something, serving the watcher's side meanwhile. False when the
/// user has interrupted.
fn wait_for_word(worker: &OwnedFd, watch: &mut dyn Watch) -> SysResult<bool> {
    loop {
        let mut fds = vec![PollFd::new(worker, PollFlags::IN)];
        fds.extend(watch.side().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) if interrupt::pending() => return Ok(false),
            Err(rustix::io::Errno::INTR) => continue,
            other => other.cannot(|| "wait for the file worker")?,
        };
        let (said, side) =
            (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|f| !f.revents().is_empty()));
        if side {
            watch.side_ready();
        }
        if said {
            return Ok(true);
        }
    }
}

/// The same for long work, which `watch` follows and may end.
pub fn run_with<T, E, F>(namespace: &OwnedFd, body: F, watch: &mut dyn Watch) -> SysResult<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce(Tell<'_>) -> Result<T, E>,
{
    let (ours, theirs) = seqpacket::pair()?;
    let child = clone::fork(&CloneSpec::default(), || {
        let entered = enter(namespace).and_then(|()| die_with_parent()).map_err(|e| error_text(&e));
        let mut tell = |done: u64| {
            let _ = seqpacket::send(&theirs, &Word::<()>::Progress(done), &[]);
        };
        let outcome: Result<Result<T, E>, String> = entered.map(|()| body(&mut tell));
        i32::from(seqpacket::send(&theirs, &Word::Outcome(outcome), &[]).is_err())
    })?;
    drop(theirs);
    let interrupted = || SysError::new("go on with the file work", std::io::ErrorKind::Interrupted);
    loop {
        match wait_for_word(&ours, watch) {
            Ok(true) => {}
            Ok(false) => {
                child.kill();
                return Err(interrupted());
            }
            Err(e) => {
                child.kill();
                return Err(e);
            }
        }
        match seqpacket::recv::<Word<Result<Result<T, E>, String>>>(&ours)? {
            Some((Word::Progress(done), _)) => {
                if !watch.progress(done) {
                    child.kill();
                    return Err(interrupted());
                }
            }
            Some((Word::Outcome(outcome), _)) => {
                child.wait()?;
                return outcome
                    .map_err(|e| SysError::new("become the storage slice", std::io::Error::other(e)));
            }
            None => return Err(died(child.wait()?)),
        }
    }
}

/// A killed command's worker must not write on. To be called last: a change of ids undoes it.
pub fn die_with_parent() -> SysResult<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .cannot(|| "tie the worker to its command")
}

fn died(exit: Exit) -> SysError {
    let how = match exit {
        Exit::Code(code) => format!("it ended with code {code}"),
        Exit::Signal(signal) => format!("it was killed by signal {signal}"),
    };
    SysError::new("finish the file work", std::io::Error::other(how))
}

/// Makes this process uid 0 of the storage slice, with every capability there and none elsewhere.
pub fn enter(namespace: &OwnedFd) -> SysResult<()> {
    userns::enter(namespace, LinkNameSpaceType::User, "storage slice's user")?;
    userns::become_root_inside()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}
