//! The stream: frames of a kind (one byte), a length (four bytes, the lowest first) and so many bytes.
//!
//! A directory is followed by what is in it and an end, a file by bytes and holes and an end. `Done` comes last: a
//! stream without it was cut off.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::sys::process::interrupt;

/// Bytes of a file that are sent at once.
pub const CHUNK: usize = 128 << 10;
/// Kind and length.
const HEADER: usize = 5;
/// Longest content of a frame: a chunk, and more than a link with its name takes.
const MOST: usize = CHUNK;
/// Longest name (NAME_MAX) and target of a link (PATH_MAX).
const LONGEST_NAME: usize = 255;
const LONGEST_TARGET: usize = 4096;

const DIRECTORY: u8 = b'd';
const FILE: u8 = b'f';
const LINK: u8 = b'l';
const BYTES: u8 = b'b';
const HOLE: u8 = b'h';
const END: u8 = b'e';
const DONE: u8 = b'.';
const FAILED: u8 = b'!';

/// Mode and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Meta {
    const SIZE: usize = 12;

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (place, number) in bytes.chunks_exact_mut(4).zip([self.mode, self.uid, self.gid]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self { mode: number(0)? & 0o7777, uid: number(4)?, gid: number(8)? })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Directory {
        meta: Meta,
        name: &'a [u8],
    },
    File {
        meta: Meta,
        name: &'a [u8],
    },
    Link {
        meta: Meta,
        name: &'a [u8],
        target: &'a [u8],
    },
    Bytes(&'a [u8]),
    Hole(u64),
    /// Of the file or directory that was begun last.
    End,
    Done,
    /// The sender cannot go on.
    Failed,
}

/// Writes a stream.
pub struct Writer {
    output: OwnedFd,
    /// A header and a chunk, so that one call writes both.
    buffer: Box<[u8]>,
}

impl Writer {
    pub fn new(output: OwnedFd) -> Self {
        Self { output, buffer: vec![0; HEADER + CHUNK].into_boxed_slice() }
    }

    pub fn send(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        match frame {
            Frame::Directory { meta, name } => self.parts(DIRECTORY, &[&meta.to_bytes(), name]),
            Frame::File { meta, name } => self.parts(FILE, &[&meta.to_bytes(), name]),
            Frame::Link { meta, name, target } => {
                let length = (name.len() as u16).to_le_bytes();
                self.parts(LINK, &[&meta.to_bytes(), &length, name, target])
            }
            Frame::Bytes(bytes) => self.parts(BYTES, &[bytes]),
            Frame::Hole(length) => self.parts(HOLE, &[&length.to_le_bytes()]),
            Frame::End => self.parts(END, &[]),
            Frame::Done => self.parts(DONE, &[]),
            Frame::Failed => self.parts(FAILED, &[]),
        }
    }

    /// Sends what `fill` puts into a chunk; nothing where it puts nothing there. Returns how much.
    pub fn send_filled(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let most = most.min(CHUNK);
        let count = fill(&mut self.buffer[HEADER..HEADER + most])?.min(most);
        if count > 0 {
            self.flush(BYTES, count)?;
        }
        Ok(count)
    }

    fn parts(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
        let mut at = HEADER;
        for part in parts {
            let place = self.buffer.get_mut(at..at + part.len()).ok_or(io::ErrorKind::InvalidInput)?;
            place.copy_from_slice(part);
            at += part.len();
        }
        self.flush(kind, at - HEADER)
    }

    fn flush(&mut self, kind: u8, length: usize) -> io::Result<()> {
        self.buffer[0] = kind;
        self.buffer[1..HEADER].copy_from_slice(&(length as u32).to_le_bytes());
        write_all(&self.output, &self.buffer[..HEADER + length])
    }
}

/// Reads a stream.
pub struct Reader {
    input: OwnedFd,
    buffer: Box<[u8]>,
}

impl Reader {
    pub fn new(input: OwnedFd) -> Self {
        Self { input, buffer: vec![0; MOST].into_boxed_slice() }
    }

    /// The next frame.
    ///
    /// # Errors
    /// `UnexpectedEof` where the stream was cut off, `InvalidData` where it is none.
    pub fn next(&mut self) -> io::Result<Frame<'_>> {
        let mut header = [0; HEADER];
        read_all(&self.input, &mut header)?;
        let [kind, length @ ..] = header;
        let length = u32::from_le_bytes(length) as usize;
        let content = self.buffer.get_mut(..length).ok_or_else(nonsense)?;
        read_all(&self.input, content)?;
        parse(kind, content).ok_or_else(nonsense)
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other side speaks in riddles")
}

fn parse(kind: u8, content: &[u8]) -> Option<Frame<'_>> {
    let named = || -> Option<(Meta, &[u8])> {
        let (meta, name) = content.split_at_checked(Meta::SIZE)?;
        Some((Meta::of(meta)?, Some(name).filter(|name| is_name(name))?))
    };
    Some(match kind {
        DIRECTORY => named().map(|(meta, name)| Frame::Directory { meta, name })?,
        FILE => named().map(|(meta, name)| Frame::File { meta, name })?,
        LINK => {
            let (meta, rest) = content.split_at_checked(Meta::SIZE)?;
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (name, target) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
            let is_target = !target.is_empty() && target.len() < LONGEST_TARGET && !target.contains(&0);
            let frame = Frame::Link { meta: Meta::of(meta)?, name, target };
            Some(frame).filter(|_| is_name(name) && is_target)?
        }
        BYTES => Frame::Bytes(content),
        HOLE => Frame::Hole(u64::from_le_bytes(content.try_into().ok()?)),
        END if content.is_empty() => Frame::End,
        DONE if content.is_empty() => Frame::Done,
        FAILED if content.is_empty() => Frame::Failed,
        _ => return None,
    })
}

/// One name in a directory, and no way to another.
fn is_name(name: &[u8]) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
        && !matches!(name, b"." | b"..")
}

/// Once more, unless this process is to end: what is half done is taken back then.
pub fn again<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        if interrupt::pending() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match call() {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

pub fn write_all(output: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = again(|| rustix::io::write(output, bytes))?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

fn read_all(input: &OwnedFd, mut place: &mut [u8]) -> io::Result<()> {
    while !place.is_empty() {
        match again(|| rustix::io::read(input, &mut *place))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => place = place.get_mut(count..).unwrap_or_default(),
        }
    }
    Ok(())
}
