//! A failure in a child process that is told without asking for memory.

use rustix::io::Errno;
use serde::{Serialize, Serializer};

/// What a child could not do, as it says itself.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// Continues the sentence "cannot …".
    pub what: &'static str,
    pub errno: Errno,
}

impl From<Failed> for crate::sys::SysError {
    fn from(failed: Failed) -> Self {
        Self::new(failed.what, failed.errno)
    }
}

/// Names the operation of a failed system call.
pub trait Doing<T> {
    /// `what` continues the sentence "cannot …".
    fn doing(self, what: &'static str) -> Result<T, Failed>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, what: &'static str) -> Result<T, Failed> {
        self.map_err(|errno| Failed { what, errno })
    }
}

/// The file that a child was at when it failed.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    bytes: [u8; 255],
    len: usize,
}

impl Subject {
    /// No file.
    pub fn empty() -> Self {
        Self { bytes: [0; 255], len: 0 }
    }

    /// Of a longer name the beginning is kept.
    pub fn set(&mut self, name: &[u8]) {
        self.len = name.len().min(self.bytes.len());
        self.bytes[..self.len].copy_from_slice(&name[..self.len]);
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.bytes[..self.len])
    }
}
