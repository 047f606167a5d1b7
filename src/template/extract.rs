//! Unpacks an archive that nobody vouches for below a directory, and names it by its content.
//!
//! It is made to run as uid 0 of a user namespace over the owner's storage slice, in a process of one
//! thread. It does not lean on that: what would leave the tree refuses the archive as a whole, and
//! what the namespace would forbid (devices, foreign attributes) is left out and counted. After an
//! error the target holds a part of the archive; the caller removes it.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::budget::Budget;
use super::decompress::DecompressError;
use super::member::{self, Extent, Kind, Member};
use super::source::Source;
use super::tree::Tree;
use crate::model::template::TemplateId;

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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// SHA-256 of the uncompressed stream, to its last byte.
    pub id: TemplateId,
    /// Length of all regular files, holes included, hard links counted once.
    pub bytes: u64,
    pub entries: u64,
    pub skipped_devices: u64,
    pub dropped_xattrs: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("the archive is cut off: it has no end marker")]
    Truncated,
    #[error("the archive is damaged: a header's checksum is wrong")]
    Checksum,
    #[error("the entry '{entry}' is malformed: {what}")]
    Malformed { entry: String, what: &'static str },
    #[error("the archive holds {what}, which is not supported")]
    Unsupported { what: &'static str },
    #[error("the entry '{entry}' climbs out of the tree: {how}")]
    Climbs { entry: String, how: &'static str },
    #[error(
        "the entry '{entry}' lies below a file or a symbolic link that leads to no directory of the tree"
    )]
    BelowLink { entry: String },
    #[error("the hard link '{entry}' cannot point to '{target}': {why}")]
    LinkTarget { entry: String, target: String, why: &'static str },
    #[error("the entry '{entry}' replaces a directory that is not empty")]
    FullDirectory { entry: String },
    #[error("the entry '{entry}' belongs to id {id}; a container has 0 to 65535")]
    Owner { entry: String, id: u64 },
    #[error("the archive has more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    #[error("the archive grows more than {limit}-fold when decompressed")]
    Ratio { limit: u64 },
    #[error("the target directory is not empty")]
    TargetInUse,
    #[error("cannot {operation} '{entry}'")]
    Write { operation: &'static str, entry: String, source: io::Error },
}

impl ExtractError {
    /// What to type next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Decompress(DecompressError::Foreign(found)) => Some(found.hint()),
            Self::Decompress(DecompressError::NotAnArchive) => {
                Some("give a tar archive: nagaya template import rootfs.tar.gz --name NAME".to_owned())
            }
            _ => None,
        }
    }

    pub(super) fn malformed(entry: &[u8], what: &'static str) -> Self {
        Self::Malformed { entry: Self::show(entry), what }
    }

    pub(super) fn write(operation: &'static str, entry: &[u8], errno: Errno) -> Self {
        Self::Write { operation, entry: Self::show(entry), source: errno.into() }
    }

    /// A name out of an archive, fit for a terminal and of bounded length.
    pub(super) fn show(name: &[u8]) -> String {
        const SHOWN: usize = 200;
        let text = String::from_utf8_lossy(&name[..name.len().min(SHOWN)]).escape_debug().to_string();
        if name.len() > SHOWN { text + "…" } else { text }
    }
}

/// Unpacks `archive`, plain or compressed, into the empty directory `target`. `progress` is told how
/// many bytes of `archive` are consumed so far, every 256 KiB of output or so. Nothing is synced.
pub fn extract(
    archive: impl Read,
    target: BorrowedFd<'_>,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Extracted, ExtractError> {
    let mut extraction = Extraction {
        source: Source::open(archive, limits, progress)?,
        tree: Tree::new(target, Budget::new(limits))?,
        left_out: HashSet::new(),
        bytes: 0,
        skipped_devices: 0,
    };
    let mut entries = 0;
    let mut dropped_xattrs = 0;
    while let Some(member) = member::next(&mut extraction.source, limits)? {
        entries += 1;
        dropped_xattrs += member.dropped_xattrs;
        extraction.tree.budget.entry(&member.path)?;
        extraction.place(member)?;
    }
    let Extraction { source, tree, bytes, skipped_devices, .. } = extraction;
    let id = source.finish()?;
    dropped_xattrs += tree.finish()?;
    Ok(Extracted { id, bytes, entries, skipped_devices, dropped_xattrs })
}

struct Extraction<'a> {
    source: Source<'a>,
    tree: Tree<'a>,
    /// Paths of devices: hard links to them are left out too.
    left_out: HashSet<Vec<u8>>,
    bytes: u64,
    skipped_devices: u64,
}

impl Extraction<'_> {
    fn place(&mut self, member: Member) -> Result<(), ExtractError> {
        let Member { kind, path, meta, size, .. } = member;
        let path = self.tree.settle(path)?;
        let kind = match kind {
            Kind::HardLink(target) => Kind::HardLink(self.tree.settle_target(&path, target)?),
            other => other,
        };
        self.left_out.remove(&path);
        match kind {
            Kind::Device => self.leave_out(path),
            Kind::HardLink(target) if self.left_out.contains(&target) => self.leave_out(path),
            Kind::HardLink(target) => self.tree.hard_link(&path, &target),
            Kind::File => {
                self.claim(size)?;
                let mut file = self.tree.create_file(&path)?;
                self.copy(&path, &mut file, size)?;
                self.source.skip_padding(size)?;
                self.tree.finish_file(&path, &file, &meta)
            }
            Kind::Sparse { extents, length } => {
                self.claim(length)?;
                let mut file = self.tree.create_file(&path)?;
                let failed = |source| cannot_write(&path, source);
                for Extent { offset, length } in extents {
                    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                    self.copy(&path, &mut file, length)?;
                }
                file.set_len(length).map_err(failed)?;
                self.source.skip_padding(size)?;
                self.tree.finish_file(&path, &file, &meta)
            }
            Kind::Directory => self.tree.directory(&path, meta),
            Kind::Symlink(target) => self.tree.symlink(&path, &target, &meta),
            Kind::Fifo => self.tree.fifo(&path, &meta),
        }
    }

    fn leave_out(&mut self, path: Vec<u8>) -> Result<(), ExtractError> {
        self.tree.discard(&path)?;
        self.left_out.insert(path);
        self.skipped_devices += 1;
        Ok(())
    }

    fn claim(&mut self, length: u64) -> Result<(), ExtractError> {
        self.bytes = self.bytes.saturating_add(length);
        self.tree.budget.bytes(length)
    }

    fn copy(&mut self, path: &[u8], file: &mut impl Write, length: u64) -> Result<(), ExtractError> {
        self.source.copy(length, |bytes| file.write_all(bytes).map_err(|source| cannot_write(path, source)))
    }
}

fn cannot_write(path: &[u8], source: io::Error) -> ExtractError {
    ExtractError::Write { operation: "write", entry: ExtractError::show(path), source }
}
