//! Unpacks an untrusted archive below a directory, and names it by its content.
//!
//! It is made to run as uid 0 of a user namespace over the owner's storage ids, in a process of one thread,
//! but it does not depend on that. It refuses the whole archive if an entry would leave the tree. It leaves
//! out and counts what the namespace would forbid (devices, foreign attributes). After an error the target
//! holds a part of the archive; the caller removes it.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

use super::error::ExtractError;
use super::limits::{Budget, Limits};
use super::member::{self, Extent, Kind, Member};
use super::source::Source;
use super::tree::Tree;
use crate::model::template::TemplateId;

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
