//! How far slow work has come.

use std::os::fd::BorrowedFd;

use crate::sys::process::interrupt;
use crate::sys::process::report::Watch;

/// Progress of slow work, for whoever shows it. The app itself never prints.
pub trait Progress {
    /// A new stage of work, with how far the whole has come (0 to 100) where that is known.
    fn stage(&self, text: &str, percent: Option<u8>);
    /// Bytes done, of a total where that is known.
    fn bytes(&self, done: u64, total: Option<u64>);
}

/// Shows how many bytes a file worker has done, until the user interrupts that.
pub struct Bytes<'a> {
    progress: &'a dyn Progress,
    total: Option<u64>,
}

impl<'a> Bytes<'a> {
    pub fn of(progress: &'a dyn Progress, total: Option<u64>) -> Self {
        Self { progress, total }
    }
}

impl Watch for Bytes<'_> {
    fn progress(&mut self, done: u64) -> bool {
        self.progress.bytes(done, self.total);
        !interrupt::pending()
    }
    fn side(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn side_ready(&mut self) {}
}
