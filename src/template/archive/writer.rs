//! Archives that are written: pax (POSIX.1-2001), with GNU tar's form of files with holes and star's of extended
//! attributes, which GNU tar, bsdtar and the tools for OCI images read.

use std::io::{self, Write};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// What a header says in eight digits of eight, and eleven.
const MOST_OF_EIGHT: u64 = 0o7_777_777;
const MOST_OF_TWELVE: u64 = 0o77_777_777_777;

/// A part of a file that is no hole: where it begins, and its length.
pub type Extent = (u64, u64);

/// An entry, but for its content.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// From the root, without a slash in front.
    pub path: &'a [u8],
    pub kind: EntryType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u64),
    /// Of a symbolic link, where it leads; of another name of a file, its first.
    pub link: &'a [u8],
    /// Of a device.
    pub device: (u32, u32),
    /// Each with its value.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Writes entries one after the other.
pub struct Writer<W: Write> {
    to: W,
}

impl<W: Write> Writer<W> {
    pub fn new(to: W) -> Self {
        Self { to }
    }

    /// An entry without content.
    pub fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.head(entry, entry.path, 0, pax_of(entry))
    }

    /// A regular file of `size` bytes, whose content follows by `content`: all of it, where `extents` says nothing, or
    /// just those parts.
    pub fn file(&mut self, entry: &Entry<'_>, size: u64, extents: Option<&[Extent]>) -> io::Result<()> {
        let mut pax = pax_of(entry);
        let Some(extents) = extents else { return self.head(entry, entry.path, size, pax) };
        let map = map(size, extents);
        let stored = map.len() as u64 + extents.iter().map(|(_, length)| length).sum::<u64>();
        record(&mut pax, b"GNU.sparse.major", b"1");
        record(&mut pax, b"GNU.sparse.minor", b"0");
        record(&mut pax, b"GNU.sparse.name", entry.path);
        record(&mut pax, b"GNU.sparse.realsize", size.to_string().as_bytes());
        // Who does not know the form unpacks a file of this name, with the map in front.
        self.head(entry, b"GNUSparseFile.0/file", stored, pax)?;
        self.to.write_all(&map)
    }

    /// A part of the content of the file before.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    /// Fills what is left of the last block of a file's content, which had so many bytes.
    pub fn pad(&mut self, length: u64) -> io::Result<()> {
        let rest = (length % BLOCK as u64) as usize;
        if rest == 0 { Ok(()) } else { self.to.write_all(&[0; BLOCK][rest..]) }
    }

    /// The end of the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()
    }

    fn head(&mut self, entry: &Entry<'_>, path: &[u8], size: u64, mut pax: Vec<u8>) -> io::Result<()> {
        let slash: &[u8] = if entry.kind == EntryType::Directory { b"/" } else { b"" };
        let path = &[path, slash].concat();
        let mut header = Header::new_ustar();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode & 0o7777);
        number(&mut pax, b"uid", u64::from(entry.uid), MOST_OF_EIGHT, |n| header.set_uid(n));
        number(&mut pax, b"gid", u64::from(entry.gid), MOST_OF_EIGHT, |n| header.set_gid(n));
        number(&mut pax, b"size", size, MOST_OF_TWELVE, |n| header.set_size(n));
        let (seconds, nanoseconds) = entry.mtime;
        let plain = u64::try_from(seconds).ok().filter(|seconds| *seconds <= MOST_OF_TWELVE);
        header.set_mtime(plain.unwrap_or_default());
        if plain.is_none() || nanoseconds > 0 {
            record(&mut pax, b"mtime", time(seconds, nanoseconds).as_bytes());
        }
        header.set_device_major(entry.device.0)?;
        header.set_device_minor(entry.device.1)?;
        let fields = header.as_ustar_mut().ok_or_else(|| io::Error::other("the header is no ustar's"))?;
        fits(&mut fields.name, &mut pax, b"path", path);
        fits(&mut fields.linkname, &mut pax, b"linkpath", entry.link);
        header.set_cksum();
        if !pax.is_empty() {
            self.extended(&pax)?;
        }
        self.to.write_all(header.as_bytes())
    }

    fn extended(&mut self, pax: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(pax.len() as u64);
        if let Some(fields) = header.as_ustar_mut() {
            fields.name[..8].copy_from_slice(b"././@Pax");
        }
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(pax)?;
        self.pad(pax.len() as u64)
    }
}

/// The records that every kind of entry may have.
fn pax_of(entry: &Entry<'_>) -> Vec<u8> {
    let mut pax = Vec::new();
    for (name, value) in entry.xattrs {
        record(&mut pax, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    pax
}

/// A record begins with its own length.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |number: usize| number.to_string().len();
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length = rest + digits(length);
    }
    pax.extend_from_slice(length.to_string().as_bytes());
    pax.push(b' ');
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn number(pax: &mut Vec<u8>, key: &[u8], number: u64, most: u64, set: impl FnOnce(u64)) {
    set(if number <= most { number } else { 0 });
    if number > most {
        record(pax, key, number.to_string().as_bytes());
    }
}

/// A text in its field; one that is too long has a record, and its beginning is in the field.
fn fits(field: &mut [u8; 100], pax: &mut Vec<u8>, key: &[u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if text.len() > field.len() || !text.is_ascii() {
        record(pax, key, text);
    }
}

fn time(seconds: i64, nanoseconds: u64) -> String {
    match (seconds < 0 && nanoseconds > 0, nanoseconds) {
        // One second and a half before 1970 is -2 seconds and half a second.
        (true, _) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (false, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// The map of a file with holes, in decimal numbers, up to a block's end. A file that ends with a hole has an empty
/// part there.
fn map(size: u64, extents: &[Extent]) -> Vec<u8> {
    let end = extents.last().map_or(0, |(start, length)| start + length);
    let last = (end < size).then_some((size, 0));
    let parts = extents.iter().copied().chain(last);
    let mut text = format!("{}\n", extents.len() + usize::from(last.is_some()));
    parts.for_each(|(start, length)| text += &format!("{start}\n{length}\n"));
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;

    fn plain<'a>(path: &'a [u8], kind: EntryType) -> Entry<'a> {
        let (mode, uid, gid, mtime) = (0o640, 7, 8, (1_500_000_000, 0));
        Entry { path, kind, mode, uid, gid, mtime, link: b"", device: (0, 0), xattrs: &[] }
    }

    #[test]
    fn gnu_tar_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(90), "n".repeat(90));
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.entry(&Entry { mode: 0o3755, ..plain(b"etc", EntryType::Directory) }).unwrap();
        let note = [(b"user.note".to_vec(), b"a\nb".to_vec())];
        let file = Entry { xattrs: &note, mtime: (-3, 500_000_000), ..plain(b"etc/a", EntryType::Regular) };
        writer.file(&file, 5, None).unwrap();
        writer.content(b"hello").unwrap();
        writer.pad(5).unwrap();
        writer.entry(&Entry { link: b"etc/a", ..plain(b"etc/b", EntryType::Link) }).unwrap();
        writer.entry(&Entry { link: &[b'x'; 300], ..plain(b"etc/link", EntryType::Symlink) }).unwrap();
        let holes = plain(b"etc/holes\xc3\xa9", EntryType::Regular);
        writer.file(&holes, 3 << 20, Some(&[(1 << 20, 4)])).unwrap();
        writer.content(b"data").unwrap();
        writer.pad(4).unwrap();
        writer.file(&plain(long.as_bytes(), EntryType::Regular), 0, None).unwrap();
        writer.finish().unwrap();
        let archive = dir.path().join("a.tar");
        fs::write(&archive, &bytes).unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let xattrs = ["--xattrs", "--xattrs-include=*", "--numeric-owner"];
        let done = Command::new("tar").args(xattrs).arg("-xpf").arg(&archive).arg("-C").arg(&tree).output();
        let done = done.unwrap();
        // It tells that a time before 1970 is old.
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let stat = |name: &str| fs::symlink_metadata(tree.join(name)).unwrap();
        assert_eq!((stat("etc/a").size(), stat("etc/a").uid(), stat("etc/a").gid()), (5, 7, 8));
        assert_eq!((stat("etc/a").mtime(), stat("etc/a").mtime_nsec()), (-3, 500_000_000));
        assert_eq!((stat("etc/a").ino(), stat("etc").mode() & 0o7777), (stat("etc/b").ino(), 0o3755));
        assert_eq!(fs::read_link(tree.join("etc/link")).unwrap().as_os_str().len(), 300);
        let holes = fs::read(tree.join("etc/holesé")).unwrap();
        assert_eq!((holes.len(), &holes[1 << 20..(1 << 20) + 4]), (3 << 20, &b"data"[..]));
        assert!(stat("etc/holesé").blocks() < 100, "{}", stat("etc/holesé").blocks());
        assert_eq!(stat(&long).size(), 0);
        let mut value = [0; 3];
        let got = rustix::fs::getxattr(tree.join("etc/a"), "user.note", &mut value).unwrap();
        assert_eq!((got, &value), (3, b"a\nb"));
    }

    #[test]
    fn a_record_counts_itself() {
        for (value, length) in [(1, 6usize), (3, 8), (5, 11), (90, 96), (95, 102)] {
            let mut pax = Vec::new();
            record(&mut pax, b"k", &vec![b'v'; value]);
            assert_eq!(pax.len(), length, "{value}");
            let told = pax.split(|byte| *byte == b' ').next().unwrap();
            assert_eq!(std::str::from_utf8(told).unwrap().parse(), Ok(length));
        }
        assert_eq!((time(-1, 0), time(-2, 500_000_000)), ("-1".into(), "-1.500000000".into()));
    }
}
