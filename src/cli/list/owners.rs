//! Everybody's containers, for root.

use std::io::Read;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Listed, filter::Filter};
use crate::app::{App, AppError, owner};
use crate::cli::report::{self, CliError, CliResult};
use crate::model::instance::Instance;
use crate::sys::clone::{self, Child, CloneSpec};
use crate::sys::{Context, error_text};

/// How long an owner's process may take, which its owner can hold up.
const PATIENCE: Duration = Duration::from_secs(10);
/// And how much it may say.
const MOST: usize = 16 << 20;

/// The containers that `filter` takes, by owner, and the worst exit code of those that failed. Each
/// owner is looked after by a process of its own, which becomes that owner.
pub fn all(filter: &Filter) -> CliResult<(Vec<Listed>, i32)> {
    if !rustix::process::geteuid().is_root() {
        return Err(AppError::NotRoot.into());
    }
    let mut found = Vec::new();
    let mut worst = report::DONE;
    let deadline = Instant::now() + PATIENCE;
    let asked: Vec<_> = owner::everybody(&crate::cli::base_instance()?)?
        .into_iter()
        .map(|owner| (owner.user().to_owned(), Asked::start(&owner)))
        .collect();
    for (owner, asked) in asked {
        match asked.and_then(|asked| asked.answer(deadline)) {
            Ok(Ok(rows)) => found.extend(rows.into_iter().map(|row| row.of(&owner))),
            // It has said why.
            Ok(Err(code)) => worst = worst.max(code),
            Err(error) => {
                report::note(&format!("{owner}: {}", error_text(&error)));
                worst = worst.max(error.code());
            }
        }
    }
    filter.check_named(&found)?;
    found.retain(|listed| filter.takes(listed));
    Ok((found, worst))
}

/// A process that lists one owner's containers.
struct Asked {
    process: Child,
    reader: std::io::PipeReader,
}

impl Asked {
    fn start(owner: &Instance) -> CliResult<Self> {
        let (reader, writer) = std::io::pipe().cannot(|| "make a pipe").map_err(CliError::Fork)?;
        let process = clone::fork(&CloneSpec::default(), || {
            let rows = App::open(owner.clone())
                .map_err(CliError::from)
                .and_then(|mut app| super::rows(&mut app, &Filter::default()));
            let said = rows.and_then(|rows| {
                serde_json::to_writer(&writer, &rows).map_err(|e| CliError::Output(e.into()))
            });
            said.map_or_else(|error| report::report(&error, None), |()| report::DONE)
        });
        Ok(Self { process: process.map_err(CliError::Fork)?, reader })
    }

    /// What it found, or its exit code.
    fn answer(mut self, deadline: Instant) -> CliResult<Result<Vec<Listed>, i32>> {
        let mut text = Vec::new();
        let mut part = [0u8; 16 << 10];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.reader, PollFlags::IN)];
            let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&timeout)));
            if !matches!(ready, Ok(1)) || text.len() > MOST {
                let _ =
                    rustix::process::pidfd_send_signal(&self.process.pidfd, rustix::process::Signal::KILL);
                return Err(AppError::Refused("its containers were not told in time".to_owned()).into());
            }
            match self.reader.read(&mut part).map_err(CliError::Relay)? {
                0 => break,
                count => text.extend_from_slice(&part[..count]),
            }
        }
        match self.process.wait().map_err(CliError::Fork)?.code() {
            report::DONE => Ok(Ok(serde_json::from_slice(&text).map_err(|e| CliError::Relay(e.into()))?)),
            code => Ok(Err(code)),
        }
    }
}
