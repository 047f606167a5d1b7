//! The entries of a tar stream, one after another, each with the extension headers before it
//! already applied. The only parser: what is checked is what is used.

use rustix::fs::Timespec;
use tar::{EntryType, Header};

use super::error::ExtractError;
use super::limits::{self, Limits};
use super::pax::{self, Pax};
use super::source::Source;
use super::xattr::Xattr;
use super::{block, header};

/// An id range has 65,536 ids.
const LAST_ID: u64 = 65_535;
/// PATH_MAX of linux/limits.h, less its zero byte.
const LINK_MAX: usize = 4095;
/// 64 MiB in 512-byte pieces: far more than any file of a root filesystem has.
const EXTENTS_MAX: usize = 131_072;
/// Types of GNU's: the archive's label, and a directory with the list of its names (`tar -g`).
const LABEL: u8 = b'V';
const DUMPED_DIRECTORY: u8 = b'D';
const CONTINUED: u8 = b'M';

pub(super) struct Member {
    pub kind: Kind,
    /// Components joined by '/', without leading, doubled or trailing ones; empty for the root.
    pub path: Vec<u8>,
    pub meta: Meta,
    /// Bytes in the archive that follow; zero for all but files.
    pub size: u64,
    pub dropped_xattrs: u64,
}

pub(super) struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// `None` for a directory that the archive has no entry for.
    pub mtime: Option<Timespec>,
    pub xattrs: Vec<Xattr>,
}

pub(super) enum Kind {
    File,
    /// Where each piece of the data goes, and the file's length.
    Sparse {
        extents: Vec<Extent>,
        length: u64,
    },
    Directory,
    Symlink(Vec<u8>),
    /// The target as a path of the same form as `Member::path`.
    HardLink(Vec<u8>),
    Fifo,
    /// Block or character; overlayfs whiteouts (0:0) among them.
    Device,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// Extension headers that await their entry.
#[derive(Default)]
struct Pending {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_path.is_none() && self.long_link.is_none()
    }
}

/// The next entry, or `None` at the end-of-archive marker. A stream that just stops is truncated:
/// it may have lost entries.
pub(super) fn next(source: &mut Source<'_>, limits: &Limits) -> Result<Option<Member>, ExtractError> {
    let mut pending = Pending::default();
    loop {
        let block = source.block()?.ok_or(ExtractError::Truncated)?;
        if block::is_zero(&block) {
            return if pending.is_empty() { Ok(None) } else { Err(ExtractError::Truncated) };
        }
        if !block::checksum_is_good(&block) {
            return Err(ExtractError::Checksum);
        }
        let header = Header::from_byte_slice(&block);
        match header.entry_type() {
            EntryType::XGlobalHeader => pax::check_global(&extension(source, header, limits)?)?,
            EntryType::XHeader => {
                set(&mut pending.pax, pax::parse_local(&extension(source, header, limits)?)?)?;
            }
            EntryType::GNULongName => set(&mut pending.long_path, long_name(source, header, limits)?)?,
            EntryType::GNULongLink => set(&mut pending.long_link, long_name(source, header, limits)?)?,
            // The name of a GNU archive as a whole.
            kind if kind.as_byte() == LABEL && pending.is_empty() => drop(extension(source, header, limits)?),
            _ => return member(source, header, pending, limits).map(Some),
        }
    }
}

fn extension(source: &mut Source<'_>, header: &Header, limits: &Limits) -> Result<Vec<u8>, ExtractError> {
    let name = header.path_bytes();
    if header.as_ustar().is_none() && header.as_gnu().is_none() {
        return Err(ExtractError::malformed(&name, "an extension header without tar magic"));
    }
    let size = header::data_size(header, None, &name)?;
    if size > limits.metadata {
        return Err(ExtractError::Limit { what: "bytes in an extended header", limit: limits.metadata });
    }
    source.count_header(size)?;
    source.take(size)
}

fn long_name(source: &mut Source<'_>, header: &Header, limits: &Limits) -> Result<Vec<u8>, ExtractError> {
    let mut name = extension(source, header, limits)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), ExtractError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ExtractError::malformed(b"(extended header)", "two headers for one entry")),
    }
}

/// One of the two ways to state a long name; both at once is a way to show two readers two archives.
fn either(
    gnu: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    short: impl FnOnce() -> Vec<u8>,
) -> Result<Vec<u8>, ExtractError> {
    match (gnu, pax) {
        (Some(name), Some(_)) => Err(ExtractError::malformed(&name, "both a GNU and a PAX name")),
        (Some(name), None) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(short()),
    }
}

fn member(
    source: &mut Source<'_>,
    header: &Header,
    pending: Pending,
    limits: &Limits,
) -> Result<Member, ExtractError> {
    let pax = pending.pax.unwrap_or_default();
    let name = either(pending.long_path, pax.path, || header.path_bytes().into_owned())?;
    let link = either(pending.long_link, pax.link, || {
        header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default()
    })?;
    let path = normalise(&name, &name, limits)?;
    let mut size = header::data_size(header, pax.size, &name)?;
    let kind = match header.entry_type() {
        // Before POSIX there was no type for directories: the slash said it.
        EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::GNUSparse => sparse(source, header, size, &name)?,
        EntryType::Directory => Kind::Directory,
        kind if kind.as_byte() == DUMPED_DIRECTORY => {
            if size > limits.metadata {
                let what = "bytes in the list of a directory";
                return Err(ExtractError::Limit { what, limit: limits.metadata });
            }
            source.count_header(size)?;
            source.take(size)?;
            size = 0;
            Kind::Directory
        }
        kind if kind.as_byte() == CONTINUED => {
            return Err(ExtractError::Unsupported { what: "a file that began in another volume" });
        }
        EntryType::Symlink => Kind::Symlink(symlink_target(link, &name)?),
        EntryType::Link => Kind::HardLink(normalise(&link, &name, limits)?),
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char | EntryType::Block => Kind::Device,
        _ => return Err(ExtractError::Unsupported { what: "an entry of an unknown type" }),
    };
    let is_file = matches!(kind, Kind::File | Kind::Sparse { .. });
    if size > 0 && !is_file {
        // GNU tar reads no data here, others do.
        return Err(ExtractError::malformed(&name, "data after an entry that is not a file"));
    }
    if path.is_empty() && !matches!(kind, Kind::Directory) {
        return Err(ExtractError::malformed(&name, "the root is not a directory"));
    }
    let mtime = match pax.mtime {
        Some(time) => time,
        None => Timespec { tv_sec: header::mtime(header, &name)?, tv_nsec: 0 },
    };
    let meta = Meta {
        mode: header::mode(header, &name)?,
        uid: id(pax.uid.map_or_else(|| header::uid(header, &name), Ok)?, &name)?,
        gid: id(pax.gid.map_or_else(|| header::gid(header, &name), Ok)?, &name)?,
        mtime: Some(mtime),
        xattrs: pax.xattrs,
    };
    Ok(Member { kind, path, meta, size, dropped_xattrs: pax.dropped_xattrs })
}

fn id(id: u64, name: &[u8]) -> Result<u32, ExtractError> {
    match u32::try_from(id) {
        Ok(small) if id <= LAST_ID => Ok(small),
        _ => Err(ExtractError::Owner { entry: ExtractError::show(name), id }),
    }
}

/// Brings `name` into the form of `Member::path`; `entry` is the name to put into errors.
fn normalise(name: &[u8], entry: &[u8], limits: &Limits) -> Result<Vec<u8>, ExtractError> {
    let climbs = |how| ExtractError::Climbs { entry: ExtractError::show(entry), how };
    if name.is_empty() {
        return Err(ExtractError::malformed(entry, "an empty name"));
    }
    if name.contains(&0) {
        return Err(ExtractError::malformed(entry, "a zero byte in a name"));
    }
    if name.starts_with(b"/") {
        return Err(climbs("the name is absolute"));
    }
    if name.len() > limits.path {
        return Err(ExtractError::Limit { what: "bytes in a path", limit: limits.path as u64 });
    }
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(climbs("the name has a component '..'")),
            _ => {}
        }
        if component.len() > limits.name {
            return Err(ExtractError::Limit { what: "bytes in a file name", limit: limits.name as u64 });
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    limits::check_depth(&path, limits)?;
    Ok(path)
}

/// Where a symbolic link leads is the guest's affair; nothing here follows one.
fn symlink_target(target: Vec<u8>, name: &[u8]) -> Result<Vec<u8>, ExtractError> {
    if target.is_empty() || target.contains(&0) || target.len() > LINK_MAX {
        return Err(ExtractError::malformed(name, "the target of a symbolic link"));
    }
    Ok(target)
}

/// GNU's own sparse format: four extents in the header, more in blocks after it.
fn sparse(source: &mut Source<'_>, header: &Header, size: u64, name: &[u8]) -> Result<Kind, ExtractError> {
    let bad = || ExtractError::malformed(name, "the map of a sparse file");
    let gnu = header.as_gnu().ok_or_else(bad)?;
    let length = gnu.real_size().map_err(|_| bad())?;
    let mut extents = Vec::new();
    let mut add = |slots: &[tar::GnuSparseHeader]| -> Result<(), ExtractError> {
        for slot in slots.iter().filter(|slot| !slot.is_empty()) {
            let offset = slot.offset().map_err(|_| bad())?;
            extents.push(Extent { offset, length: slot.length().map_err(|_| bad())? });
        }
        if extents.len() > EXTENTS_MAX {
            return Err(ExtractError::Limit { what: "pieces of a sparse file", limit: EXTENTS_MAX as u64 });
        }
        Ok(())
    };
    add(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let block = source.block()?.ok_or(ExtractError::Truncated)?;
        let mut extension = tar::GnuExtSparseHeader::new();
        extension.as_mut_bytes().copy_from_slice(&block);
        add(extension.sparse())?;
        more = extension.is_extended();
    }
    check_extents(&extents, size, length).ok_or_else(bad)?;
    Ok(Kind::Sparse { extents, length })
}

/// In order, apart from each other, inside the file, and together just the data there is.
fn check_extents(extents: &[Extent], size: u64, length: u64) -> Option<()> {
    let mut reached = 0;
    let mut data = 0u64;
    for extent in extents {
        if extent.offset < reached {
            return None;
        }
        reached = extent.offset.checked_add(extent.length)?;
        data = data.checked_add(extent.length)?;
    }
    (reached <= length && data == size).then_some(())
}
