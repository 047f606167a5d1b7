//! What an archive may ask for, and what it has used up of it.

use super::error::ExtractError;
use super::xattr::Xattr;

/// What a file or directory takes on disk at least.
const BLOCK: u64 = 4096;
/// Of all resolutions of entries below symbolic links together: some of them for each entry.
const STEPS: u64 = 1 << 24;

/// What one archive may ask for. The defaults are far above any root filesystem.
#[derive(Debug, Clone)]
pub struct Limits {
    pub entries: u64,
    /// Of the uncompressed archive, and of all files together with their holes.
    pub bytes: u64,
    pub path: usize,
    pub name: usize,
    /// How many directories may lie in one another.
    pub depth: usize,
    /// Of all paths and of the directories' attributes together: they are held in memory.
    pub paths: u64,
    /// Of one extended header.
    pub metadata: u64,
    /// Of all headers that are no entries together.
    pub headers: u64,
    /// Uncompressed to compressed bytes, once there are 64 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            bytes: 64 << 30,
            path: 4095,
            name: 255,
            depth: 256,
            paths: 256 << 20,
            metadata: 1 << 20,
            headers: 4 << 30,
            ratio: 250,
        }
    }
}

pub(super) struct Budget {
    limits: Limits,
    entries: u64,
    paths: u64,
    bytes: u64,
    steps: u64,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), entries: 0, paths: 0, bytes: 0, steps: 0 }
    }

    /// One more object in the tree, be it a directory that no entry names.
    pub(super) fn entry(&mut self, path: &[u8]) -> Result<(), ExtractError> {
        self.entries += 1;
        within("entries", self.entries, self.limits.entries)?;
        self.held(path.len())?;
        self.bytes(BLOCK)
    }

    /// A directory's attributes, which are written at the end.
    pub(super) fn attributes(&mut self, xattrs: &[Xattr]) -> Result<(), ExtractError> {
        self.held(xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum())
    }

    fn held(&mut self, length: usize) -> Result<(), ExtractError> {
        self.paths += length as u64;
        within("bytes in paths and directories' attributes", self.paths, self.limits.paths)
    }

    pub(super) fn bytes(&mut self, length: u64) -> Result<(), ExtractError> {
        self.bytes = self.bytes.saturating_add(length);
        within("bytes", self.bytes, self.limits.bytes)
    }

    /// One component of the way through a symbolic link.
    pub(super) fn step(&mut self) -> Result<(), ExtractError> {
        self.steps += 1;
        within("steps through symbolic links", self.steps, STEPS)
    }

    pub(super) fn depth(&self, path: &[u8]) -> Result<(), ExtractError> {
        check_depth(path, &self.limits)
    }
}

/// Of a path in the form of `Member::path`.
pub(super) fn check_depth(path: &[u8], limits: &Limits) -> Result<(), ExtractError> {
    let components = path.split(|&byte| byte == b'/').count();
    within("directories in one another", components as u64, limits.depth as u64)
}

fn within(what: &'static str, used: u64, limit: u64) -> Result<(), ExtractError> {
    if used > limit { Err(ExtractError::Limit { what, limit }) } else { Ok(()) }
}
