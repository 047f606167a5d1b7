//! A console's history, on two bounded files.

use std::os::fd::OwnedFd;

use crate::sys::{Context, SysResult};

/// Bytes in each of the two files of the history.
pub const LOG_HALF: u64 = 512 * 1024;
/// Bytes of history that a new watcher is shown.
const BACKLOG: u64 = 8 * 1024;

/// The console's history: one file is filled, then the other is emptied and filled.
pub struct Log {
    files: [OwnedFd; 2],
    current: usize,
    length: u64,
}

impl Log {
    /// Goes on in the file that was written last.
    pub fn open(files: [OwnedFd; 2]) -> SysResult<Self> {
        let stat = |fd| rustix::fs::fstat(fd).cannot(|| "look at the console's log");
        let (a, b) = (stat(&files[0])?, stat(&files[1])?);
        let newer = (b.st_mtime, b.st_mtime_nsec) > (a.st_mtime, a.st_mtime_nsec) && b.st_size > 0;
        let current = usize::from(newer);
        let length = if newer { b.st_size } else { a.st_size } as u64;
        Ok(Self { files, current, length })
    }

    /// A full disk loses history, never the guest.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.length >= LOG_HALF {
            self.current = 1 - self.current;
            self.length = 0;
            let _ = rustix::fs::ftruncate(&self.files[self.current], 0);
        }
        if let Ok(n) = rustix::io::pwrite(&self.files[self.current], bytes, self.length) {
            self.length += n as u64;
        }
    }

    pub fn tail(&self) -> Vec<u8> {
        let from = self.length.saturating_sub(BACKLOG);
        let mut bytes = vec![0u8; (self.length - from) as usize];
        let n = rustix::io::pread(&self.files[self.current], &mut bytes[..], from).unwrap_or(0);
        bytes.truncate(n);
        bytes
    }
}
