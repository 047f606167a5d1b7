//! Writing what a stream holds. A file appears under its name when all of it is there, and so does a directory that is
//! new; what is given up leaves nothing behind.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::frame::{Frame, Meta, Reader, write_all};
use super::trouble::{At, Outcome, Trouble, failed, shown};
use crate::model::file_job::{Counts, FailedKind, HIGHEST_ID};
use crate::sys::fs::erase;
use crate::sys::fs::rooted::kind_name;
use crate::sys::kernel::random::random;
use crate::sys::process::failed::Subject;
use crate::sys::{Context, SysResult};

/// Directories within one another, each of which is open while it is written.
const DEEPEST: usize = 500;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// To whom belongs what is written.
#[derive(Debug, Clone, Copy)]
pub enum Owners {
    /// To this process's user.
    Mine,
    /// To whom the stream says, unless another is given here.
    Theirs { uid: Option<u32>, gid: Option<u32> },
}

/// How is written what the stream holds.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub owners: Owners,
    /// Of files, in place of what the stream says.
    pub mode: Option<u32>,
    /// The bits of modes that are kept.
    pub mask: u32,
    /// A file that is there keeps its owner and its mode.
    pub keep: bool,
}

/// Where it is written.
pub struct Base {
    pub dir: OwnedFd,
    /// In place of the name that the stream has; there may be one file only then.
    pub name: Option<Vec<u8>>,
}

/// Writes what comes from `input`. `tell` hears how many bytes are written.
pub fn unpack(input: OwnedFd, base: &Base, rules: Rules, tell: &mut dyn FnMut(u64)) -> Outcome<Counts> {
    let mut unpacker = Unpacker { input: Reader::new(input), rules, counts: Counts::default(), tell };
    loop {
        let begun = match unpacker.next()? {
            Next::Done => return Ok(unpacker.counts),
            Next::Begun(begun) => begun,
            Next::End => return Err(riddle()),
        };
        let name = match &base.name {
            Some(_) if unpacker.counts.entries > 0 => return Err(riddle()),
            Some(name) => name.clone(),
            None => begun.name.clone(),
        };
        unpacker.entry(base.dir.as_fd(), &Begun { name, ..begun }, 0)?;
    }
}

/// Writes the content of the one file that comes from `input` to `output`.
pub fn unpack_to(input: OwnedFd, output: &OwnedFd, tell: &mut dyn FnMut(u64)) -> Outcome<Counts> {
    static ZEROES: [u8; 32 << 10] = [0; 32 << 10];
    let mut reader = Reader::new(input);
    let mut counts = Counts::default();
    let what = || "write what was pulled".to_owned();
    match reader.next().map_err(unread)? {
        Frame::File { .. } => counts.entries = 1,
        Frame::Failed => return Err(given_up()),
        _ => return Err(riddle()),
    }
    loop {
        match reader.next().map_err(unread)? {
            Frame::Bytes(bytes) => {
                write_all(output, bytes).cannot(what)?;
                counts.bytes += bytes.len() as u64;
            }
            Frame::Hole(mut length) => {
                while length > 0 {
                    let part = length.min(ZEROES.len() as u64);
                    write_all(output, &ZEROES[..part as usize]).cannot(what)?;
                    length -= part;
                    counts.bytes += part;
                    tell(counts.bytes);
                }
            }
            Frame::End => {}
            Frame::Done => return Ok(counts),
            Frame::Failed => return Err(given_up()),
            _ => return Err(riddle()),
        }
        tell(counts.bytes);
    }
}

struct Unpacker<'a> {
    input: Reader,
    rules: Rules,
    counts: Counts,
    tell: &'a mut dyn FnMut(u64),
}

/// Something that the stream begins.
struct Begun {
    kind: Kind,
    meta: Meta,
    name: Vec<u8>,
}

enum Kind {
    Directory,
    File,
    Link(Vec<u8>),
}

enum Next {
    Begun(Begun),
    End,
    Done,
}

impl Unpacker<'_> {
    /// The next frame, where no file is begun.
    fn next(&mut self) -> Outcome<Next> {
        let begun = |kind, meta, name: &[u8]| Ok(Next::Begun(Begun { kind, meta, name: name.to_vec() }));
        match self.input.next().map_err(unread)? {
            Frame::Directory { meta, name } => begun(Kind::Directory, meta, name),
            Frame::File { meta, name } => begun(Kind::File, meta, name),
            Frame::Link { meta, name, target } => begun(Kind::Link(target.to_vec()), meta, name),
            Frame::End => Ok(Next::End),
            Frame::Done => Ok(Next::Done),
            Frame::Failed => Err(given_up()),
            Frame::Bytes(_) | Frame::Hole(_) => Err(riddle()),
        }
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, begun: &Begun, depth: usize) -> Outcome<()> {
        self.counts.entries += 1;
        match &begun.kind {
            Kind::Directory => self.directory(dir, begun, depth),
            Kind::File => self.file(dir, begun),
            Kind::Link(target) => self.link(dir, begun, target),
        }
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, begun: &Begun, depth: usize) -> Outcome<()> {
        let name = &begun.name;
        if depth == DEEPEST {
            let why = format!("there are more than {DEEPEST} directories within one another");
            return Err(Trouble::because(FailedKind::Other, format!("write '{}'", shown(name)), why));
        }
        match open_directory(parent, name)? {
            // One that is there keeps its owner and its mode.
            Some(dir) => self.fill(&dir, depth),
            None if depth == 0 => {
                let new = New::directory(parent, name)?;
                let dir = open_directory(parent, &new.name)?.ok_or_else(riddle)?;
                self.fill(&dir, depth)?;
                self.settle_directory(&dir, begun)?;
                new.place(name, RenameFlags::NOREPLACE)
            }
            None => {
                rustix::fs::mkdirat(parent, &name[..], Mode::RWXU).at("make the directory", name)?;
                let dir = open_directory(parent, name)?.ok_or_else(riddle)?;
                self.fill(&dir, depth)?;
                self.settle_directory(&dir, begun)
            }
        }
    }

    fn fill(&mut self, dir: &OwnedFd, depth: usize) -> Outcome<()> {
        loop {
            match self.next()? {
                Next::Begun(begun) => self.entry(dir.as_fd(), &begun, depth + 1)?,
                Next::End => return Ok(()),
                Next::Done => return Err(riddle()),
            }
        }
    }

    fn settle_directory(&self, dir: &OwnedFd, begun: &Begun) -> Outcome<()> {
        self.give(dir, &begun.meta, &begun.name)?;
        // Who has made a directory gets into it.
        let mode = match self.rules.owners {
            Owners::Mine => begun.meta.mode & self.rules.mask | 0o700,
            Owners::Theirs { .. } => begun.meta.mode & self.rules.mask,
        };
        Ok(rustix::fs::fchmod(dir, Mode::from_raw_mode(mode)).at("set the mode of", &begun.name)?)
    }

    fn file(&mut self, dir: BorrowedFd<'_>, begun: &Begun) -> Outcome<()> {
        let name = &begun.name;
        let there = replaceable(dir, name)?;
        let new = New::named(dir)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, &new.name[..], flags, Mode::RUSR | Mode::WUSR);
        let file = file.at("make the file", name)?;
        self.content(&file, name)?;
        let kept = there.filter(|_| self.rules.keep);
        match kept {
            Some(stat) => {
                let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
                rustix::fs::fchown(&file, owner.0, owner.1).at("set the owner of", name)?;
            }
            None => self.give(&file, &begun.meta, name)?,
        }
        let asked = self.rules.mode.unwrap_or(begun.meta.mode & self.rules.mask);
        let mode = kept.map_or(asked, |stat| stat.st_mode & 0o7777);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).at("set the mode of", name)?;
        new.place(name, RenameFlags::empty())
    }

    fn content(&mut self, file: &OwnedFd, name: &[u8]) -> Outcome<()> {
        let (mut length, mut ends_in_hole) = (0u64, false);
        loop {
            match self.input.next().map_err(unread)? {
                Frame::Bytes(bytes) => {
                    write_all(file, bytes).at("write", name)?;
                    length += bytes.len() as u64;
                    self.counts.bytes += bytes.len() as u64;
                    ends_in_hole = false;
                }
                Frame::Hole(hole) => {
                    let end = length.checked_add(hole).filter(|end| i64::try_from(*end).is_ok());
                    length = end.ok_or(Errno::FBIG).at("write", name)?;
                    rustix::fs::seek(file, SeekFrom::Start(length)).at("write", name)?;
                    ends_in_hole = true;
                }
                Frame::End => break,
                Frame::Failed => return Err(given_up()),
                _ => return Err(riddle()),
            }
            (self.tell)(self.counts.bytes);
        }
        if ends_in_hole {
            rustix::fs::ftruncate(file, length).at("write", name)?;
        }
        Ok(())
    }

    fn link(&mut self, dir: BorrowedFd<'_>, begun: &Begun, target: &[u8]) -> Outcome<()> {
        let name = &begun.name;
        replaceable(dir, name)?;
        let new = New::named(dir)?;
        rustix::fs::symlinkat(target, dir, &new.name[..]).at("make the link", name)?;
        if let Some((uid, gid)) = self.owner(&begun.meta, name)? {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(dir, &new.name[..], Some(uid), Some(gid), flags)
                .at("set the owner of", name)?;
        }
        new.place(name, RenameFlags::empty())
    }

    fn give(&self, fd: &OwnedFd, meta: &Meta, name: &[u8]) -> Outcome<()> {
        if let Some((uid, gid)) = self.owner(meta, name)? {
            rustix::fs::fchown(fd, Some(uid), Some(gid)).at("set the owner of", name)?;
        }
        Ok(())
    }

    /// Whose it is to be, where that is not this process's user.
    fn owner(&self, meta: &Meta, name: &[u8]) -> Outcome<Option<(Uid, Gid)>> {
        let Owners::Theirs { uid, gid } = self.rules.owners else { return Ok(None) };
        let (uid, gid) = (uid.unwrap_or(meta.uid), gid.unwrap_or(meta.gid));
        if let Some(id) = [uid, gid].into_iter().find(|id| *id > HIGHEST_ID) {
            let why = format!("a container has no id {id}");
            let what = format!("give '{}' its owner", shown(name));
            return Err(Trouble::because(FailedKind::NoSuchId, what, why));
        }
        Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid))))
    }
}

/// Something that has no name of its own yet. Dropped before it has, it goes.
struct New<'a> {
    dir: BorrowedFd<'a>,
    name: Vec<u8>,
}

impl<'a> New<'a> {
    fn named(dir: BorrowedFd<'a>) -> SysResult<Self> {
        Ok(Self { dir, name: format!(".nagaya-{:016x}", random()?).into_bytes() })
    }

    fn directory(dir: BorrowedFd<'a>, name: &[u8]) -> SysResult<Self> {
        let new = Self::named(dir)?;
        rustix::fs::mkdirat(dir, &new.name[..], Mode::RWXU).at("make the directory", name)?;
        Ok(new)
    }

    /// Gives it the name that it is to have.
    fn place(self, name: &[u8], flags: RenameFlags) -> Outcome<()> {
        let renamed = rustix::fs::renameat_with(self.dir, &self.name[..], self.dir, name, flags);
        renamed.at("write", name)?;
        // What is under the other name now, if anything, is somebody else's.
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        // Of the next thing that is left, there is nobody to tell.
        if rustix::fs::unlinkat(self.dir, &self.name[..], AtFlags::empty()) == Err(Errno::ISDIR)
            && let Ok(dir) = rustix::fs::openat(self.dir, &self.name[..], DIRECTORY, Mode::empty())
        {
            let _ = erase::empty_dir(dir.as_fd(), &mut Subject::empty());
            let _ = rustix::fs::unlinkat(self.dir, &self.name[..], AtFlags::REMOVEDIR);
        }
    }
}

/// The directory of that name; none where there is nothing.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Outcome<Option<OwnedFd>> {
    match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => {
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
            let kind = stat.map_or("no directory", |stat| kind_name(FileType::from_raw_mode(stat.st_mode)));
            let what = format!("write the directory '{}'", shown(name));
            Err(Trouble::because(FailedKind::Other, what, format!("{kind} is in its place")))
        }
        Err(e) => Err(failed("open the directory", name, e)),
    }
}

/// What a file or link of that name takes the place of: another file or link, which is returned, or nothing.
fn replaceable(dir: BorrowedFd<'_>, name: &[u8]) -> Outcome<Option<rustix::fs::Stat>> {
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at("look at", name)?,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Some(stat)),
        FileType::Symlink => Ok(None),
        kind => {
            let (what, why) = (format!("write '{}'", shown(name)), format!("{} is there", kind_name(kind)));
            Err(Trouble::because(FailedKind::Other, what, why))
        }
    }
}

fn unread(error: io::Error) -> Trouble {
    let kind = match error.kind() {
        io::ErrorKind::UnexpectedEof => return given_up(),
        _ => FailedKind::Other,
    };
    Trouble::new(kind, "read what is sent".to_owned(), error)
}

fn given_up() -> Trouble {
    let what = "go on".to_owned();
    Trouble::because(FailedKind::Cut, what, "the other side has ended before all was there")
}

fn riddle() -> Trouble {
    let what = "understand what is sent".to_owned();
    Trouble::because(FailedKind::Other, what, "the other side speaks in riddles")
}
