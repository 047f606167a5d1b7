//! Archives and images of other kinds, told from their first bytes: what they are, and what makes a tar
//! archive of them.

use std::fmt;

use super::block::{BLOCK, is_tar_block};

/// What something is, and the command that writes it to standard output as a tar archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Foreign {
    start: &'static [u8],
    name: &'static str,
    to_tar: &'static str,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is {}", self.name)
    }
}

impl Foreign {
    pub fn hint(&self) -> String {
        format!("convert it: {} | nagaya template import - --name NAME", self.to_tar)
    }
}

const fn foreign(start: &'static [u8], name: &'static str, to_tar: &'static str) -> Foreign {
    Foreign { start, name, to_tar }
}

/// bsdtar (libarchive) reads all of these.
const BSDTAR: &str = "bsdtar -cf - @FILE";
/// Of a disk's image the tree must be mounted first.
const MOUNTED: &str = "mount its root file system, then tar -C MOUNTED --numeric-owner --xattrs -c .";

const FORMATS: [Foreign; 19] = [
    foreign(b"BZh", "compressed with bzip2", "bzip2 -dc FILE"),
    foreign(&[0x04, 0x22, 0x4d, 0x18], "compressed with lz4", "lz4 -dc FILE"),
    foreign(&[0x02, 0x21, 0x4c, 0x18], "compressed with lz4", "lz4 -dc FILE"),
    foreign(b"LZIP", "compressed with lzip", "lzip -dc FILE"),
    foreign(&[0x5d, 0, 0], "compressed with lzma", "xz --format=lzma -dc FILE"),
    foreign(&[0x89, b'L', b'Z', b'O'], "compressed with lzop", "lzop -dc FILE"),
    foreign(&[0x1f, 0x9d], "compressed with compress", "gzip -dc FILE"),
    foreign(b"070701", "a cpio archive", BSDTAR),
    foreign(b"070702", "a cpio archive", BSDTAR),
    foreign(b"070707", "a cpio archive", BSDTAR),
    foreign(&[0xc7, 0x71], "a cpio archive", BSDTAR),
    foreign(b"PK\x03\x04", "a zip archive", BSDTAR),
    foreign(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", BSDTAR),
    foreign(b"hsqs", "a squashfs image", "sqfs2tar FILE"),
    foreign(b"sqsh", "a squashfs image", "sqfs2tar FILE"),
    foreign(b"QFI\xfb", "a disk image of a virtual machine (qcow2)", MOUNTED),
    foreign(b"KDMV", "a disk image of a virtual machine (vmdk)", MOUNTED),
    foreign(b"!<arch>\ndebian-binary", "a Debian package", "dpkg-deb --fsys-tarfile FILE"),
    foreign(&[0xed, 0xab, 0xee, 0xdb], "an RPM package", BSDTAR),
];

/// What begins with `start`, if that is none of ours. A tar archive begins with a name, so it may begin
/// with anything.
pub(super) fn recognise(start: &[u8]) -> Option<&'static Foreign> {
    let is_tar = start.get(..BLOCK).is_some_and(is_tar_block);
    FORMATS.iter().find(|format| !is_tar && start.starts_with(format.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_and_a_way() {
        for format in &FORMATS {
            let data = [format.start, b"and so on"].concat();
            let found = recognise(&data).unwrap();
            assert_eq!(found.name, format.name);
            assert!(found.hint().ends_with("| nagaya template import - --name NAME"));
        }
        assert_eq!(recognise(b"#!/bin/sh"), None);
        assert_eq!(recognise(b""), None);
    }

    #[test]
    fn a_tar_archive_may_begin_with_any_name() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        tar.append_data(&mut header, "070701", &b""[..]).unwrap();
        assert_eq!(recognise(&tar.into_inner().unwrap()), None);
    }
}
