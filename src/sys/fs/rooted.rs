//! Looking at files of an untrusted tree as if it were `/`: links lead nowhere else, and only regular files
//! are ever opened, so that no fifo blocks and no device is touched.

use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

/// More entries than any directory that is looked through here has.
const LISTED_MAX: usize = 4096;

#[derive(Debug, Clone, Copy)]
pub struct Rooted<'a> {
    root: BorrowedFd<'a>,
}

/// A name for an inode, the same by whichever path it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

pub struct RegularFile {
    pub identity: Identity,
    pub is_executable: bool,
}

impl<'a> Rooted<'a> {
    pub fn new(root: BorrowedFd<'a>) -> Self {
        Self { root }
    }

    /// What `path` leads to in the end, if that is a regular file.
    pub fn regular_file(&self, path: &str) -> Result<Option<RegularFile>, Errno> {
        let Some(fd) = self.open(path, OFlags::PATH)? else { return Ok(None) };
        let stat = fstat(&fd)?;
        Ok(is_regular(&stat).then_some(RegularFile {
            identity: Identity { device: stat.st_dev, inode: stat.st_ino },
            is_executable: stat.st_mode & 0o111 != 0,
        }))
    }

    pub fn is_regular_file(&self, path: &str) -> Result<bool, Errno> {
        Ok(self.regular_file(path)?.is_some())
    }

    /// The first bytes, at most `max`, of a regular file.
    pub fn read_start(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Errno> {
        if self.regular_file(path)?.is_none() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(fd) = self.open(path, flags)? else { return Ok(None) };
        if !is_regular(&fstat(&fd)?) {
            return Ok(None);
        }
        let mut data = Vec::new();
        match File::from(fd).take(max).read_to_end(&mut data) {
            Ok(_) => Ok(Some(data)),
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }

    /// Names in a directory, without `.` and `..`, the first few thousand; none where there is none.
    pub fn names(&self, path: &str) -> Result<Vec<Vec<u8>>, Errno> {
        let Some(fd) = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)? else { return Ok(Vec::new()) };
        let names = Dir::read_from(&fd)?
            .map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()))
            .filter(|name| !matches!(name.as_deref(), Ok(b"." | b"..")));
        names.take(LISTED_MAX).collect()
    }

    /// Whether `directory` holds `name`, be it a link that leads nowhere.
    pub fn has_entry(&self, directory: &[u8], name: &str) -> Result<bool, Errno> {
        let Some(fd) = self.open(directory, OFlags::PATH | OFlags::DIRECTORY)? else { return Ok(false) };
        match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// What is at `name` in the root itself, if it is there and no directory.
    pub fn kind_unless_directory(&self, name: &str) -> Result<Option<&'static str>, Errno> {
        match statat(self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => None,
                kind => Some(kind_name(kind)),
            }),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// What the link `name` in a directory says; none where it is no link.
    pub fn link_target(&self, directory: &str, name: &str) -> Result<Option<Vec<u8>>, Errno> {
        let Some(fd) = self.open(directory, OFlags::PATH | OFlags::DIRECTORY)? else { return Ok(None) };
        match readlinkat(&fd, name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub fn is_directory(&self, path: &str) -> Result<bool, Errno> {
        Ok(self.open(path, OFlags::PATH | OFlags::DIRECTORY)?.is_some())
    }

    /// `None` where the path does not lead to anything.
    fn open(&self, path: impl rustix::path::Arg + Copy, access: OFlags) -> Result<Option<OwnedFd>, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(self.root, path, access | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Ok(fd) => return Ok(Some(fd)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// A kind of file in words.
pub fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::RegularFile => "a file",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_file()
}
