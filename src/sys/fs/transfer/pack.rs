//! Reading files and trees into a stream.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::frame::{CHUNK, Frame, Meta, Writer, again};
use super::trouble::{At, Outcome, Trouble, failed, shown};
use crate::model::file_job::{Counts, FailedKind};

/// Directories within one another, each of which is open while it is read.
const DEEPEST: usize = 500;
/// A file that says that it is empty may have a content all the same: those of the kernel's. As much of one is read.
const MOST_UNSAID: u64 = 64 << 20;

/// Nothing that is opened so is waited for, or becomes the process's terminal.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// File systems that hold no files but views of the kernel (linux/magic.h): proc, sysfs, cgroup, cgroup2, devpts, debugfs, tracefs,
/// securityfs, mqueue, binfmt_misc, bpf, configfs, fusectl, pstore.
const VIEWS: [u32; 14] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x1980_0202,
    0x4249_4e4d,
    0xcafe_4a11,
    0x6265_6570,
    0x6573_5543,
    0x6165_676c,
];

/// Sends files and trees.
pub struct Packer<'a> {
    output: Writer,
    tell: &'a mut dyn FnMut(u64),
    counts: Counts,
}

impl<'a> Packer<'a> {
    /// `tell` hears how many bytes are read.
    pub fn new(output: OwnedFd, tell: &'a mut dyn FnMut(u64)) -> Self {
        Self { output: Writer::new(output), tell, counts: Counts::default() }
    }

    /// Sends that this is all.
    pub fn finish(mut self) -> Outcome<Counts> {
        self.send(&Frame::Done)?;
        Ok(self.counts)
    }

    /// Sends that there is an error. That it cannot be sent does not matter any more.
    pub fn give_up(mut self) {
        let _ = self.output.send(&Frame::Failed);
    }

    /// An opened file or, with all that is in it, directory. Others are not sent.
    pub fn opened(&mut self, fd: OwnedFd, name: &[u8]) -> Outcome<()> {
        let stat = rustix::fs::fstat(&fd).at("look at", name)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(fd, &stat, name, 0),
            FileType::RegularFile => self.file(&fd, &stat, name),
            _ => self.skip(),
        }
    }

    /// What a pipe or another stream has, as a file.
    pub fn stream(&mut self, fd: &OwnedFd, meta: Meta, name: &[u8]) -> Outcome<()> {
        self.begin(&Frame::File { meta, name })?;
        while self.chunk(CHUNK, name, |place| rustix::io::read(fd, place))? > 0 {}
        self.send(&Frame::End)
    }

    fn begin(&mut self, frame: &Frame<'_>) -> Outcome<()> {
        self.counts.entries += 1;
        self.send(frame)
    }

    fn send(&mut self, frame: &Frame<'_>) -> Outcome<()> {
        self.output.send(frame).map_err(unsent)
    }

    fn skip(&mut self) -> Outcome<()> {
        self.counts.skipped += 1;
        Ok(())
    }

    fn directory(&mut self, fd: OwnedFd, stat: &Stat, name: &[u8], depth: usize) -> Outcome<()> {
        if depth > 0 && is_view(&fd, name)? {
            return self.skip();
        }
        if depth == DEEPEST {
            let why = format!("there are more than {DEEPEST} directories within one another");
            return Err(Trouble::because(FailedKind::Other, format!("read '{}'", shown(name)), why));
        }
        self.begin(&Frame::Directory { meta: meta(stat), name })?;
        let mut entries = Dir::new(fd).at("list", name)?;
        while let Some(entry) = entries.read() {
            let entry = match entry {
                // It was deleted while it was read.
                Err(Errno::NOENT) => break,
                other => other.at("list", name)?,
            };
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let dir = entries.fd().at("list", name)?;
                self.entry(dir, entry.file_name().to_bytes(), depth + 1)?;
            }
        }
        self.send(&Frame::End)
    }

    /// What has gone meanwhile is not sent.
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &[u8], depth: usize) -> Outcome<()> {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.at("look at", name)?,
        };
        let flags = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => return self.link(dir, &stat, name),
            FileType::Directory => READ | OFlags::DIRECTORY,
            FileType::RegularFile => READ,
            _ => return self.skip(),
        };
        let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            // It has gone, or has become something else.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => return self.skip(),
            other => other.at("open", name)?,
        };
        let stat = rustix::fs::fstat(&fd).at("look at", name)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(fd, &stat, name, depth),
            FileType::RegularFile => self.file(&fd, &stat, name),
            _ => self.skip(),
        }
    }

    fn link(&mut self, dir: BorrowedFd<'_>, stat: &Stat, name: &[u8]) -> Outcome<()> {
        let target = match rustix::fs::readlinkat(dir, name, Vec::new()) {
            Err(Errno::NOENT | Errno::INVAL) => return self.skip(),
            other => other.at("read the link", name)?,
        };
        self.begin(&Frame::Link { meta: meta(stat), name, target: target.to_bytes() })
    }

    /// As much as it had when it was opened: one that grows without end has an end here.
    fn file(&mut self, fd: &OwnedFd, stat: &Stat, name: &[u8]) -> Outcome<()> {
        self.begin(&Frame::File { meta: meta(stat), name })?;
        match u64::try_from(stat.st_size).unwrap_or_default() {
            0 => self.unsaid(fd, name)?,
            size => self.content(fd, size, name)?,
        }
        self.send(&Frame::End)
    }

    fn unsaid(&mut self, fd: &OwnedFd, name: &[u8]) -> Outcome<()> {
        let mut left = MOST_UNSAID;
        while left > 0 {
            match self.chunk(left as usize, name, |place| rustix::io::read(fd, place))? {
                0 => break,
                count => left -= count as u64,
            }
        }
        Ok(())
    }

    /// Holes are sent as such, where the file system tells of them.
    fn content(&mut self, fd: &OwnedFd, size: u64, name: &[u8]) -> Outcome<()> {
        let mut at = 0;
        while at < size {
            let data = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
                Ok(data) => data.clamp(at, size),
                Err(Errno::NXIO) => size,
                Err(_) => at,
            };
            if data > at {
                self.send(&Frame::Hole(data - at))?;
                at = data;
                continue;
            }
            // Whatever a file system says, there is something to read here.
            let hole = rustix::fs::seek(fd, SeekFrom::Hole(at)).unwrap_or(size);
            let end = if hole > at { hole.min(size) } else { size };
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(CHUNK);
                match self.chunk(most, name, |place| rustix::io::pread(fd, place, at))? {
                    // It has become shorter.
                    0 => return Ok(()),
                    count => at += count as u64,
                }
            }
        }
        Ok(())
    }

    fn chunk(
        &mut self,
        most: usize,
        name: &[u8],
        mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
    ) -> Outcome<usize> {
        let mut unread = None;
        let filled = self.output.send_filled(most, |place| {
            again(|| read(place)).or_else(|e| {
                unread = Some(e);
                Ok(0)
            })
        });
        match unread {
            Some(e) => Err(failed("read", name, e)),
            None => {
                let count = filled.map_err(unsent)?;
                self.counts.bytes += count as u64;
                (self.tell)(self.counts.bytes);
                Ok(count)
            }
        }
    }
}

fn meta(stat: &Stat) -> Meta {
    Meta { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
}

fn unsent(error: io::Error) -> Trouble {
    let kind = match error.kind() {
        io::ErrorKind::BrokenPipe => FailedKind::Cut,
        _ => FailedKind::Other,
    };
    Trouble::new(kind, "send what was read".to_owned(), error)
}

fn is_view(fd: impl AsFd, name: &[u8]) -> Outcome<bool> {
    let kind = rustix::fs::fstatfs(fd).at("look at", name)?.f_type;
    Ok(VIEWS.iter().any(|view| kind as u64 & 0xffff_ffff == u64::from(*view)))
}
