//! What a forked worker is shut into before it looks at anything that strangers have written. Nothing
//! here asks for memory: the parent may have had other threads.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::forked::{Doing, Failed};
use super::{clone, seccomp};

/// What it takes to write a tree of all owners and modes.
const FOR_FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);

/// Leaves the command's session, and with it its terminal, and closes all descriptors but `kept`;
/// standard input, output and error become /dev/null. For a forked child.
pub fn leave_behind<F: AsFd>(kept: &[F]) -> Result<(), Failed> {
    rustix::process::setsid().doing("start a session")?;
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let null = rustix::fs::open(c"/dev/null", flags, Mode::empty()).doing("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .doing("give up the command's input and output")?;
    // Its number is above those of the three, so it goes too.
    std::mem::forget(null);
    clone::keep_only(kept);
    Ok(())
}

/// Has the kernel end this process with `parent`, the one that forked it. To be called after the last
/// change of ids, which undoes it.
pub fn die_with(parent: rustix::process::Pid) -> Result<(), Failed> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing("tie the worker to its command")?;
    // It may have ended before.
    match rustix::process::getppid() {
        Some(now) if now == parent => Ok(()),
        _ => clone::exit_now(1),
    }
}

/// Keeps the capabilities that writing files takes, and closes this process to others of its ids.
pub fn keep_to_files() -> Result<(), Failed> {
    let sets =
        CapabilitySets { effective: FOR_FILES, permitted: FOR_FILES, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).doing("give up capabilities")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("close its memory to others")
}

/// Takes an empty session keyring in place of the operator's, whose keys whoever possesses it may read.
pub fn leave_keyring() -> Result<(), Failed> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: keyctl(2) with a null name.
    if unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) } >= 0 {
        return Ok(());
    }
    match std::io::Error::last_os_error().raw_os_error() {
        // A kernel without keyrings, or one whose keyrings are out of reach for all of this.
        Some(libc::ENOSYS | libc::EPERM) => Ok(()),
        other => Err(Errno::from_raw_os_error(other.unwrap_or(libc::EIO))).doing("leave the keyring"),
    }
}

/// Gives up for good what set-id programs would give, and loads a filter of [`seccomp`].
pub fn shut_in(filter: &[u8]) -> Result<(), Failed> {
    rustix::thread::set_no_new_privs(true).doing("set no_new_privs")?;
    seccomp::load(filter).doing("load the system call filter")
}
