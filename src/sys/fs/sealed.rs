//! Memory files that nobody can change any more: they pass large data to a process that does not trust the
//! sender.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::sys::{Context, SysError, SysResult};

const UNCHANGEABLE: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

/// A sealed memory file with these bytes.
pub fn write(bytes: &[u8]) -> SysResult<OwnedFd> {
    let what = || "seal a memory file";
    let fd =
        rustix::fs::memfd_create("nagaya", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).cannot(what)?;
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::retry_on_intr(|| rustix::io::pwrite(&fd, &bytes[at..], at as u64)).cannot(what)?;
    }
    rustix::fs::fcntl_add_seals(&fd, UNCHANGEABLE | SealFlags::SEAL).cannot(what)?;
    Ok(fd)
}

/// The size of a sealed memory file of at most `most` bytes; none for anything else. The seals are checked
/// first: without them the size could change.
pub fn size(fd: &OwnedFd, most: usize) -> Option<usize> {
    let seals = rustix::fs::fcntl_get_seals(fd).ok()?;
    let size = usize::try_from(rustix::fs::fstat(fd).ok()?.st_size).ok()?;
    (seals.contains(UNCHANGEABLE) && size <= most).then_some(size)
}

/// What is in a sealed memory file of at most `most` bytes.
pub fn read(fd: &OwnedFd, most: usize) -> SysResult<Vec<u8>> {
    let not_one = || {
        let why = format!("it is not a sealed memory file of at most {most} bytes");
        SysError::new("read what was sent", std::io::Error::new(std::io::ErrorKind::InvalidInput, why))
    };
    let mut bytes = vec![0; size(fd, most).ok_or_else(not_one)?];
    let mut at = 0;
    while at < bytes.len() {
        match rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut bytes[at..], at as u64)) {
            Ok(0) => return Err(not_one()),
            Ok(got) => at += got,
            Err(e) => return Err(SysError::new("read what was sent", e)),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_can_change_is_read() {
        for length in [0, 1, 5000] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let fd = write(&bytes).unwrap();
            assert_eq!(read(&fd, 5000).unwrap(), bytes);
            assert!(length == 0 || read(&fd, length - 1).is_err());
            assert!(rustix::io::pwrite(&fd, b"x", 0).is_err() && rustix::fs::ftruncate(&fd, 9000).is_err());
        }
        let half = rustix::fs::memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(read(&half, 10).is_err());
        for seals in [SealFlags::WRITE, SealFlags::WRITE | SealFlags::SHRINK] {
            rustix::fs::fcntl_add_seals(&half, seals).unwrap();
            assert!(read(&half, 10).is_err());
        }
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert!(read(&file, 10).is_err());
        let (pipe, _end) = rustix::pipe::pipe().unwrap();
        assert!(read(&pipe, 10).is_err());
    }
}
