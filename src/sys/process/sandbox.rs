//! What a forked worker is shut into before it looks at anything that strangers have written. Nothing
//! here asks for memory.
#![allow(unsafe_code)]

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::failed::{Doing, Failed};
use super::{descriptors, seccomp};

/// What it takes to write a tree of all owners and modes.
const FOR_FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);

/// Leaves the command's session, and with it its terminal; standard input, output and error become
/// /dev/null.
pub fn leave_terminal() -> Result<(), Failed> {
    rustix::process::setsid().doing("start a session")?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null = rustix::fs::open(c"/dev/null", flags, Mode::empty()).doing("open /dev/null")?;
    let null = std::os::fd::AsFd::as_fd(&null);
    descriptors::place_streams([Some(null); 3])
}

/// Has the kernel send this process `signal` when `parent`, the one that forked it, ends; of a parent
/// outside of its pid namespace it knows no number. To be called after the last change of ids, which undoes
/// it.
pub fn die_with(parent: Option<Pid>, signal: Signal) -> Result<(), Failed> {
    rustix::process::set_parent_process_death_signal(Some(signal)).doing("tie the process to its command")?;
    // It may have ended before.
    match parent.is_none() || rustix::process::getppid() == parent {
        true => Ok(()),
        false => Err(Errno::SRCH).doing("work for a command that has ended"),
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

/// Gives up for good what set-id programs would give; and a program that root executes has no capability more.
pub fn gain_nothing() -> Result<(), Failed> {
    rustix::thread::set_no_new_privs(true).doing("set no_new_privs")
}

/// Gives up for good what set-id programs would give, and loads a filter of [`seccomp`].
pub fn shut_in(filter: &[u8]) -> Result<(), Failed> {
    gain_nothing()?;
    seccomp::load(filter).doing("load the system call filter")
}
