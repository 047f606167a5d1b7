//! The system call filter of a guest.

use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpArch, ScmpFilterContext, ScmpSyscall};

use super::{SysError, SysResult};

/// Refused with ENOSYS, as a kernel built without them would: software probes these and goes on.
const ABSENT: &[&str] = &[
    "bpf",
    "lookup_dcookie",
    "nfsservctl",
    "perf_event_open",
    "quotactl",
    "quotactl_fd",
    "sysfs",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
];

/// Refused with EPERM. Most need the host's capabilities anyway: less of the kernel is in reach.
const FORBIDDEN: &[&str] = &[
    "acct",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "open_by_handle_at",
    "pciconfig_iobase",
    "pciconfig_read",
    "pciconfig_write",
    "swapoff",
    "swapon",
];

/// Compiles the default filter to classic BPF: instructions of 8 bytes each, in host byte order.
/// It covers every architecture whose programs this kernel runs; others are refused.
pub fn default_filter() -> SysResult<Vec<u8>> {
    let failed = |e: libseccomp::error::SeccompError| {
        SysError::new("compile the system call filter", std::io::Error::other(e))
    };
    let build = || -> Result<ScmpFilterContext, libseccomp::error::SeccompError> {
        let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
        match ScmpArch::native() {
            ScmpArch::X8664 => drop(filter.add_arch(ScmpArch::X86)?),
            ScmpArch::Aarch64 => drop(filter.add_arch(ScmpArch::Arm)?),
            _ => {}
        }
        filter.set_act_badarch(ScmpAction::Errno(libc::ENOSYS))?;
        for (names, errno) in [(ABSENT, libc::ENOSYS), (FORBIDDEN, libc::EPERM)] {
            for name in names {
                // A call that the library has no number for is one that this machine lacks.
                if let Ok(call) = ScmpSyscall::from_name(name) {
                    filter.add_rule(ScmpAction::Errno(errno), call)?;
                }
            }
        }
        // Sockets of these families load protocol modules that no guest needs.
        for family in [libc::AF_ALG, libc::AF_RDS, libc::AF_TIPC, libc::AF_CAN, libc::AF_VSOCK] {
            let is_family = libseccomp::scmp_cmp!($arg0 == family as u64);
            filter.add_rule_conditional(
                ScmpAction::Errno(libc::EAFNOSUPPORT),
                ScmpSyscall::from_name("socket")?,
                &[is_family],
            )?;
        }
        Ok(filter)
    };
    let filter = build().map_err(failed)?;
    let file = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| SysError::new("make a memory file", e))?;
    let mut file = std::fs::File::from(file);
    filter.export_bpf(&file).map_err(failed)?;
    let mut program = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut program))
        .map_err(|e| SysError::new("read the system call filter", e))?;
    Ok(program)
}

/// Loads a filter that `default_filter` compiled, for this process and all it will start. Needs
/// CAP_SYS_ADMIN in the process's user namespace, for no_new_privs stays off: guests use sudo.
pub fn install(program: &[u8]) -> SysResult<()> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u8,
    }
    let length = u16::try_from(program.len() / 8)
        .map_err(|_| SysError::new("load the system call filter", std::io::ErrorKind::InvalidInput))?;
    // The kernel copies the instructions from wherever they are; alignment does not matter to it.
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: the struct describes memory that lives through the call.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if done == 0 { Ok(()) } else { Err(SysError::last("load the system call filter")) }
}
