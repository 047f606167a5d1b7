//! The marks by which a layer of an overlay says what it hides of the layers below it, as the kernel writes them
//! with `userxattr` (Documentation/filesystems/overlayfs.rst).

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, Stat, XattrFlags};
use rustix::io::Errno;

/// On a directory: nothing of the directories below it is seen. A file system that is stacked anew writes `y`.
pub const OPAQUE: &CStr = c"user.overlay.opaque";
/// What overlayfs notes for itself begins so. What a guest has set under such a name has [`ESCAPED`] on disk.
const OWN: &[u8] = b"user.overlay.";
const ESCAPED: &[u8] = b"user.overlay.overlay.";

/// Whether the entry hides what has its name below: a character device 0, 0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes such an entry.
pub fn make_whiteout(dir: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Whether a directory hides all that is below it.
pub fn is_opaque(dir: impl AsFd) -> rustix::io::Result<bool> {
    let mut value = [0u8; 1];
    match rustix::fs::fgetxattr(dir, OPAQUE, &mut value) {
        Ok(length) => Ok(length == 1 && value[0] == b'y'),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        // A longer value is none of those.
        Err(Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Has a directory hide all that is below it.
pub fn make_opaque(dir: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
}

/// Whether an attribute is the file's own, and not overlayfs's note about it.
pub fn is_of_file(name: &[u8]) -> bool {
    !name.starts_with(OWN) || name.starts_with(ESCAPED)
}
