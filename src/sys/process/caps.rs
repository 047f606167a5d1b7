//! Capabilities of a guest, and of a service that needs few.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::failed::{Doing, Failed};
use crate::sys::{SysError, SysResult};

/// Capabilities that a guest's processes can never have: all are checked against the host's user namespace,
/// so nothing usable is lost, and systemd skips the units that would fail without them (debugfs and tracefs
/// mounts, module loading, audit, time synchronisation).
const DROPPED: [u32; 13] = [
    16, // SYS_MODULE
    17, // SYS_RAWIO
    25, // SYS_TIME
    29, // AUDIT_WRITE
    30, // AUDIT_CONTROL
    32, // MAC_OVERRIDE
    33, // MAC_ADMIN
    34, // SYSLOG
    35, // WAKE_ALARM
    36, // BLOCK_SUSPEND
    37, // AUDIT_READ
    38, // PERFMON
    39, // BPF
];

/// Takes the dropped capabilities out of the bounding set and empties the inheritable and ambient
/// sets, so that the next exec is without them. The effective set stays until then.
pub fn confine_guest() -> SysResult<()> {
    for number in DROPPED {
        // INVAL is of one that this kernel does not know.
        match remove_from_bounding_set(number) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(e) => return Err(SysError::new(format!("drop capability {number}"), e)),
        }
    }
    let _ = rustix::thread::clear_ambient_capability_set();
    let mut sets = rustix::thread::capabilities(None).map_err(|e| SysError::new("read capabilities", e))?;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets).map_err(|e| SysError::new("empty the inheritable set", e))
}

fn remove_from_bounding_set(number: u32) -> rustix::io::Result<()> {
    rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number))
}

/// Leaves the program that root executes next only these capabilities, bits of capabilities(7), and no way
/// to gain others. Asks for no memory.
pub fn confine_service(kept: u64) -> Result<(), Failed> {
    for number in (0..u64::BITS).filter(|number| kept & 1 << number == 0) {
        match remove_from_bounding_set(number) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).doing("drop capabilities"),
        }
    }
    rustix::thread::set_no_new_privs(true).doing("forbid new privileges")
}

/// Gives up all capabilities but one, until the next exec.
pub fn keep_only(capability: u32) -> SysResult<()> {
    let kept = CapabilitySet::from_bits_retain(1 << capability);
    let empty = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: empty };
    rustix::thread::set_capabilities(None, sets).map_err(|e| SysError::new("give up capabilities", e))
}

/// Lets other processes of the same uid neither trace this one nor open its /proc files, until
/// the next exec.
pub fn undumpable() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
