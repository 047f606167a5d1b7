//! One entry of a tree and its copy: content, owner, mode, extended attributes and times.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::marks;

type Result<T> = rustix::io::Result<T>;

/// Bytes between two reports of how far a long file is.
const CHUNK: usize = 16 << 20;

/// Opens a directory of a tree whose owner may be changing it.
pub fn open_dir(parent: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// The content of a regular file, of which `told` learns each part's length. With `settles`, what programs have
/// written by a mapping is on its way to the disk before it is read: a later write by one changes the file's times.
pub fn regular(
    from: (BorrowedFd<'_>, &CStr),
    to: (BorrowedFd<'_>, &CStr),
    stat: &Stat,
    settles: bool,
    told: &mut dyn FnMut(u64),
) -> Result<()> {
    let source = open_regular(from.0, from.1, stat)?;
    if settles {
        start_writing_back(&source)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to.0, to.1, flags, Mode::from_raw_mode(0o600))?;
    content(&source, &target, stat.st_size.max(0) as u64, told)?;
    rustix::fs::fchown(&target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&target, mode_of(stat))?;
    xattrs(&source, &target)?;
    rustix::fs::futimens(&target, &times(stat))
}

/// Opens for reading what was a regular file when `stat` was read, whatever its owner makes of the name meanwhile.
pub fn open_regular(dir: impl AsFd, name: &CStr, stat: &Stat) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let source = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let opened = rustix::fs::fstat(&source)?;
    match (opened.st_ino, opened.st_dev) == (stat.st_ino, stat.st_dev) && is_regular(&opened) {
        true => Ok(source),
        false => Err(Errno::STALE),
    }
}

/// The most parts of a file between holes that are told one by one.
const MOST_EXTENTS: usize = 1 << 18;

/// The parts of a file that are no holes, each with its length. Of more than can be told the last one goes up to the
/// end.
pub fn extents(file: &OwnedFd, size: u64) -> Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) if data < size => data,
            // Nothing but a hole up to the end.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let end = match found.len() + 1 < MOST_EXTENTS {
            true => rustix::fs::seek(file, SeekFrom::Hole(data))?.min(size),
            false => size,
        };
        found.push((data, end - data));
        at = end.max(data + 1);
    }
    Ok(found)
}

/// Anything that is neither a regular file nor a directory.
pub fn special(from: (BorrowedFd<'_>, &CStr), to: (BorrowedFd<'_>, &CStr), stat: &Stat) -> Result<()> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Symlink {
        let target = rustix::fs::readlinkat(from.0, from.1, Vec::new())?;
        rustix::fs::symlinkat(&*target, to.0, to.1)?;
    } else {
        rustix::fs::mknodat(to.0, to.1, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?;
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to.0, to.1, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        // Nobody else is at work in the copy, so the name is still what was just made.
        rustix::fs::chmodat(to.0, to.1, mode_of(stat), AtFlags::empty())?;
    }
    if matches!(kind, FileType::Fifo | FileType::Socket) {
        xattrs_of_name(from, to)?;
    }
    rustix::fs::utimensat(to.0, to.1, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// What a directory has besides its entries; last, because making entries changes its times. With `replaces`, the
/// copy may have attributes from an earlier round.
pub fn attributes(source: &OwnedFd, target: &OwnedFd, stat: &Stat, replaces: bool) -> Result<()> {
    rustix::fs::fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(target, mode_of(stat))?;
    if replaces {
        remove_other_xattrs(source, target)?;
    }
    xattrs(source, target)?;
    rustix::fs::futimens(target, &times(stat))
}

/// Removes what the copy has and the source has not. A directory's mark of opacity was made by who calls.
fn remove_other_xattrs(source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    let own = listed(|buffer| rustix::fs::flistxattr(target, spare_capacity(buffer)))?;
    if own.is_empty() {
        return Ok(());
    }
    let wanted = listed(|buffer| rustix::fs::flistxattr(source, spare_capacity(buffer)))?;
    let wanted: Vec<&CStr> = names(&wanted).collect();
    names(&own)
        .filter(|name| !wanted.contains(name))
        .try_for_each(|name| rustix::fs::fremovexattr(target, name))
}

fn names(list: &[u8]) -> impl Iterator<Item = &CStr> {
    list.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}

pub fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

pub fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn mode_of(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Dirty pages are made read-only on their way to the disk, so that the next write by a mapping is a fault, which
/// changes the file's times. Nobody waits until the disk has them for good.
fn start_writing_back(file: &OwnedFd) -> Result<()> {
    // SAFETY: sync_file_range(2) takes plain numbers.
    let done = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            0,
            0,
            libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | libc::SYNC_FILE_RANGE_WRITE
                | libc::SYNC_FILE_RANGE_WAIT_AFTER,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// By sharing the blocks where the file system can, else by copying all but the holes.
fn content(source: &OwnedFd, target: &OwnedFd, size: u64, told: &mut dyn FnMut(u64)) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        told(size);
        return Ok(());
    }
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(data) if data < size => data,
            // Nothing but a hole up to the end.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(data))?.min(size);
        range(source, target, data, end, told)?;
        at = end.max(data + 1);
    }
    rustix::fs::ftruncate(target, size)
}

fn range(source: &OwnedFd, target: &OwnedFd, from: u64, to: u64, told: &mut dyn FnMut(u64)) -> Result<()> {
    let (mut off_in, mut off_out) = (from, from);
    while off_in < to {
        let length = usize::try_from(to - off_in).unwrap_or(CHUNK).min(CHUNK);
        let (before_in, before_out) = (off_in, off_out);
        match rustix::fs::copy_file_range(source, Some(&mut off_in), target, Some(&mut off_out), length) {
            // It has become shorter since.
            Ok(0) => return Ok(()),
            Ok(count) => told(count as u64),
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                (off_in, off_out) = (before_in, before_out);
                let count = by_hand(source, target, off_in, length)?;
                if count == 0 {
                    return Ok(());
                }
                told(count);
                off_in += count;
                off_out += count;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Between file systems on which the kernel does not copy by itself.
fn by_hand(source: &OwnedFd, target: &OwnedFd, at: u64, length: usize) -> Result<u64> {
    let mut buffer = vec![0u8; length.min(256 << 10)];
    let count = rustix::io::retry_on_intr(|| rustix::io::pread(source, &mut buffer[..], at))?;
    let mut done = 0;
    while done < count {
        done +=
            rustix::io::retry_on_intr(|| rustix::io::pwrite(target, &buffer[done..count], at + done as u64))?;
    }
    Ok(count as u64)
}

/// Whether root of a user namespace can set it, and it is the file's own.
fn is_copied(name: &[u8]) -> bool {
    let settable = name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
    (settable && marks::is_of_file(name)) || name == b"security.capability"
}

fn xattrs(source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    let list = listed(|buffer| rustix::fs::flistxattr(source, spare_capacity(buffer)))?;
    for name in names(&list).filter(|name| is_copied(name.to_bytes())) {
        let value = listed(|buffer| rustix::fs::fgetxattr(source, name, spare_capacity(buffer)))?;
        rustix::fs::fsetxattr(target, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// An attribute with its value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// The most bytes of one entry's attributes that are kept together.
pub const MOST_OF_XATTRS: usize = 256 << 10;

/// The attributes that a copy has.
///
/// # Errors
/// `E2BIG` where they are longer than [`MOST_OF_XATTRS`].
pub fn xattrs_of(file: &OwnedFd) -> Result<Vec<Xattr>> {
    let list = listed(|buffer| rustix::fs::flistxattr(file, spare_capacity(buffer)))?;
    let (mut all, mut length) = (Vec::new(), 0);
    for name in names(&list).filter(|name| is_copied(name.to_bytes())) {
        let value = listed(|buffer| rustix::fs::fgetxattr(file, name, spare_capacity(buffer)))?;
        length += name.count_bytes() + value.len();
        if length > MOST_OF_XATTRS {
            return Err(Errno::TOOBIG);
        }
        all.push((name.to_bytes().to_owned(), value));
    }
    Ok(all)
}

/// The same by name, from within each directory: such a file is not opened.
fn xattrs_of_name(from: (BorrowedFd<'_>, &CStr), to: (BorrowedFd<'_>, &CStr)) -> Result<()> {
    rustix::process::fchdir(from.0)?;
    let list = listed(|buffer| rustix::fs::llistxattr(from.1, spare_capacity(buffer)))?;
    for name in names(&list).filter(|name| is_copied(name.to_bytes())) {
        rustix::process::fchdir(from.0)?;
        let value = listed(|buffer| rustix::fs::lgetxattr(from.1, name, spare_capacity(buffer)))?;
        rustix::process::fchdir(to.0)?;
        rustix::fs::lsetxattr(to.1, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// What a call writes, however long that is; it may grow between two calls.
fn listed(mut call: impl FnMut(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
    /// The kernel's bound of a list and of a value, in bytes: XATTR_LIST_MAX and XATTR_SIZE_MAX.
    const MOST: usize = 64 << 10;
    let mut bytes = Vec::with_capacity(256);
    loop {
        match call(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(Errno::RANGE) if bytes.capacity() < MOST => bytes = Vec::with_capacity(MOST),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    }
}

/// What is to be the same in every copy of an entry.
pub fn described(stat: &Stat) -> Vec<u8> {
    let size = if is_regular(stat) { stat.st_size } else { 0 };
    let time = if marks::is_whiteout(stat) { (0, 0) } else { (stat.st_mtime, stat.st_mtime_nsec) };
    format!("{:o} {} {} {} {size} {time:?}", stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev)
        .into_bytes()
}

/// The extended attributes that a copy has, sorted, each with its value.
pub fn all_xattrs(file: &OwnedFd) -> Result<Vec<u8>> {
    let list = listed(|buffer| rustix::fs::flistxattr(file, spare_capacity(buffer)))?;
    let mut copied: Vec<&CStr> = names(&list).filter(|name| is_copied(name.to_bytes())).collect();
    copied.sort();
    let mut all = Vec::new();
    for name in copied {
        let value = listed(|buffer| rustix::fs::fgetxattr(file, name, spare_capacity(buffer)))?;
        all.extend_from_slice(name.to_bytes_with_nul());
        all.extend_from_slice(&(value.len() as u64).to_le_bytes());
        all.extend_from_slice(&value);
    }
    Ok(all)
}
