//! The uncompressed bytes of an archive: counted, hashed and bounded before anything looks at them.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::block::BLOCK;
use super::decompress::{self, DecompressError};
use super::error::ExtractError;
use super::foreign;
use super::limits::Limits;
use crate::model::template::TemplateId;

const BUFFER: usize = 256 << 10;
/// Below this much output no ratio is suspicious: a short run of zeros compresses without end.
const RATIO_FREE: u64 = 64 << 20;

pub(super) struct Source<'a> {
    decoder: Box<dyn Read + 'a>,
    input_bytes: Rc<Cell<u64>>,
    progress: &'a mut dyn FnMut(u64),
    hasher: Sha256,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    output_bytes: u64,
    /// Of headers that are no entries.
    header_bytes: u64,
    max_bytes: u64,
    max_ratio: u64,
    max_headers: u64,
}

impl<'a> Source<'a> {
    pub(super) fn open(
        archive: impl Read + 'a,
        limits: &Limits,
        progress: &'a mut dyn FnMut(u64),
    ) -> Result<Self, ExtractError> {
        let input_bytes = Rc::new(Cell::new(0));
        let (_, decoder) = decompress::open(Counted { inner: archive, bytes: Rc::clone(&input_bytes) })?;
        let mut source = Self {
            decoder,
            input_bytes,
            progress,
            hasher: Sha256::new(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            output_bytes: 0,
            header_bytes: 0,
            max_bytes: limits.bytes,
            max_ratio: limits.ratio,
            max_headers: limits.headers,
        };
        // What was packed may be no tar archive either.
        if let Some(found) = foreign::recognise(source.fill()?) {
            return Err(DecompressError::Foreign(found).into());
        }
        Ok(source)
    }

    /// Counts a header with `length` bytes of data. Nothing of it comes to the disk, so nothing else
    /// bounds how many there are.
    pub(super) fn count_header(&mut self, length: u64) -> Result<(), ExtractError> {
        self.header_bytes += BLOCK as u64 + length;
        if self.header_bytes > self.max_headers {
            return Err(ExtractError::Limit { what: "bytes in extended headers", limit: self.max_headers });
        }
        Ok(())
    }

    /// The bytes at hand, read anew when there are none; empty at the end of the stream.
    fn fill(&mut self) -> Result<&[u8], ExtractError> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn refill(&mut self) -> Result<(), ExtractError> {
        let read = loop {
            match self.decoder.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(ExtractError::Truncated);
                }
                Err(error) => return Err(ExtractError::Read(error)),
                Ok(read) => break read,
            }
        };
        (self.start, self.end) = (0, read);
        self.hasher.update(&self.buffer[..read]);
        self.output_bytes += read as u64;
        if self.output_bytes > self.max_bytes {
            return Err(ExtractError::Limit { what: "bytes", limit: self.max_bytes });
        }
        let input = self.input_bytes.get();
        if self.output_bytes > RATIO_FREE && self.output_bytes / input.max(1) > self.max_ratio {
            return Err(ExtractError::Ratio { limit: self.max_ratio });
        }
        (self.progress)(input);
        Ok(())
    }

    /// A whole block, or `None` where the stream ends before it.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ExtractError> {
        if self.fill()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut filled = 0;
        self.copy(BLOCK as u64, |bytes| {
            block[filled..filled + bytes.len()].copy_from_slice(bytes);
            filled += bytes.len();
            Ok(())
        })?;
        Ok(Some(block))
    }

    /// The next `len` bytes, passed to `sink` piece by piece.
    pub(super) fn copy(
        &mut self,
        mut len: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), ExtractError>,
    ) -> Result<(), ExtractError> {
        while len > 0 {
            let bytes = self.fill()?;
            if bytes.is_empty() {
                return Err(ExtractError::Truncated);
            }
            let take = bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            sink(&bytes[..take])?;
            self.start += take;
            len -= take as u64;
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, len: u64) -> Result<(), ExtractError> {
        self.copy(len, |_| Ok(()))
    }

    /// Skips what fills up the last block of `len` bytes of data.
    pub(super) fn skip_padding(&mut self, len: u64) -> Result<(), ExtractError> {
        self.skip(padding(len))
    }

    /// The data of a header-like entry with its padding; the caller has bounded `len`.
    pub(super) fn take(&mut self, len: u64) -> Result<Vec<u8>, ExtractError> {
        let mut data = Vec::new();
        self.copy(len, |bytes| {
            data.extend_from_slice(bytes);
            Ok(())
        })?;
        self.skip_padding(len)?;
        Ok(data)
    }

    /// Reads to the very end, so that every byte is in the hash and every checksum of the
    /// compressed stream was compared.
    pub(super) fn finish(mut self) -> Result<TemplateId, ExtractError> {
        loop {
            self.start = self.end;
            if self.fill()?.is_empty() {
                break;
            }
        }
        let digest: String = self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(TemplateId::new(&digest).expect("a SHA-256 digest is 64 hexadecimal digits"))
    }
}

fn padding(len: u64) -> u64 {
    (BLOCK as u64 - len % BLOCK as u64) % BLOCK as u64
}

struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}
