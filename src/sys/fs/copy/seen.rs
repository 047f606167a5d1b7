//! What an earlier round has copied, and how it is known to be still the same.

use std::collections::HashMap;

use rustix::fs::Stat;

/// A file's times are those of the kernel's last tick, so what has changed so short a time ago may change again
/// without its times telling it.
const TICK_NS: i128 = 50_000_000;

/// How much was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Of the content of regular files, without holes.
    pub bytes: u64,
    /// Entries: files, directories and all else.
    pub files: u64,
}

/// By what a file is known to be as it was copied.
#[derive(PartialEq, Eq)]
pub struct Known {
    ino: u64,
    mode: u32,
    size: i64,
    nlink: u64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

impl Known {
    /// None if the file may change without this telling it.
    pub fn of(stat: &Stat, now: i128) -> Option<Self> {
        let (mtime, ctime) = ((stat.st_mtime, stat.st_mtime_nsec), (stat.st_ctime, stat.st_ctime_nsec));
        let changed = i128::from(ctime.0) * 1_000_000_000 + i128::from(ctime.1);
        (now - changed > TICK_NS).then_some(Self {
            ino: stat.st_ino,
            mode: stat.st_mode,
            size: stat.st_size,
            nlink: stat.st_nlink,
            mtime,
            ctime,
        })
    }
}

/// What was copied, by path.
#[derive(Default)]
pub struct Seen {
    pub files: HashMap<Vec<u8>, Known>,
    /// When the present round began.
    pub now: i128,
    /// Nobody changes the tree during this round.
    pub is_last: bool,
}
