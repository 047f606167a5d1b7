//! Resolves the path of an entry below symbolic links of its own archive to the place where a guest would
//! end that follows them. It reads the links; what is written is then opened without following any.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use super::error::ExtractError;
use super::limits::Budget;

/// MAXSYMLINKS of linux/namei.h
const LINKS: usize = 40;

/// The directories of a path that is resolved so far, from the root's child on: name and descriptor.
type Way = Vec<(Vec<u8>, OwnedFd)>;

/// The path without links of the directory that `path` leads to below `root`; `entry` is for errors. Its
/// last components need not be there yet, as long as no link has named them.
pub(super) fn resolve(
    root: BorrowedFd<'_>,
    path: &[u8],
    budget: &mut Budget,
    entry: &[u8],
) -> Result<Vec<u8>, ExtractError> {
    let refused = || ExtractError::BelowLink { entry: ExtractError::show(entry) };
    let mut way: Way = Vec::new();
    let mut links = 0;
    // Components that are still to go, the next one last.
    let mut ahead = components(path);
    let mut own = ahead.len();
    while let Some(name) = ahead.pop() {
        budget.step()?;
        let is_own = ahead.len() < own;
        own = own.min(ahead.len());
        if name == b".." {
            // Above the root is the root.
            way.pop();
            continue;
        }
        let at = way.last().map_or(root, |(_, fd)| fd.as_fd());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(at, &name[..], flags, Mode::empty()) {
            Ok(fd) => way.push((name, fd)),
            // What open(2) says of a link where only a directory will do.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let target = readlinkat(at, &name[..], Vec::new()).map_err(|_| refused())?;
                links += 1;
                if links > LINKS {
                    return Err(refused());
                }
                let target = target.as_bytes();
                if target.starts_with(b"/") {
                    way.clear();
                }
                ahead.extend(components(target));
            }
            Err(Errno::NOENT) if is_own => {
                ahead.push(name);
                break;
            }
            Err(_) => return Err(refused()),
        }
    }
    let there = way.iter().map(|(name, _)| &name[..]);
    let names: Vec<&[u8]> = there.chain(ahead.iter().rev().map(|name| &name[..])).collect();
    Ok(names.join(&b'/'))
}

/// In reverse order, without empty ones and those that stand still.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.rev().map(<[u8]>::to_vec).collect()
}
