//! What the process does that works in a guest's tree. It holds that tree and three streams, and nothing else.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::frame::write_all;
use super::pack::Packer;
use super::target;
use super::trouble::{At, Outcome, Trouble, failed, shown};
use super::unpack::{Owners, Rules, unpack};
use crate::model::byte_string::ByteString;
use crate::model::file_job::{
    Counts, Delete, EntryKind, Failed, FailedKind, FileEntry, FileJob, FileReport, List, Pull, Push,
};
use crate::sys::SysError;
use crate::sys::fs::{erase, listing};
use crate::sys::process::failed::Subject;

/// How often it is told how far the work is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Does `job` in the tree below `root`: reads from `input`, writes to `output`, and tells in lines of JSON to `report`
/// how that goes. Returns the exit code.
pub fn serve(job: &FileJob, root: BorrowedFd<'_>, input: OwnedFd, output: OwnedFd, report: &OwnedFd) -> i32 {
    let mut last = Instant::now();
    let mut tell = |done: u64| {
        if last.elapsed() >= TELL_EVERY {
            last = Instant::now();
            say(report, &FileReport::Progress(done));
        }
    };
    let outcome = match job {
        FileJob::Push(job) => push(job, root, input, &mut tell),
        FileJob::Pull(job) => {
            drop(input);
            pull(job, root, output, &mut tell)
        }
        FileJob::List(job) => list(job, root, &mut |entry| say(report, &FileReport::Entry(entry))),
        FileJob::Delete(job) => delete(job, root),
    };
    let code = i32::from(outcome.is_err());
    say(report, &outcome.map_or_else(|trouble| FileReport::Failed(trouble.told()), FileReport::Done));
    code
}

/// Tells that the work cannot even begin.
pub fn refuse(report: &OwnedFd, text: &str, errno: Option<i32>) {
    let failed = Failed { text: text.to_owned(), errno, kind: FailedKind::Other };
    say(report, &FileReport::Failed(failed));
}

/// Where nobody listens any more, the work ends by itself.
fn say(report: &OwnedFd, what: &FileReport) {
    if let Ok(mut line) = serde_json::to_vec(what) {
        line.push(b'\n');
        let _ = write_all(report, &line);
    }
}

fn push(job: &Push, root: BorrowedFd<'_>, input: OwnedFd, tell: &mut dyn FnMut(u64)) -> Outcome<Counts> {
    let base = target::base(root, job)?;
    let rules = Rules {
        owners: Owners::Theirs { uid: job.uid, gid: job.gid },
        mode: job.mode.map(|mode| mode & 0o7777),
        mask: 0o7777,
        keep: job.keep,
    };
    unpack(input, &base, rules, tell)
}

fn pull(job: &Pull, root: BorrowedFd<'_>, output: OwnedFd, tell: &mut dyn FnMut(u64)) -> Outcome<Counts> {
    let mut packer = Packer::new(output, tell);
    match pull_one(job, root, &mut packer) {
        Ok(()) => packer.finish(),
        Err(trouble) => {
            packer.give_up();
            Err(trouble)
        }
    }
}

fn pull_one(job: &Pull, root: BorrowedFd<'_>, packer: &mut Packer<'_>) -> Outcome<()> {
    let path = job.path.as_bytes();
    // Looked at before it is opened: opening a device may do something.
    let found = find(root, path)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found).at("look at", path)?.st_mode);
    let what = || format!("pull '{}'", shown(path));
    match kind {
        FileType::RegularFile => {}
        FileType::Directory if job.recursive => {}
        FileType::Directory => {
            return Err(Trouble::because(FailedKind::IsDirectory, what(), "it is a directory"));
        }
        kind => {
            let why = format!("it is {}", crate::sys::fs::rooted::kind_name(kind));
            return Err(Trouble::because(FailedKind::Other, what(), why));
        }
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = target::open(root, path, flags).at("open", path)?;
    let (_, name) = target::split(path);
    let name = if matches!(name, b"" | b"." | b"..") { job.root_name.as_bytes() } else { name };
    packer.opened(opened, name)
}

fn find(root: BorrowedFd<'_>, path: &[u8]) -> Outcome<OwnedFd> {
    target::open(root, path, OFlags::PATH).map_err(|e| {
        let kind = if e == Errno::NOENT { FailedKind::NotFound } else { FailedKind::Other };
        Trouble::new(kind, format!("open '{}'", shown(path)), e)
    })
}

fn list(job: &List, root: BorrowedFd<'_>, tell: &mut dyn FnMut(FileEntry)) -> Outcome<Counts> {
    let path = job.path.as_bytes();
    let mut counts = Counts::default();
    match target::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK) {
        Ok(dir) => {
            for entry in listing::entries(&dir).at("list", path)? {
                let entry = entry.at("list", path)?;
                // What has gone meanwhile is not there.
                if let Some(entry) = look(&dir, entry.file_name().to_bytes())? {
                    counts.entries += 1;
                    tell(entry);
                }
            }
        }
        Err(Errno::NOTDIR | Errno::NOENT) => {
            let place = target::place(root, path)?;
            let entry = look(&place.dir, &place.name)?.ok_or_else(|| missing(path))?;
            counts.entries = 1;
            tell(entry);
        }
        Err(e) => return Err(failed("list", path, e)),
    }
    Ok(counts)
}

fn missing(path: &[u8]) -> Trouble {
    Trouble::new(FailedKind::NotFound, format!("find '{}'", shown(path)), Errno::NOENT)
}

fn look(dir: &OwnedFd, name: &[u8]) -> Outcome<Option<FileEntry>> {
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at("look at", name)?,
    };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Link,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharacterDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        _ => EntryKind::Unknown,
    };
    let target = (kind == EntryKind::Link)
        .then(|| rustix::fs::readlinkat(dir, name, Vec::new()).ok())
        .flatten()
        .map(|target| ByteString::from(target.into_bytes()));
    Ok(Some(FileEntry {
        name: ByteString::from(name.to_vec()),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: stat.st_mtime as i64,
        target,
    }))
}

fn delete(job: &Delete, root: BorrowedFd<'_>) -> Outcome<Counts> {
    let path = job.path.as_bytes();
    let done = Counts { entries: 1, ..Counts::default() };
    let nothing = |trouble: Trouble| match trouble.kind {
        FailedKind::NotFound | FailedKind::NoParent if job.if_exists => Ok(Counts::default()),
        _ => Err(trouble),
    };
    let place = match target::place(root, path) {
        Err(trouble) => return nothing(trouble),
        Ok(place) => place,
    };
    let (dir, name) = (&place.dir, &place.name[..]);
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return Ok(done),
        Err(Errno::NOENT) => return nothing(missing(path)),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(failed("delete", path, e)),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(done),
        Err(Errno::NOTEMPTY | Errno::EXIST) if job.recursive => {}
        Err(e @ (Errno::NOTEMPTY | Errno::EXIST)) => {
            return Err(Trouble::new(FailedKind::IsDirectory, format!("delete '{}'", shown(path)), e));
        }
        Err(e) => return Err(failed("delete", path, e)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tree = rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty()).at("open", path)?;
    let mut subject = Subject::empty();
    erase::empty_dir(std::os::fd::AsFd::as_fd(&tree), &mut subject)
        .map_err(|e| SysError::new(format!("{} of '{}'", e.what, shown(path)), e.errno))?;
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).at("delete", path)?;
    Ok(done)
}
