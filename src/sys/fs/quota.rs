//! Project quotas: how much a tree may take of a file system, in bytes and in files, kept by the kernel. ext4 and XFS
//! have them, where they were made and mounted for it.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use crate::sys::{Context, SysError, SysResult};

/// PRJQUOTA, linux/quota.h.
const PROJECT: u32 = 2;
/// Q_GETQUOTA, Q_SETQUOTA and Q_XGETQSTATV of linux/quota.h and linux/dqblk_xfs.h: each with the type of quota.
const GET: u32 = command(0x80_0007);
const SET: u32 = command(0x80_0008);
const STATE: u32 = command(0x5808);
/// The unit of a limit on space, whatever the file system's blocks are (QIF_DQBLKSIZE).
const BLOCK: u64 = 1024;
/// FS_QUOTA_PDQ_ENFD: limits of projects are kept.
const IS_KEPT: u16 = 1 << 5;
/// QIF_BLIMITS and QIF_ILIMITS.
const LIMITS: u32 = 1 | 4;
/// FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR of linux/fs.h.
const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
/// FS_XFLAG_PROJINHERIT: what is made in a directory is of the directory's project.
const INHERITED: u32 = 0x200;

/// QCMD of linux/quota.h.
const fn command(what: u32) -> u32 {
    (what << 8) | PROJECT
}

/// What a project takes, or may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub bytes: u64,
    pub files: u64,
}

/// What is taken of a limit, in bytes and in files; both 0 where there is no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Taken {
    pub bytes: u64,
    pub size: u64,
    pub files: u64,
    pub inodes: u64,
}

/// `struct fsxattr`.
#[repr(C)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Record {
    most_blocks: u64,
    soft_blocks: u64,
    bytes: u64,
    most_files: u64,
    soft_files: u64,
    files: u64,
    block_time: u64,
    file_time: u64,
    valid: u32,
}

/// `struct fs_quota_statv`: its version, its flags, and what nobody here asks for.
#[repr(C)]
struct State {
    version: i8,
    padding: u8,
    flags: u16,
    rest: [u64; 24],
}

/// Whether the file system keeps limits of projects. For everybody, and with any descriptor.
pub fn is_kept(fs: impl AsFd) -> bool {
    const FS_QSTATV_VERSION1: i8 = 1;
    let mut state = State { version: FS_QSTATV_VERSION1, padding: 0, flags: 0, rest: [0; 24] };
    call(fs, STATE, 0, (&raw mut state).cast()).is_ok() && state.flags & IS_KEPT != 0
}

/// What a project takes. For root of the host.
pub fn used(fs: impl AsFd, project: u32) -> SysResult<Amount> {
    let mut record = Record::default();
    match call(fs, GET, project, (&raw mut record).cast()) {
        Ok(()) => Ok(Amount { bytes: record.bytes, files: record.files }),
        // XFS has no record of a project that nothing is of.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Amount::default()),
        Err(e) => Err(SysError::new("ask how much of a disk quota is used", e)),
    }
}

/// How much a project may take; 0 of either is no limit. For root of the host.
pub fn limit(fs: impl AsFd, project: u32, most: Amount) -> SysResult<()> {
    let mut record = Record {
        most_blocks: most.bytes.div_ceil(BLOCK),
        most_files: most.files,
        valid: LIMITS,
        ..Record::default()
    };
    call(fs, SET, project, (&raw mut record).cast()).cannot(|| "set a disk quota")
}

/// The project of a directory that is open for reading.
pub fn project(dir: impl AsFd) -> SysResult<u32> {
    Ok(attributes(&dir)?.project)
}

/// Makes an empty directory, which is open for reading, the beginning of a project's tree: what is made below is of
/// the project too. For root of the host.
pub fn begin(dir: impl AsFd, project: u32) -> SysResult<()> {
    let mut attributes = attributes(&dir)?;
    attributes.project = project;
    attributes.flags |= INHERITED;
    // SAFETY: the kernel reads a `struct fsxattr`, which lives until it returns.
    let done = unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) };
    if done == 0 { Ok(()) } else { Err(SysError::last("put a directory under a disk quota")) }
}

fn attributes(dir: impl AsFd) -> SysResult<Attributes> {
    let mut attributes = MaybeUninit::<Attributes>::zeroed();
    // SAFETY: the kernel writes a `struct fsxattr`.
    let done = unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), GET_ATTRIBUTES, attributes.as_mut_ptr()) };
    if done != 0 {
        return Err(SysError::last("see which disk quota a directory is under"));
    }
    // SAFETY: all of it are numbers, which were zero before.
    Ok(unsafe { attributes.assume_init() })
}

/// quotactl_fd(2).
fn call(fs: impl AsFd, command: u32, id: u32, address: *mut libc::c_void) -> io::Result<()> {
    let fd = fs.as_fd().as_raw_fd();
    // SAFETY: `address` is that of the structure that the command reads or writes.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd, command, id, address) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<Record>(), 72);
        // struct fs_quota_statv of linux/dqblk_xfs.h has 160 bytes.
        assert!(size_of::<State>() >= 160);
    }

    #[test]
    fn memory_has_no_quota() {
        assert!(!is_kept(std::fs::File::open("/proc/self").unwrap()));
    }
}
