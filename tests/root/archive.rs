//! Tar archives as no honest tool writes them: every entry as it is told, checked by nobody.

use std::fs;

use tar::{EntryType, Header};

use super::templates;

const BLOCK: usize = 512;

/// An archive under way.
#[derive(Clone, Default)]
pub struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    /// The template `tiny`, to be spoilt.
    pub fn tiny() -> Self {
        Self::tiny_without(&[])
    }

    /// The same without these paths and what lies below them.
    pub fn tiny_without(paths: &[&str]) -> Self {
        let tiny = fs::read(templates::tiny()).expect("read the tiny template");
        let mut archive = Self::default();
        let mut at = 0;
        while tiny[at..at + BLOCK].iter().any(|byte| *byte != 0) {
            let header = Header::from_byte_slice(&tiny[at..at + BLOCK]);
            let data = header.entry_size().expect("a size") as usize;
            let end = at + BLOCK + data.next_multiple_of(BLOCK);
            let name = header.path_bytes();
            let name = String::from_utf8_lossy(&name);
            let name = name.trim_start_matches("./").trim_end_matches('/');
            if !paths.iter().any(|path| name == *path || name.starts_with(&format!("{path}/"))) {
                archive.bytes.extend(&tiny[at..end]);
            }
            at = end;
        }
        archive
    }

    /// An entry of any type. `name` goes into the header as it is, at most 100 bytes of it.
    pub fn entry(mut self, name: &str, kind: EntryType, mode: u32, link: &str, data: &[u8]) -> Self {
        let mut header = plain_header(name, kind, mode, link);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.data(data)
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, 0o644, "", content)
    }

    pub fn program(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, 0o755, "", content)
    }

    pub fn dir(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, 0o755, "", b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, 0o777, target, b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Link, 0o644, target, b"")
    }

    pub fn fifo(self, name: &str) -> Self {
        self.entry(name, EntryType::Fifo, 0o666, "", b"")
    }

    /// A file of `length` bytes, all of them a hole (GNU's old format).
    pub fn hole(mut self, name: &str, length: u64) -> Self {
        let mut header = plain_header(name, EntryType::GNUSparse, 0o644, "");
        header.set_size(0);
        let gnu = header.as_gnu_mut().expect("a GNU header");
        put_number(&mut gnu.sparse[0].offset, length);
        put_number(&mut gnu.sparse[0].numbytes, 0);
        put_number(&mut gnu.realsize, length);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self
    }

    /// An empty file of these ids, in the form that fits them.
    pub fn owned(mut self, name: &str, uid: u64, gid: u64) -> Self {
        let mut header = plain_header(name, EntryType::Regular, 0o644, "");
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self
    }

    /// The name of the entry that follows, in GNU's form.
    pub fn long_name(self, name: &[u8]) -> Self {
        self.entry("././@LongLink", EntryType::GNULongName, 0o644, "", &[name, b"\0"].concat())
    }

    /// A device node.
    pub fn device(mut self, name: &str, kind: EntryType, major: u32, minor: u32) -> Self {
        let mut header = plain_header(name, kind, 0o666, "");
        header.set_device_major(major).expect("room for a number");
        header.set_device_minor(minor).expect("room for a number");
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self
    }

    /// Extended attributes of the entry that follows.
    pub fn xattrs(self, attributes: &[(&str, &[u8])]) -> Self {
        let records = attributes.iter().flat_map(|(name, value)| {
            let rest = " SCHILY.xattr.=\n".len() + name.len() + value.len();
            let length = (rest + 1..).find(|n| n.to_string().len() + rest == *n).expect("a length");
            [format!("{length} SCHILY.xattr.{name}=").as_bytes(), value, b"\n"].concat()
        });
        let records: Vec<u8> = records.collect();
        self.entry("pax", EntryType::XHeader, 0o644, "", &records)
    }

    /// The header of a file of that length, without the file.
    pub fn header_of(mut self, name: &str, length: u64) -> Self {
        let mut header = plain_header(name, EntryType::Regular, 0o644, "");
        header.set_size(length);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self
    }

    /// Without the end marker.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// With the end marker.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

fn plain_header(name: &str, kind: EntryType, mode: u32, link: &str) -> Header {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    let put = |field: &mut [u8], text: &str| {
        assert!(text.len() <= field.len(), "{text} is too long for this archive");
        field[..text.len()].copy_from_slice(text.as_bytes());
    };
    put(&mut old.name, name);
    put(&mut old.linkname, link);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(0);
    header.set_cksum();
    header
}

/// In octal digits, or as GNU writes what is too long for that.
fn put_number(field: &mut [u8; 12], number: u64) {
    if number < 1 << 33 {
        field.copy_from_slice(format!("{number:011o}\0").as_bytes());
    } else {
        *field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    }
}

/// Bytes that no compressor and no hole makes smaller.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}
