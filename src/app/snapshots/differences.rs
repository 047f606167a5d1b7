//! `diff --tar`: what differs, as an archive that says what was deleted in the way of OCI's layers.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use tar::EntryType;

use super::diff::{self, Compared};
use crate::app::Progress;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::storage::worker;
use crate::model::snapshot::{SnapshotName, Source};
use crate::sys::fs::copy::{self, Found, Visit, Xattr};
use crate::sys::process::interrupt;
use crate::sys::process::report::{Tell, Watch};
use crate::sys::{Context, SysError, SysResult};
use crate::template::archive::writer::{Entry, Writer};

/// In front of the name of what was deleted.
const WHITEOUT: &[u8] = b".wh.";
/// Read and written at once.
const CHUNK: usize = 256 << 10;
/// How many entries that were left out are named.
const MOST_NAMED: usize = 8;
/// How many bytes of names of files with several names are remembered: of further ones each is a file of its own.
const MOST_OF_LINKS: usize = 64 << 20;
/// What one such name takes besides its length.
const OF_LINK: usize = 64;

/// What was written.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Written {
    pub entries: u64,
    /// Of the files' content.
    pub bytes: u64,
    /// Entries that such an archive cannot have, or that changed while they were read.
    pub left_out: u64,
    /// The first of them, with the reason.
    pub named: Vec<String>,
}

/// Writes to `to`, which is not passed to whoever reads the guest's files.
pub fn write(
    app: &mut App,
    source: &Source,
    from: Option<&SnapshotName>,
    to: &mut dyn Write,
    progress: &dyn Progress,
) -> AppResult<Written> {
    let (Compared { above, below, pool }, _lock) = diff::compared(app, source, from)?;
    interrupt::arm();
    let (reader, feed) = io::pipe().cannot(|| "make a pipe")?;
    let feed = OwnedFd::from(feed);
    let mut relay = Relay { reader: Some(reader.into()), to, progress, error: None };
    let kept: Vec<_> = [feed.as_fd()].into_iter().chain(above.dirs()).chain(below.dirs()).collect();
    let done = worker::copying_from(app, &pool, &kept, &mut relay, |_, tell| {
        archive(&above.open()?, &below.open()?, &feed, tell)
    });
    drop(feed);
    while relay.reader.is_some() {
        relay.pass();
    }
    match relay.error.take() {
        Some(error) => Err(SysError::new("write the archive", error).into()),
        None => done,
    }
}

/// From the worker's pipe to where the archive goes.
struct Relay<'a> {
    /// None at its end, and after an error.
    reader: Option<OwnedFd>,
    to: &'a mut dyn Write,
    progress: &'a dyn Progress,
    error: Option<io::Error>,
}

impl Relay<'_> {
    fn pass(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let mut buffer = vec![0; CHUNK];
        let passed = rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut buffer[..]));
        let passed = passed.map_err(io::Error::from).and_then(|count| {
            write_all(self.to, &buffer[..count])?;
            Ok(count)
        });
        match passed {
            Ok(0) => self.error = self.to.flush().err(),
            Ok(_) => self.reader = Some(reader),
            // The worker ends then: nobody reads what it writes.
            Err(error) => self.error = Some(error),
        }
    }
}

/// Unlike `Write::write_all`, it gives up where the user does: a reader may never read.
fn write_all(to: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted && !interrupt::pending() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

impl Watch for Relay<'_> {
    fn progress(&mut self, done: u64) -> bool {
        self.progress.bytes(done, None);
        !interrupt::pending()
    }

    fn side(&self) -> Option<BorrowedFd<'_>> {
        self.reader.as_ref().map(AsFd::as_fd)
    }

    fn side_ready(&mut self) {
        self.pass();
    }
}

/// The worker's part: as root of the storage ids, to which owners are what the guest sees.
fn archive(above: &[OwnedFd], below: &[OwnedFd], to: &OwnedFd, tell: Tell<'_>) -> SysResult<Written> {
    let pipe = std::fs::File::from(to.try_clone().cannot(|| "keep the pipe")?);
    let writer = Writer::new(BufWriter::with_capacity(CHUNK, pipe));
    let mut archive = Archive {
        writer,
        tell,
        written: Written::default(),
        links: HashMap::new(),
        link_bytes: 0,
        parents: Vec::new(),
        failed: None,
    };
    let walked = copy::visit(above, below, &mut archive);
    if let Some(error) = archive.failed {
        return Err(SysError::new("write the archive", error));
    }
    walked?;
    archive.writer.finish().cannot(|| "write the archive")?;
    Ok(archive.written)
}

struct Archive<'a, W: Write> {
    writer: Writer<W>,
    tell: Tell<'a>,
    written: Written,
    /// The first name of files with several names, by device and number.
    links: HashMap<(u64, u64), Vec<u8>>,
    link_bytes: usize,
    /// Directories that are as they were, from the root on: written when something below them is.
    parents: Vec<(Vec<u8>, Stat, Vec<Xattr>)>,
    /// Why nothing more can be written.
    failed: Option<io::Error>,
}

impl<W: Write> Visit for Archive<'_, W> {
    fn visit(&mut self, path: &[u8], found: Found<'_>) -> rustix::io::Result<()> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let is_above = |parent: &[u8]| path.strip_prefix(parent).is_some_and(|rest| rest.starts_with(b"/"));
        self.parents.retain(|(parent, ..)| is_above(parent));
        match self.put(path, found) {
            Ok(()) => Ok(()),
            Err(Problem::Entry(why)) => {
                self.leave_out(path, &why);
                Ok(())
            }
            Err(Problem::Archive(error)) => {
                self.failed = Some(error);
                Err(Errno::PIPE)
            }
        }
    }

    fn is_full(&self) -> bool {
        self.failed.is_some()
    }
}

/// Why an entry is not written.
enum Problem {
    /// It alone.
    Entry(String),
    /// Nor anything else.
    Archive(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Archive(error)
    }
}

impl From<Errno> for Problem {
    fn from(errno: Errno) -> Self {
        Self::Entry(match errno {
            Errno::NOENT | Errno::STALE | Errno::LOOP | Errno::NOTDIR => {
                "it was changed while it was read".to_owned()
            }
            Errno::TOOBIG => "its extended attributes are too long".to_owned(),
            other => io::Error::from(other).to_string(),
        })
    }
}

impl<W: Write> Archive<'_, W> {
    fn put(&mut self, path: &[u8], found: Found<'_>) -> Result<(), Problem> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => path.split_at(at + 1),
            None => (&b""[..], path),
        };
        if name.starts_with(WHITEOUT) {
            let why = "names that begin with '.wh.' say in such an archive what was deleted";
            return Err(Problem::Entry(why.to_owned()));
        }
        match found {
            Found::TooDeep => Err(Problem::Entry("too many directories lie in one another".to_owned())),
            Found::Gone => {
                self.put_parents()?;
                let path = [parent, WHITEOUT, name].concat();
                self.written.entries += 1;
                Ok(self.writer.entry(&Entry {
                    path: &path,
                    kind: EntryType::Regular,
                    mode: 0,
                    uid: 0,
                    gid: 0,
                    mtime: (0, 0),
                    link: b"",
                    device: (0, 0),
                    xattrs: &[],
                })?)
            }
            Found::Passed { dir, name, stat } => {
                let xattrs = own_xattrs(&copy::open_dir(dir, name)?)?;
                self.parents.push((path.to_owned(), *stat, xattrs));
                Ok(())
            }
            Found::Is { dir, name, stat, .. } => self.put_entry(path, dir, name, stat),
        }
    }

    /// Those above the entry that is written next.
    fn put_parents(&mut self) -> Result<(), Problem> {
        for (path, stat, xattrs) in std::mem::take(&mut self.parents) {
            self.written.entries += 1;
            self.writer.entry(&described(&path, EntryType::Directory, &stat, &xattrs))?;
        }
        Ok(())
    }

    fn put_entry(&mut self, path: &[u8], dir: &OwnedFd, name: &CStr, stat: &Stat) -> Result<(), Problem> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryType::Regular,
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            _ => return Err(Problem::Entry("an archive has no sockets".to_owned())),
        };
        let inode = (stat.st_dev, stat.st_ino);
        let has_names = kind != EntryType::Directory && stat.st_nlink > 1;
        if let Some(first) = self.links.get(&inode).filter(|_| has_names).cloned() {
            self.put_parents()?;
            self.written.entries += 1;
            let entry = Entry { link: &first, ..described(path, EntryType::Link, stat, &[]) };
            return Ok(self.writer.entry(&entry)?);
        }
        match kind {
            EntryType::Regular => self.put_file(path, dir, name, stat)?,
            EntryType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                self.put_parents()?;
                let entry = Entry { link: target.to_bytes(), ..described(path, kind, stat, &[]) };
                self.writer.entry(&entry)?;
            }
            EntryType::Directory => {
                let xattrs = own_xattrs(&copy::open_dir(dir, name)?)?;
                self.put_parents()?;
                self.writer.entry(&described(path, kind, stat, &xattrs))?;
            }
            _ => {
                self.put_parents()?;
                let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                self.writer.entry(&Entry { device, ..described(path, kind, stat, &[]) })?;
            }
        }
        self.written.entries += 1;
        let length = path.len() + OF_LINK;
        if has_names && self.link_bytes + length <= MOST_OF_LINKS {
            self.link_bytes += length;
            self.links.insert(inode, path.to_owned());
        }
        Ok(())
    }

    fn put_file(&mut self, path: &[u8], dir: &OwnedFd, name: &CStr, stat: &Stat) -> Result<(), Problem> {
        let file = copy::open_regular(dir, name, stat)?;
        let xattrs = own_xattrs(&file)?;
        let size = stat.st_size.max(0) as u64;
        let extents = copy::extents(&file, size)?;
        let is_whole = matches!(extents[..], [(0, length)] if length == size) || size == 0;
        self.put_parents()?;
        let entry = described(path, EntryType::Regular, stat, &xattrs);
        self.writer.file(&entry, size, (!is_whole).then_some(&extents[..]))?;
        let mut file = std::fs::File::from(file);
        let mut stored = 0;
        let mut buffer = vec![0; CHUNK];
        for (start, length) in extents {
            io::Seek::seek(&mut file, io::SeekFrom::Start(start))?;
            let mut left = length;
            while left > 0 {
                let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let count = match file.read(&mut buffer[..part])? {
                    // It has become shorter since. What the header has promised must come all the same.
                    0 => {
                        buffer[..part].fill(0);
                        part
                    }
                    count => count,
                };
                self.writer.content(&buffer[..count])?;
                left -= count as u64;
            }
            stored += length;
        }
        self.writer.pad(stored)?;
        self.written.bytes += stored;
        (self.tell)(self.written.bytes);
        Ok(())
    }

    fn leave_out(&mut self, path: &[u8], why: &str) {
        self.written.left_out += 1;
        if self.written.named.len() < MOST_NAMED {
            let end = &path[path.len().saturating_sub(200)..];
            self.written.named.push(format!("/{}: {why}", String::from_utf8_lossy(end)));
        }
    }
}

/// Without what overlayfs notes for itself.
fn own_xattrs(file: &OwnedFd) -> Result<Vec<Xattr>, Errno> {
    let mut all = copy::xattrs_of(file)?;
    all.retain(|(name, _)| !name.starts_with(b"user.overlay."));
    Ok(all)
}

fn described<'a>(path: &'a [u8], kind: EntryType, stat: &Stat, xattrs: &'a [Xattr]) -> Entry<'a> {
    Entry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, stat.st_mtime_nsec),
        link: b"",
        device: (0, 0),
        xattrs,
    }
}
