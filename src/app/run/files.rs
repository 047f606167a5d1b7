//! Requests about files of containers.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use super::door::{Listener, Told};
use super::passed::{Passed, PerformWith};
use crate::api::files::{Delete, File, How, List, Pull, Push, Read, Transferred, Write};
use crate::app::error::{AppError, AppResult};
use crate::app::files::receiver::{self, Sink};
use crate::app::files::sender::{self, Source};
use crate::app::files::{self, Work};
use crate::app::{Lazy, Progress};
use crate::model::byte_string::ByteString;
use crate::model::file_job::{self, Counts, FileEntry, FileJob, FileReport};
use crate::model::name::Name;
use crate::model::text;
use crate::model::time::Timestamp;
use crate::sys::Context;
use crate::sys::fs::transfer::Meta;

/// Entries of a directory that are listed at most.
const MOST_LISTED: usize = 100_000;
/// What takes longer is shown how far it is.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// Tells how many bytes are done, once that takes time.
struct Shown<'a> {
    told: Told<'a>,
    what: String,
    total: Option<u64>,
    begun: Instant,
    is_told: bool,
}

impl<'a> Shown<'a> {
    fn new(listener: &'a mut dyn Listener, what: String, total: Option<u64>) -> Self {
        Self { told: Told::to(listener), what, total, begun: Instant::now(), is_told: false }
    }

    fn hear(&mut self, report: &FileReport) {
        let FileReport::Progress(done) = report else { return };
        if !self.is_told && self.begun.elapsed() < SHOWN_AFTER {
            return;
        }
        if !std::mem::replace(&mut self.is_told, true) {
            self.told.stage(&self.what, None);
        }
        self.told.bytes(*done, self.total);
    }
}

fn of(path: &ByteString) -> String {
    text::line(&path.to_string())
}

/// A pipe, which may go on to where a guest has a hand in it.
fn pipe(passed: &Passed<'_>, number: i32) -> AppResult<OwnedFd> {
    let fd = passed.get(number)?;
    match rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo) {
        true => copy(fd),
        false => Err(AppError::Refused(format!("descriptor {number} is not a pipe"))),
    }
}

fn copy(fd: BorrowedFd<'_>) -> AppResult<OwnedFd> {
    Ok(fd.try_clone_to_owned().cannot(|| "keep a descriptor open")?)
}

fn push_job(path: ByteString, how: &How, into: bool) -> FileJob {
    FileJob::Push(file_job::Push {
        path,
        into,
        parents: how.parents,
        uid: how.uid,
        gid: how.gid,
        mode: how.mode,
        keep: how.keep,
    })
}

impl PerformWith for Push {
    type Answer = Transferred;

    fn perform(self, lazy: Lazy, passed: &Passed<'_>, listener: &mut dyn Listener) -> AppResult<Transferred> {
        let mut shown =
            Shown::new(listener, format!("writing {} in {}", of(&self.path), self.name), self.bytes);
        let input = Some(pipe(passed, self.stream)?);
        let work = Work { job: push_job(self.path, &self.how, self.into), input, output: None };
        Ok(files::work(lazy, &self.name, work, &mut |report| shown.hear(&report))?.into())
    }
}

impl PerformWith for Write {
    type Answer = Transferred;

    fn perform(self, lazy: Lazy, passed: &Passed<'_>, listener: &mut dyn Listener) -> AppResult<Transferred> {
        let meta = Meta { mode: 0o644, uid: 0, gid: 0 };
        let fd = copy(passed.get(self.input)?)?;
        let (sender, stream) =
            sender::begin(vec![Source { fd, name: b"file".to_vec(), stream: Some(meta) }])?;
        let mut shown =
            Shown::new(listener, format!("writing {} in {}", of(&self.path), self.name), self.bytes);
        let job = push_job(self.path, &self.how, false);
        let work = Work { job, input: Some(stream), output: None };
        let written = files::work(lazy, &self.name, work, &mut |report| shown.hear(&report));
        Ok(Transferred { skipped: 0, ..sender.conclude(written)?.0.into() })
    }
}

impl PerformWith for Pull {
    type Answer = Transferred;

    fn perform(self, lazy: Lazy, passed: &Passed<'_>, listener: &mut dyn Listener) -> AppResult<Transferred> {
        let output = pipe(passed, self.stream)?;
        let Self { name, path, recursive, .. } = self;
        Ok(pull(lazy, &name, path, recursive, output, listener)?.into())
    }
}

impl PerformWith for Read {
    type Answer = Transferred;

    fn perform(self, lazy: Lazy, passed: &Passed<'_>, listener: &mut dyn Listener) -> AppResult<Transferred> {
        let sink = Sink::Stream(copy(passed.get(self.output)?)?);
        let (receiver, stream) = receiver::begin(sink, 0, None)?;
        let pulled = pull(lazy, &self.name, self.path, false, stream, listener);
        Ok(receiver.conclude(pulled)?.1.into())
    }
}

fn pull(
    lazy: Lazy,
    name: &Name,
    path: ByteString,
    recursive: bool,
    output: OwnedFd,
    listener: &mut dyn Listener,
) -> AppResult<Counts> {
    let mut shown = Shown::new(listener, format!("reading {} in {name}", of(&path)), None);
    let root_name = name.as_str().into();
    let job = FileJob::Pull(file_job::Pull { path, recursive, root_name });
    let work = Work { job, input: None, output: Some(output) };
    files::work(lazy, name, work, &mut |report| shown.hear(&report))
}

impl PerformWith for List {
    type Answer = Vec<File>;

    fn perform(self, lazy: Lazy, _: &Passed<'_>, _: &mut dyn Listener) -> AppResult<Vec<File>> {
        let (mut found, mut more) = (Vec::new(), false);
        let job = FileJob::List(file_job::List { path: self.path });
        let work = Work { job, input: None, output: None };
        files::work(lazy, &self.name, work, &mut |report| match report {
            FileReport::Entry(_) if found.len() == MOST_LISTED => more = true,
            FileReport::Entry(entry) => found.push(File::from(entry)),
            _ => {}
        })?;
        if more {
            let what = format!("there are more than {MOST_LISTED} files in that directory");
            return Err(AppError::advised(
                what,
                format!("list them in the guest: nagaya exec {} -- ls -f DIR", self.name),
            ));
        }
        found.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(found)
    }
}

impl PerformWith for Delete {
    type Answer = bool;

    fn perform(self, lazy: Lazy, _: &Passed<'_>, _: &mut dyn Listener) -> AppResult<bool> {
        let Self { name, path, recursive, if_exists } = self;
        let job = FileJob::Delete(file_job::Delete { path, recursive, if_exists });
        let work = Work { job, input: None, output: None };
        Ok(files::work(lazy, &name, work, &mut |_| {})?.entries > 0)
    }
}

impl From<Counts> for Transferred {
    fn from(counts: Counts) -> Self {
        Self { entries: counts.entries, bytes: counts.bytes, skipped: counts.skipped }
    }
}

impl From<FileEntry> for File {
    fn from(entry: FileEntry) -> Self {
        Self {
            name: entry.name,
            kind: entry.kind,
            mode: format!("{:04o}", entry.mode & 0o7777),
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            modified_at: Timestamp(entry.modified),
            target: entry.target,
        }
    }
}
