//! Capabilities of a guest, and of a service that needs few.

use super::{SysError, SysResult};

/// Capabilities that a guest's processes can never have: all are checked against the host's user
/// namespace, so nothing usable is lost, and systemd skips the units that would fail for want of
/// them (debugfs and tracefs mounts, module loading, audit, time synchronisation).
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
    for cap in DROPPED {
        // SAFETY: prctl(2) with integers only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0, 0, 0) };
        if done != 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            return Err(SysError::last(format!("drop capability {cap}")));
        }
    }
    // SAFETY: prctl(2) with integers only.
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0);
    }
    let mut sets = rustix::thread::capabilities(None).map_err(|e| SysError::new("read capabilities", e))?;
    sets.inheritable = rustix::thread::CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets).map_err(|e| SysError::new("empty the inheritable set", e))
}

/// Has what is executed next, by root, be without all capabilities but these, which are bits of
/// capabilities(7), and never gain one.
pub fn confine_service(kept: u64) -> SysResult<()> {
    for cap in (0..64).filter(|cap| kept & 1 << cap == 0) {
        // SAFETY: prctl(2) with integers only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap as libc::c_ulong, 0, 0, 0) };
        if done != 0 {
            let error = SysError::last(format!("drop capability {cap}"));
            // Beyond the last one that this kernel knows.
            return if error.errno() == Some(libc::EINVAL) { no_new_privileges() } else { Err(error) };
        }
    }
    no_new_privileges()
}

fn no_new_privileges() -> SysResult<()> {
    rustix::thread::set_no_new_privs(true).map_err(|e| SysError::new("forbid new privileges", e))
}

/// Gives up all capabilities but one, until the next exec.
pub fn keep_only(capability: u32) -> SysResult<()> {
    let kept = rustix::thread::CapabilitySet::from_bits_retain(1 << capability);
    let empty = rustix::thread::CapabilitySet::empty();
    let sets = rustix::thread::CapabilitySets { effective: kept, permitted: kept, inheritable: empty };
    rustix::thread::set_capabilities(None, sets).map_err(|e| SysError::new("give up capabilities", e))
}

/// Lets other processes of the same uid neither trace this one nor open its /proc files, until
/// the next exec.
pub fn undumpable() {
    // SAFETY: prctl(2) with integers only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}
