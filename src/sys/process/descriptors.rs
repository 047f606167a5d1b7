//! The descriptors of a child process: which it has, and under which numbers.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::DupFlags;

use super::failed::{Doing, Failed};
use crate::sys::{Context, SysResult};

/// close_range(2). Failing is no matter: without the call, which is in Linux since 5.9, nothing here runs.
fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) {
    // SAFETY: integers only. The callers are children that use none of these descriptors again, by
    // themselves or by dropping their owners.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// Closes every descriptor from number 3 on but those of `kept`, asking for no memory. For a forked child:
/// it must neither hold what is the parent's to hold, locks above all, nor its own end of the connection
/// by whose closing it hears of the parent's end.
pub fn keep_only(kept: impl Iterator<Item = RawFd> + Clone) {
    let mut first = 3;
    while let Some(next) = kept.clone().filter(|number| *number >= first).min() {
        if next > first {
            close_range(first, next - 1, 0);
        }
        first = next + 1;
    }
    close_range(first, RawFd::MAX, 0);
}

/// Closes a descriptor that the forked child has no use for any more, and whose owner never runs there.
pub fn close(fd: BorrowedFd<'_>) {
    close_range(fd.as_raw_fd(), fd.as_raw_fd(), 0);
}

/// Standard input, output and error as descriptors of their own right, for a process that uses its streams in no other
/// way.
pub fn take_streams() -> [OwnedFd; 3] {
    // SAFETY: the process was made with these three open, and nothing else in it owns or uses them.
    [0, 1, 2].map(|number| unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has exec close every descriptor but standard input, output and error.
pub fn close_all_on_exec() {
    close_range(3, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC);
}

/// The descriptors besides standard input, output and error that whoever started this process has passed on, which
/// go to no program from here. To be called once, before the process opens anything.
pub fn passed_on() -> SysResult<Vec<OwnedFd>> {
    let what = || "look at the descriptors that were passed on";
    let mut dir = nix::dir::Dir::open(
        "/proc/self/fd",
        nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .cannot(what)?;
    let own = dir.as_raw_fd();
    let numbers = dir.iter().filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse::<RawFd>().ok());
    let numbers: Vec<RawFd> = numbers.filter(|number| *number > 2 && *number != own).collect();
    close_all_on_exec();
    // SAFETY: they are open, and nothing else here owns them.
    Ok(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}

/// The null device, for a child that has nothing to read or to tell.
pub fn null() -> SysResult<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(c"/dev/null", flags, Mode::empty()).cannot(|| "open /dev/null")
}

/// Puts descriptors at 0, 1 and 2, from other numbers than these. One that is not given stays.
pub fn place_streams(streams: [Option<BorrowedFd<'_>>; 3]) -> Result<(), Failed> {
    let [input, output, errors] = streams;
    let place = || {
        input.map_or(Ok(()), rustix::stdio::dup2_stdin)?;
        output.map_or(Ok(()), rustix::stdio::dup2_stdout)?;
        errors.map_or(Ok(()), rustix::stdio::dup2_stderr)
    };
    place().doing("place standard input and output")
}

/// Puts `fds` at numbers 0, 1, 2, … and `until_exec`, which exec will close, at the numbers that
/// follow; every other descriptor is closed. Those of `until_exec` come back under their new numbers.
pub fn arrange(fds: &[BorrowedFd<'_>], until_exec: &[BorrowedFd<'_>]) -> SysResult<Vec<OwnedFd>> {
    let count = (fds.len() + until_exec.len()) as RawFd;
    // First out of the way of the targets, then down to them.
    let duplicate = |fd: &BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, count);
    let high: Vec<OwnedFd> = fds
        .iter()
        .chain(until_exec)
        .map(duplicate)
        .collect::<Result<_, _>>()
        .cannot(|| "duplicate a descriptor")?;
    let mut placed = Vec::with_capacity(until_exec.len());
    for (target, copy) in (0..).zip(&high) {
        let is_closed_by_exec = target as usize >= fds.len();
        let flags = if is_closed_by_exec { DupFlags::CLOEXEC } else { DupFlags::empty() };
        // SAFETY: whatever was open at `target` is meant to go; its former owner does not run again.
        let mut place = unsafe { OwnedFd::from_raw_fd(target) };
        let done = rustix::io::dup3(copy.as_fd(), &mut place, flags);
        match is_closed_by_exec {
            true => placed.push(place),
            false => std::mem::forget(place),
        }
        done.cannot(|| "place a descriptor")?;
    }
    drop(high);
    close_range(count, RawFd::MAX, 0);
    Ok(placed)
}
