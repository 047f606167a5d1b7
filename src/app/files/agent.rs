//! The process that works in a guest's tree, seen from the side of whoever asks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::stopped;
use crate::api::programs::Ended;
use crate::app::Lazy;
use crate::app::containers::exec::{self, Session};
use crate::app::containers::{monitor, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::lock;
use crate::model::container::{Container, State};
use crate::model::file_job::{Counts, Failed, FailedKind, FileJob, FileReport};
use crate::model::name::Name;
use crate::model::waits;
use crate::sys::fs::lock::Lock;
use crate::sys::process::child::Child;
use crate::sys::process::interrupt;
use crate::sys::{Context, SysError, timespec};

/// Longest line that is heard. The guest may have a hand in it.
const LONGEST_LINE: usize = 64 << 10;

/// What is to be done, and the pipes for it.
pub struct Work {
    pub job: FileJob,
    /// What is pushed, as frames.
    pub input: Option<OwnedFd>,
    /// What is pulled, as frames.
    pub output: Option<OwnedFd>,
}

/// Has `work` done in container `name`, whether it runs or not. `hear` is told how that goes, but for its end.
pub fn work(mut lazy: Lazy, name: &Name, work: Work, hear: &mut dyn FnMut(FileReport)) -> AppResult<Counts> {
    interrupt::arm();
    let Work { job, input, output } = work;
    let (told, report) = std::io::pipe().cannot(|| "make a pipe")?;
    // Ends at once, takes nothing: in place of what the job has no use for.
    let (nothing, nobody) = std::io::pipe().cannot(|| "make a pipe")?;
    let input = input.unwrap_or_else(|| nothing.into());
    let output = output.unwrap_or_else(|| nobody.into());
    let pipes = [input.as_fd(), output.as_fd(), report.as_fd()];
    let mut agent = Agent::begin(&mut lazy, name, &job, pipes)?;
    // Our copies would keep the streams open.
    drop((input, output, report));
    let heard = hear_out(told, hear);
    match heard {
        Ok(Some(FileReport::Done(counts))) => {
            agent.finish()?;
            Ok(counts)
        }
        Ok(Some(FileReport::Failed(failed))) => {
            let _ = agent.finish();
            Err(told_by(&failed))
        }
        Ok(_) => Err(agent.why_not(name)),
        Err(error) => {
            agent.give_up();
            Err(error)
        }
    }
}

enum Agent {
    /// A child of the container's monitor.
    Running(Box<Session>),
    /// A file worker, which has the container's lock.
    Stopped { child: Child, _lock: Lock },
}

impl Agent {
    fn begin(lazy: &mut Lazy, name: &Name, job: &FileJob, pipes: [BorrowedFd<'_>; 3]) -> AppResult<Self> {
        let app = lazy.app()?;
        app.expect_storage();
        let container = app.find(name)?;
        if is_running(state::of(app, &container), name)? {
            return Self::running(lazy, &container, job, pipes);
        }
        let (container, lock) = lock::found(app, name)?;
        // Somebody may have been quicker.
        if is_running(state::of(app, &container), name)? {
            drop(lock);
            return Self::running(lazy, &container, job, pipes);
        }
        let child = begin_stopped(lazy, &container, &lock, job, pipes)?;
        Ok(Self::Stopped { child, _lock: lock })
    }

    fn running(
        lazy: &mut Lazy,
        container: &Container,
        job: &FileJob,
        pipes: [BorrowedFd<'_>; 3],
    ) -> AppResult<Self> {
        exec::work_on_files(lazy, container, job.clone(), pipes)
            .map(|session| Self::Running(Box::new(session)))
    }

    /// Waits for its end.
    fn finish(&mut self) -> AppResult<()> {
        match self {
            Self::Running(session) => session.wait().map(drop),
            Self::Stopped { child, .. } => Ok(child.wait().map(drop)?),
        }
    }

    /// Nobody reads and writes the streams any more: it tidies up and ends.
    fn give_up(&mut self) {
        let Self::Stopped { child, .. } = self else { return };
        if !child.end(waits::FILES_TIDIED) {
            child.kill();
        }
    }

    /// Why it has ended without a word.
    fn why_not(&mut self, name: &Name) -> AppError {
        let died = |how: String| {
            let what = "do the file work".to_owned();
            AppError::Sys(SysError::new(what, std::io::Error::other(format!("its process has died: {how}"))))
        };
        match self {
            Self::Stopped { child, .. } => {
                child.wait().map_or_else(AppError::from, |exit| died(exit.to_string()))
            }
            Self::Running(session) => match session.wait() {
                Ok(Ended::NotStarted { reason, .. }) => AppError::Monitor { name: name.clone(), reason },
                Ok(Ended::Exited(code)) => died(format!("it ended with code {code}")),
                Ok(Ended::Runs) => died("it is out of step".to_owned()),
                Err(error) if monitor::is_unknown(&error) => AppError::advised(
                    format!(
                        "container '{name}' was started by an older nagaya, which cannot work on its files while \
                         it runs"
                    ),
                    format!("stop it for that, or restart it first: nagaya restart {name}"),
                ),
                Err(error) => error,
            },
        }
    }
}

fn is_running(state: State, name: &Name) -> AppResult<bool> {
    match state {
        State::Running => Ok(true),
        State::Stopped => Ok(false),
        State::Frozen => Err(AppError::Frozen(name.clone())),
        State::Unknown => Err(AppError::Unknown(name.clone())),
        State::Busy => Err(AppError::Busy { name: name.clone(), holder: None }),
    }
}

fn begin_stopped(
    lazy: &mut Lazy,
    container: &Container,
    lock: &Lock,
    job: &FileJob,
    pipes: [BorrowedFd<'_>; 3],
) -> AppResult<Child> {
    stopped::begin(lazy.app()?, container, lock, job, pipes)
}

/// Reads what is told, until that ends. Returns the last word, if there was one.
fn hear_out(told: std::io::PipeReader, hear: &mut dyn FnMut(FileReport)) -> AppResult<Option<FileReport>> {
    let what = || "hear of the file work";
    let riddle = || SysError::new(what(), std::io::Error::other("its process speaks in riddles"));
    let mut last = None;
    let (mut rest, mut part) = (Vec::new(), [0u8; 16 << 10]);
    loop {
        let mut polled = [PollFd::new(&told, PollFlags::IN)];
        let timeout = timespec(waits::FILES_INTERRUPTED_POLL);
        let ready = match rustix::event::poll(&mut polled, Some(&timeout)) {
            Err(Errno::INTR) => 0,
            other => other.cannot(what)?,
        };
        // Looked at after each wait: a signal may come just before one begins.
        if interrupt::pending() {
            return Err(AppError::Interrupted);
        }
        if ready == 0 {
            continue;
        }
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut part)).cannot(what)?;
        if count == 0 {
            return Ok(last);
        }
        rest.extend_from_slice(&part[..count]);
        let mut begin = 0;
        while let Some(length) = rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = &rest[begin..begin + length];
            match serde_json::from_slice(line).map_err(|_| riddle())? {
                end @ (FileReport::Done(_) | FileReport::Failed(_)) => last = Some(end),
                other => hear(other),
            }
            begin += length + 1;
        }
        rest.drain(..begin);
        if rest.len() > LONGEST_LINE {
            return Err(riddle().into());
        }
    }
}

/// An error that was told by the process that works in the tree.
pub(super) fn told_by(failed: &Failed) -> AppError {
    let hint = match failed.kind {
        FailedKind::IsDirectory => "the directory with all that is in it: add -r",
        FailedKind::NoParent => "have missing directories made: add -p",
        FailedKind::NoSuchId => "say whose it is to be in the guest: add --uid 0 --gid 0",
        FailedKind::Cut | FailedKind::NotFound | FailedKind::Other => {
            return match failed.errno {
                Some(errno) => AppError::Sys(SysError::from_worker(&failed.text, Some(errno))),
                None => AppError::Refused(failed.text.clone()),
            };
        }
    };
    AppError::advised(failed.text.clone(), hint)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn heard(said: &[u8]) -> AppResult<(Option<FileReport>, usize)> {
        let (told, mut report) = std::io::pipe().unwrap();
        report.write_all(said).unwrap();
        drop(report);
        let mut count = 0;
        hear_out(told, &mut |_| count += 1).map(|last| (last, count))
    }

    #[test]
    fn the_last_word_is_told_apart_from_what_comes_before() {
        let said = b"{\"progress\":1}\n{\"progress\":2}\n{\"done\":{\"entries\":1}}\n";
        let (last, count) = heard(said).unwrap();
        assert_eq!(count, 2);
        assert_eq!(last, Some(FileReport::Done(Counts { entries: 1, ..Counts::default() })));
        assert_eq!(heard(b"{\"progress\":1}\n").unwrap(), (None, 1));
        assert_eq!(heard(b"").unwrap(), (None, 0));
        assert!(heard(b"what?\n").is_err());
        assert!(heard(b"{\"later\":1}\n").is_err());
    }

    #[test]
    fn a_failure_says_what_to_type() {
        use crate::model::fault::Fault;
        let failed = |kind, errno| Failed { text: "cannot open 'x': No such file".to_owned(), errno, kind };
        let error = told_by(&failed(FailedKind::NoParent, Some(libc::ENOENT)));
        assert!(error.facts().hint.unwrap().contains("-p"));
        let error = told_by(&failed(FailedKind::Other, Some(libc::ENOENT)));
        assert_eq!(crate::sys::error_text(&error), "cannot open 'x': No such file or directory (os error 2)");
    }
}
