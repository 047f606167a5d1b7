//! The caller's side of a push: a process that reads what is to be pushed, with the caller's own rights, and hears
//! nothing of the guest.

use std::os::fd::{AsFd, OwnedFd};

use super::agent::told_by;
use crate::app::error::AppError;
use crate::model::file_job::{Counts, Failed, FailedKind};
use crate::sys::fs::transfer::{Meta, Packer, Trouble};
use crate::sys::process::fork::Fork;
use crate::sys::process::report::Running;
use crate::sys::process::{descriptors, interrupt, seccomp};
use crate::sys::{Context, SysResult};

/// What is to be pushed, and what it is called there.
pub struct Source {
    pub fd: OwnedFd,
    pub name: Vec<u8>,
    /// None of a file or directory, which has its own. Of a stream that of the file that it becomes.
    pub stream: Option<Meta>,
}

/// The process that reads it. Dropped, it ends.
pub struct Sender {
    running: Running<Result<Counts, Failed>>,
}

/// Begins to read `sources`. What is read comes, as frames, from the pipe that is returned.
pub fn begin(sources: Vec<Source>) -> SysResult<(Sender, OwnedFd)> {
    let (stream, output) = std::io::pipe().cannot(|| "make a pipe")?;
    let output = OwnedFd::from(output);
    let null = descriptors::null()?;
    let filter = seccomp::copier_filter()?;
    let mut fork = Fork::new("read what is to be pushed")
        .streams([Some(null.as_fd()); 3])
        .keep(sources.iter().map(|source| &source.fd))
        .keep([&output])
        .dies_with_parent()
        .filter(&filter);
    if rustix::process::geteuid().is_root() {
        fork = fork.with_file_rights_only();
    }
    let running = fork.begin(|_| {
        let (Ok(output), Some(sources)) = (output.try_clone(), copies(&sources)) else {
            return Err(Failed {
                text: "cannot keep a descriptor".to_owned(),
                errno: None,
                kind: FailedKind::Other,
            });
        };
        pack(sources, output).map_err(|trouble| trouble.told())
    })?;
    Ok((Sender { running }, stream.into()))
}

fn copies(sources: &[Source]) -> Option<Vec<Source>> {
    let copy = |source: &Source| {
        let fd = source.fd.try_clone().ok()?;
        Some(Source { fd, name: source.name.clone(), stream: source.stream })
    };
    sources.iter().map(copy).collect()
}

fn pack(sources: Vec<Source>, output: OwnedFd) -> Result<Counts, Trouble> {
    let mut nobody = |_| {};
    let mut packer = Packer::new(output, &mut nobody);
    for Source { fd, name, stream } in sources {
        let sent = match stream {
            Some(meta) => packer.stream(&fd, meta, &name),
            None => packer.opened(fd, &name),
        };
        if let Err(trouble) = sent {
            packer.give_up();
            return Err(trouble);
        }
    }
    packer.finish()
}

impl Sender {
    /// The end of a push: what the guest's side says, unless this side is the reason of a failure. Also returns what was
    /// read. The caller has closed the stream.
    pub fn conclude<T, E: From<AppError>>(self, pushed: Result<T, E>) -> Result<(T, Counts), E> {
        let pushed = match pushed {
            // There is nothing to tidy up here.
            Err(error) if interrupt::pending() => return Err(error),
            other => other,
        };
        let read = self.running.finish().map_err(AppError::from);
        match (pushed, read) {
            (Err(error), Ok(Err(failed))) if failed.kind == FailedKind::Cut => Err(error),
            (_, Ok(Err(failed))) => Err(told_by(&failed).into()),
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(error.into()),
            (Ok(pushed), Ok(Ok(read))) => Ok((pushed, read)),
        }
    }
}
